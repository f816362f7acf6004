"""Frozen, pretrained encoders: a photo or a text in, a feature vector out."""
