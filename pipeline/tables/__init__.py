"""Parquet tables: schemas, provenance, reject tables and interaction matrices."""
