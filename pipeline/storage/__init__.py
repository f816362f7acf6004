"""Atomic file writes, digests, and one interface to local folders and remote URLs."""
