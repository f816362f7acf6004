"""Extract features: encode photos and texts into vectors, through the row cache."""
