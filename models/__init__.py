"""Middle floor: everything that is a neural network."""
