"""Feature files: writing and reading vectors and tokens, and importing features computed elsewhere."""
