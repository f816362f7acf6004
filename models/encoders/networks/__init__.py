"""Networks of the encoders, one module per library."""
