"""Columns by their names; tests/stages/ingest/test_delimited.py has tables with them."""

from mmprep.stages.ingest.columns import ColumnsParams, find_columns


def test_table_of_item_descriptions_is_told_from_reviews() -> None:
    header = ["main_category", "title", "average_rating", "images", "parent_asin"]
    found = find_columns(header, ColumnsParams())
    assert isinstance(found, str)
    assert found.endswith("; item descriptions are read from JSON lines or Parquet: save them so")
    assert str(find_columns(["title", "asin"], ColumnsParams())).endswith("; name them in ingest.columns")
