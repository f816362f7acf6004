"""Feature store: writing and reading vectors, patches and tokens, PCA, and features computed elsewhere."""
