"""Recommenders: interactions, features and graphs in, ranking scores out."""
