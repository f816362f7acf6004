"""Parameters of a project: params.yaml, overrides and what DVC knows of them."""
