"""Operators and losses that several recommenders share."""
