"""Frozen, pretrained networks: a photo or a text in, a feature vector out."""
