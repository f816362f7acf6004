"""Parameters of a project: params.yaml, overrides, and their dependencies in DVC."""
