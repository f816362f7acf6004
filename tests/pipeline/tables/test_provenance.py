"""What made a file is kept in it, and the same work gives the same bytes."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.tables.provenance import Provenance, RowsDigest, digest_of, read_provenance, record
from mmprep.pipeline.tables.schemas import RAW_ITEMS, TEXT_FIELDS, USERS

Pair = tuple[str | None, float | None]
PAIRS = st.lists(st.tuples(st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, 0.0, 1.0])), max_size=6)


class Settings(Params):
    k: int = 5
    names: tuple[str, ...] = ("a", "b")


def write_users(layout: Layout, path: Path) -> None:
    inputs = [layout.raw / "b.json", layout.raw / "a.json"]
    layout.raw.mkdir(parents=True, exist_ok=True)
    for file in inputs:
        file.write_text(file.name)
    frame = pl.DataFrame({"user": [0], "user_id": ["u"]}, schema_overrides={"user": pl.Int32})
    USERS.write(frame, path, record("filter", layout, Settings(), inputs, ("scipy", "numpy"), note=[1]))


def test_a_file_tells_what_made_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_users(layout, layout.users)
    assert read_provenance(layout.users) == {
        "mmprep": version("mmprep"),
        "stage": "filter",
        "params": {"k": 5, "names": ["a", "b"]},
        "inputs": {
            "raw/toys/a.json": hashlib.sha256(b"a.json").hexdigest(),
            "raw/toys/b.json": hashlib.sha256(b"b.json").hexdigest(),
        },
        "libraries": {"numpy": version("numpy"), "scipy": version("scipy")},
        "note": [1],
    }


def test_equal_work_in_another_folder_gives_equal_bytes(tmp_path: Path) -> None:
    layouts = [Layout(tmp_path / place, "toys") for place in ("here", "there")]
    for layout in layouts:
        write_users(layout, layout.users)
    here, there = (layout.users.read_bytes() for layout in layouts)
    assert here == there


def test_a_parquet_file_of_somebody_else_is_told_from_ours(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(DataError) as caught:
        read_provenance(path)
    assert str(caught.value) == f"{path}: holds no mmprep provenance, so mmprep did not write it"


@pytest.mark.parametrize("content", [b"", b"text\n", b"PAR1" + b"\0" * 20 + b"PAR1"])
def test_what_is_not_parquet_gives_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_provenance(path)
    assert str(caught.value).startswith(f"{path}: not a Parquet file (")
    assert "\n" not in str(caught.value)


def digest(rows: list[Pair]) -> bytes:
    found = RowsDigest()
    found.add(pl.DataFrame(rows, {"text": pl.String, "number": pl.Float32}, orient="row"))
    return next(iter(found.to_metadata().values()))


def described(names: list[str]) -> pl.DataFrame:
    texts = dict.fromkeys(("item_id", *TEXT_FIELDS), names)
    return pl.DataFrame(texts).with_columns(pl.lit(None, pl.String).alias(name) for name in ("image", "image_url"))


@settings(max_examples=300, deadline=None)
@given(rows=PAIRS, others=PAIRS, shuffled=st.data())
def test_the_digest_of_rows_tells_the_rows_and_not_their_order(
    rows: list[Pair], others: list[Pair], shuffled: st.DataObject
) -> None:
    assert digest(shuffled.draw(st.permutations(rows))) == digest(rows)
    assert (digest(others) == digest(rows)) == (sorted(map(repr, others)) == sorted(map(repr, rows)))


def test_the_digest_of_rows_does_not_tell_how_many_came_at_a_time() -> None:
    frame = pl.DataFrame({"text": ["a", None, "a", ""], "number": [1, 2, 3, None]})
    at_once, one_by_one = RowsDigest(), RowsDigest()
    at_once.add(frame)
    for row in range(len(frame)):
        one_by_one.add(frame[row : row + 1])
    assert one_by_one.to_metadata() == at_once.to_metadata()


def test_a_table_in_the_order_of_the_raw_files_is_named_by_its_rows(tmp_path: Path) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    RAW_ITEMS.write(described(["a", "b", "c"]), first, Provenance("test", {}, {"raw/x": "0"}, {}, {}))
    RAW_ITEMS.write(described(["c", "a", "b"]), second, Provenance("test", {}, {"raw/x": "1"}, {}, {}))
    assert first.read_bytes() != second.read_bytes()
    assert digest_of(first) == digest_of(second)
    assert digest_of(first).startswith("rows:3:")
    RAW_ITEMS.write(described(["c", "a", "a"]), second, Provenance("test", {}, {"raw/x": "1"}, {}, {}))
    assert digest_of(first) != digest_of(second)


def test_any_other_file_is_named_by_its_bytes(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_users(layout, layout.users)
    for path in (layout.users, layout.raw / "a.json"):
        assert digest_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_table_that_another_program_has_rewritten_is_named_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    RAW_ITEMS.write(described(["a", "b"]), path, Provenance("test", {}, {}, {}, {}))
    pq.write_table(pq.read_table(path).slice(1), path)
    assert digest_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("told", ["{", "[1]", "\xff"])
def test_damaged_provenance_is_one_clear_line(tmp_path: Path, told: str) -> None:
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user": [0]}).replace_schema_metadata({"mmprep": told}), path)
    with pytest.raises(DataError, match=r"users.parquet: damaged provenance"):
        read_provenance(path)


def test_a_parquet_file_that_is_none_has_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    path.write_text("text\n")
    with pytest.raises(DataError, match=r"items.parquet: not a Parquet file \("):
        digest_of(path)
