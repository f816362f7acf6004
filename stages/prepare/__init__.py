"""Filter to the k-core, split into train, val and test, and inject noise."""
