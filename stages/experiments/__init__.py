"""Run the tables and figures of papers as DVC experiments."""
