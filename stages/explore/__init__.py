"""Inspect results: neighbours, recommendations, reports and figures."""
