"""Layers and losses shared by several recommenders, and a folder per recommender with layers of its own."""
