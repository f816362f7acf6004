"""Train and evaluate recommenders."""
