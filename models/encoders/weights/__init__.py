"""Sources of encoder weights: packages, files, hubs and random seeds."""
