"""Generate the sample dataset."""
