"""Verify artefacts and maintain the row cache."""
