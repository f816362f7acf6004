"""The training loop, the sampler and the ranking evaluation."""
