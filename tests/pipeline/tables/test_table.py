"""Every table comes back as it was written, and no other file passes for it."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.tables import schemas
from mmprep.pipeline.tables import table as tables
from mmprep.pipeline.tables.provenance import Provenance, digest_of, read_provenance
from mmprep.pipeline.tables.schemas import (
    EDGES,
    INTERACTIONS,
    ITEMS,
    KCORE,
    RAW_ITEMS,
    RECOMMENDATIONS,
    REJECTS,
    SPLIT_INTERACTIONS,
    USERS,
)
from mmprep.pipeline.tables.table import Table

ALL = [value for value in vars(schemas).values() if isinstance(value, Table)]
PROVENANCE = Provenance("test", {"k": 5}, {"raw/x": "00"}, {"numpy": "2"}, {"note": "a"})
TEXT = ["plain", "", "naïve “café” 日本 \U0001f600", "a\nb\t'\"", "x" * 5000]


def rows_of(table: Table, nulls: bool = True) -> pl.DataFrame:
    """Five rows with the extremes of each column's type, and nulls where they are allowed."""
    values: dict[str, pl.Series] = {}
    for field in table.schema:
        if pa.types.is_int32(field.type):
            column = pl.Series([0, 1, 2, 3, 2**31 - 1], dtype=pl.Int32)
        elif pa.types.is_int16(field.type):
            column = pl.Series([0, 1, 2, 3, 2**15 - 1], dtype=pl.Int16)
        elif pa.types.is_int64(field.type):
            column = pl.Series([0, -1, 1, 2**40, 2**63 - 1], dtype=pl.Int64)
        elif pa.types.is_float32(field.type):
            column = pl.Series([0.0, -1.5, 0.1, 1e-40, 3e38], dtype=pl.Float32)
        else:
            column = pl.Series(TEXT, dtype=pl.String)
        if field.nullable and nulls:
            column = column.scatter(1, None)
        values[field.name] = column
    return pl.DataFrame(values)


def by_name(table: Table) -> str:
    return table.name.replace(" ", "_")


@pytest.mark.parametrize("table", ALL, ids=by_name)
def test_rows_come_back_as_they_were_written(tmp_path: Path, table: Table) -> None:
    frame = rows_of(table)
    table.write(frame.select(reversed(frame.columns)), tmp_path / "new" / "t.parquet", PROVENANCE)
    assert_frame_equal(table.read(tmp_path / "new" / "t.parquet"), frame, check_exact=True)


@pytest.mark.parametrize("table", ALL, ids=by_name)
def test_no_rows_come_back_as_no_rows(tmp_path: Path, table: Table) -> None:
    frame = rows_of(table).clear()
    table.write(frame, tmp_path / "t.parquet", PROVENANCE)
    assert_frame_equal(table.read(tmp_path / "t.parquet"), frame)


@pytest.mark.parametrize("table", ALL, ids=by_name)
def test_the_file_holds_its_provenance(tmp_path: Path, table: Table) -> None:
    table.write(rows_of(table), tmp_path / "t.parquet", PROVENANCE)
    assert read_provenance(tmp_path / "t.parquet") == PROVENANCE.to_dict()


@pytest.mark.parametrize("table", ALL, ids=by_name)
def test_equal_rows_give_equal_bytes(tmp_path: Path, table: Table) -> None:
    for name in ("a", "b"):
        table.write(rows_of(table), tmp_path / name, PROVENANCE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("table", ALL, ids=by_name)
def test_a_null_is_refused_where_every_row_needs_a_value(tmp_path: Path, table: Table) -> None:
    for field in table.schema:
        frame = rows_of(table).with_columns(pl.lit(None, dtype=rows_of(table).schema[field.name]).alias(field.name))
        path = tmp_path / f"{field.name}.parquet"
        if field.nullable:
            table.write(frame, path, PROVENANCE)
        else:
            with pytest.raises(ValueError, match="null"):
                table.write(frame, path, PROVENANCE)
            assert not path.exists()


@pytest.mark.parametrize(
    ("table", "nullable"),
    [
        (INTERACTIONS, {"rating", "timestamp", "split"}),
        (RAW_ITEMS, {"image", "image_url"}),
        (REJECTS, {"line"}),
        (KCORE, {"rating", "timestamp", "split"}),
        (USERS, set()),
        (ITEMS, {"image", "image_url"}),
        (SPLIT_INTERACTIONS, {"rating", "timestamp"}),
        (EDGES, set()),
        (RECOMMENDATIONS, set()),
    ],
    ids=lambda value: by_name(value) if isinstance(value, Table) else "",
)
def test_only_what_a_source_may_lack_may_be_null(table: Table, nullable: set[str]) -> None:
    assert {field.name for field in table.schema if field.nullable} == nullable


def test_only_the_named_columns_are_read(tmp_path: Path) -> None:
    ITEMS.write(rows_of(ITEMS), tmp_path / "t.parquet", PROVENANCE)
    assert ITEMS.read(tmp_path / "t.parquet", columns=["title", "item"]).columns == ["title", "item"]


def test_columns_beyond_the_table_are_not_written(tmp_path: Path) -> None:
    USERS.write(rows_of(USERS).with_columns(more=pl.lit(1)), tmp_path / "t.parquet", PROVENANCE)
    assert pq.read_schema(tmp_path / "t.parquet").names == ["user", "user_id"]


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        KCORE.read(tmp_path / "core.parquet")
    assert str(caught.value) == f"{tmp_path}/core.parquet: not found; run `mmprep filter` first"


def test_another_table_is_refused_with_both_schemas(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    USERS.write(rows_of(USERS), path, PROVENANCE)
    with pytest.raises(DataError) as caught:
        KCORE.read(path)
    assert str(caught.value) == (
        f"{path}: not a table of k-core interactions: found (user int32, user_id large_string), "
        "expected (user int32, item int32, rating float or null, timestamp int64 or null, split large_string or null)"
    )


def test_a_table_that_differs_in_nulls_alone_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows_of(USERS).write_parquet(path)
    with pytest.raises(DataError) as caught:
        USERS.read(path)
    assert str(caught.value) == (
        f"{path}: not a table of users: found (user int32 or null, user_id large_string or null), "
        "expected (user int32, user_id large_string)"
    )


@pytest.mark.parametrize("other", [table for table in ALL if table is not INTERACTIONS], ids=by_name)
def test_no_table_passes_for_interactions(tmp_path: Path, other: Table) -> None:
    other.write(rows_of(other), tmp_path / "t.parquet", PROVENANCE)
    with pytest.raises(DataError, match="not a table of interactions"):
        INTERACTIONS.read(tmp_path / "t.parquet")


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -100])
def test_a_cut_off_file_is_damaged(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.parquet"
    RAW_ITEMS.write(rows_of(RAW_ITEMS), path, PROVENANCE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        RAW_ITEMS.read(path)
    assert str(caught.value).startswith(f"{path}: damaged (")
    assert str(caught.value).endswith("); remove it and run `mmprep ingest`")
    assert "\n" not in str(caught.value)


def test_damaged_rows_under_a_sound_footer_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    SPLIT_INTERACTIONS.write(rows_of(SPLIT_INTERACTIONS), path, PROVENANCE)
    content = bytearray(path.read_bytes())
    content[4:64] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged \(.*\); remove it and run `mmprep split`"):
        SPLIT_INTERACTIONS.read(path)


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    USERS.write(rows_of(USERS), path, PROVENANCE)
    with pytest.raises(ValueError, match="null"):
        USERS.write(pl.DataFrame({"user": [1], "user_id": [None]}), path, PROVENANCE)
    assert_frame_equal(USERS.read(path), rows_of(USERS))
    assert [left.name for left in tmp_path.iterdir()] == ["t.parquet"]


def test_tables_in_the_order_of_the_raw_files_are_known_by_their_rows() -> None:
    assert [table for table in ALL if table.has_content_digest] == [INTERACTIONS, RAW_ITEMS]


@pytest.mark.parametrize("table", [INTERACTIONS, RAW_ITEMS], ids=by_name)
def test_the_digest_tells_the_rows_however_they_were_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    frame = rows_of(table)
    table.write(frame, tmp_path / "whole.parquet", PROVENANCE)
    monkeypatch.setattr(tables, "ROW_GROUP", 2)
    with table.writer(tmp_path / "pieces.parquet", PROVENANCE) as write:
        for piece in (frame[3:], frame[:1], frame[1:3]):
            write(piece)
    assert digest_of(tmp_path / "pieces.parquet") == digest_of(tmp_path / "whole.parquet")
    assert pq.read_metadata(tmp_path / "pieces.parquet").num_row_groups == 3


def test_the_digest_tells_what_was_written_and_not_under_which_type(tmp_path: Path) -> None:
    frame = rows_of(INTERACTIONS)
    INTERACTIONS.write(frame, tmp_path / "plain.parquet", PROVENANCE)
    INTERACTIONS.write(frame.cast({pl.String: pl.Categorical}), tmp_path / "coded.parquet", PROVENANCE)
    assert (tmp_path / "coded.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()


@pytest.mark.parametrize("table", ALL, ids=by_name)
def test_rows_come_back_in_pieces_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    table.write(rows_of(table), tmp_path / "t.parquet", PROVENANCE)
    monkeypatch.setattr(tables, "PIECE", 2)
    pieces = list(table.iter_batches(tmp_path / "t.parquet"))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert_frame_equal(pl.concat(pieces), rows_of(table), check_exact=True)


@pytest.mark.parametrize("statistics", [True, False])
def test_values_that_are_not_null_are_counted_over_row_groups(tmp_path: Path, statistics: bool) -> None:
    frame = pl.concat([rows_of(KCORE)] * 3).with_columns(split=pl.Series(["val", None, None] * 5))
    path = tmp_path / "core.parquet"
    rows = frame.to_arrow().cast(KCORE.schema)
    pq.write_table(rows, path, row_group_size=4, write_statistics=statistics)
    assert KCORE.count_values(path, "split") == 5
    assert KCORE.count_values(path, "user") == 15
    KCORE.write(frame.with_columns(split=pl.lit(None, pl.String)), path, PROVENANCE)
    assert KCORE.count_values(path, "split") == 0
    KCORE.write(frame.clear(), path, PROVENANCE)
    assert KCORE.count_values(path, "split") == 0
