"""Layers of CAmgr."""
