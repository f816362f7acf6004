"""Ids get numbers: equal ids equal ones, different ids different ones, whatever their hashes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS
from mmprep.stages.prepare import id_codes as coded
from mmprep.stages.prepare.id_codes import Factorizer, factorize, read_factorized

PROVENANCE = Provenance("test", {}, {}, {}, {})
LONG = "AGKHLEW2SOWHNMFQIJGBECAF7INQ"
IDS = st.lists(
    st.sampled_from(["", "a", "A", "é", "a\0", "\0", LONG, LONG + "1", LONG + "2"]) | st.text(max_size=14), max_size=60
)
QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def series(ids: list[str]) -> pl.Series:
    return pl.Series("user_id", ids, dtype=pl.String)


def assert_numbered(ids: list[str], codes: npt.NDArray[np.uint32], names: pl.Series) -> None:
    """Each id is back under its number, and none has two."""
    assert [names[int(code)] for code in codes] == ids
    assert sorted(names) == sorted(set(ids))


@QUICK
@given(ids=IDS)
def test_equal_ids_get_equal_numbers_and_others_different_ones(ids: list[str]) -> None:
    assert_numbered(ids, *factorize(series(ids)))


@QUICK
@given(ids=IDS, kinds=st.integers(1, 3))
def test_ids_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch, ids: list[str], kinds: int) -> None:
    upper = np.uint64(32)  # the lower half of a hash gives way to the row
    few = [np.uint64(sum(name.encode()) % kinds) << upper for name in ids]
    monkeypatch.setattr(coded, "hashes", lambda _: np.array(few, dtype=np.uint64))
    assert_numbered(ids, *factorize(series(ids)))


@QUICK
@given(parts=st.lists(IDS, min_size=1, max_size=6), limit=st.integers(0, 20))
def test_parts_are_numbered_as_one(monkeypatch: pytest.MonkeyPatch, parts: list[list[str]], limit: int) -> None:
    monkeypatch.setattr(coded, "JOIN", limit)
    numbering = Factorizer()
    for part in parts:
        numbering.add(factorize(series(part)))
    assert_numbered([name for part in parts for name in part], *numbering.all())


@pytest.mark.parametrize("part", [1, 7, 2**20])
def test_rows_come_back_in_order_under_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    rows = [
        (
            f"u{n * n % 7}",
            f"i{n * n % 5}",
            None if n == 3 else n / 2,
            None if n == 4 else n,
            (None, "val", "test")[n % 3],
        )
        for n in range(40)
    ]
    frame = pl.DataFrame(rows, INTERACTIONS.schema.names, orient="row").cast({"rating": pl.Float32})
    INTERACTIONS.write(frame, tmp_path / "t.parquet", PROVENANCE)
    monkeypatch.setattr(coded, "PART", part)
    monkeypatch.setattr("mmprep.pipeline.tables.table.PIECE", 3)
    found = read_factorized(tmp_path / "t.parquet")
    named = found.rows.with_columns(
        user_id=found.users.gather(found.codes("user")), item_id=found.items.gather(found.codes("item"))
    )
    assert named.select(frame.columns).cast({"split": pl.String}).rows() == rows
    assert (len(found.users), len(found.items)) == (4, 3)


def test_a_file_without_rows_has_no_ids(tmp_path: Path) -> None:
    INTERACTIONS.write(pl.DataFrame(INTERACTIONS.schema.empty_table()), tmp_path / "t.parquet", PROVENANCE)
    found = read_factorized(tmp_path / "t.parquet")
    assert (len(found.rows), len(found.users), len(found.items)) == (0, 0, 0)


def test_a_rating_of_minus_0_is_0(tmp_path: Path) -> None:
    row = {"user_id": ["u"], "item_id": ["i"], "rating": [-0.0], "timestamp": [1], "split": [None]}
    INTERACTIONS.write(pl.DataFrame(row), tmp_path / "t.parquet", PROVENANCE)
    assert not np.signbit(read_factorized(tmp_path / "t.parquet").rows["rating"].to_numpy()).any()


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    row = {"user_id": ["u"], "item_id": ["i"], "rating": [1.0], "timestamp": [1], "split": [None]}
    with pytest.raises(MissingInputError, match="run `mmprep ingest` first"):
        read_factorized(path)
    INTERACTIONS.write(pl.DataFrame(row), path, PROVENANCE)
    content = bytearray(path.read_bytes())
    content[4:44] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^[^\n]*damaged \([^\n]*\); remove it and run `mmprep ingest`$"):
        read_factorized(path)
