"""Readers of raw data, one module an edition."""
