"""The row cache: each photo or text is encoded once, in content-addressed Parquet shards."""
