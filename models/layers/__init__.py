"""Layers and losses that several recommenders share, and a folder for each system with layers of its own."""
