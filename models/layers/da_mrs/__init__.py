"""Layers of DA-MRS."""
