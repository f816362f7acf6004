"""Build item and user graphs."""
