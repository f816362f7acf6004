"""Top floor: one module a DVC stage, and the command line."""
