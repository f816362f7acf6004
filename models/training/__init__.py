"""Training loop, negative sampling, checkpoints and ranking evaluation."""
