"""Download raw files of Amazon editions, and product photos."""
