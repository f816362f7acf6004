"""Command line: the only code that uses click and rich."""
