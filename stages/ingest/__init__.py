"""Parse raw reviews, metadata and photos into clean tables."""
