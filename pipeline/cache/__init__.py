"""The row cache: encodes each photo or text once, in content-addressed Parquet shards."""
