"""Networks trained here: interactions, features and graphs in, scores out."""
