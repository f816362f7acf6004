"""Parquet tables: schemas, provenance, freshness and integrity checks, rejects and interaction matrices."""
