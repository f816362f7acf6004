"""Top floor: pipeline stages, other verbs and the command line."""
