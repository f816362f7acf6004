"""What made a file is kept in it, and the same work gives the same bytes."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import DataError
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.provenance import read_provenance, record
from pipeline.tables import USERS


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
