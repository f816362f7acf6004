"""Extract features: photos and texts to vectors, through the row cache."""
