"""Networks behind the encoders, one module a library."""
