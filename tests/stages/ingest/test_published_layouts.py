"""Layouts of other systems: RecBole's atomic files, LATTICE's folder as its script writes it, LightGCN's lists."""

import json
from pathlib import Path

import pytest

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS, RAW_ITEMS, REJECTS
from mmprep.stages.ingest.ingest import IngestParams, run

TIME = 1_400_000_000
LATTICE = {
    "train.json": '{"0": [0, 1], "1": [1]}',
    "val.json": '{"0": [2]}',
    "test.json": '{"1": [0]}',
    "user_list.txt": "A0\t0\nA1\t1\n",
    "item_list.txt": "B0\t0\nB1\t1\nB2\t2\n",
    "user-item-dict.json": '{"0": [0, 1, 2], "1": [1, 0]}',
}
BY_ID = {
    ("A0", "B0", "train"),
    ("A0", "B1", "train"),
    ("A1", "B1", "train"),
    ("A0", "B2", "val"),
    ("A1", "B0", "test"),
}


def dataset(folder: Path, files: dict[str, str]) -> Layout:
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    for name, content in files.items():
        (layout.raw / name).write_text(content)
    return layout


def taken(layout: Layout) -> list[tuple[object, ...]]:
    run(IngestParams(max_reject_fraction=1), layout)
    return INTERACTIONS.read(layout.raw_interactions).rows()


def by_split(layout: Layout) -> set[tuple[object, ...]]:
    rows = taken(layout)
    assert len(set(rows)) == len(rows)
    return {(user, item, split) for user, item, _, _, split in rows}


def rejects(layout: Layout) -> list[tuple[object, ...]]:
    return REJECTS.read(layout.rejects).select("source", "line", "reason", "excerpt").rows()


def test_atomic_files_of_recbole(tmp_path: Path) -> None:
    files = {
        "toys.inter": f"user_id:token\titem_id:token\trating:float\ttimestamp:float\nA1\tB1\t5.0\t{TIME}.0\n",
        "toys.item": 'item_id:token\ttitle:token_seq\tcategories:token_seq\tbrand:token\nB1\tA 5" mug\tHome Mugs\n',
    }
    layout = dataset(tmp_path, files)
    assert taken(layout) == [("A1", "B1", 5.0, TIME, None)]
    assert RAW_ITEMS.read(layout.raw_items).rows() == [("B1", 'A 5" mug', "", "Home Mugs", "", None, None)]
    assert rejects(layout) == []


def test_a_split_of_recbole_is_in_the_names(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\n"
    names = {"train": "train", "valid": "val", "test": "test"}
    layout = dataset(tmp_path, {f"toys.{name}.inter": f"{header}{name}\tB1\n" for name in names})
    assert {(row[0], row[4]) for row in taken(layout)} == set(names.items())


def test_quotes_in_atomic_files_are_characters(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"toys.inter": 'user_id:token\titem_id:token\n"A1\tB1\nA2\tB1\n'})
    assert [row[0] for row in taken(layout)] == ['"A1', "A2"]


@pytest.mark.parametrize("time", [str(TIME), f"{TIME}.0", f"{TIME}123"])
def test_an_inter_file_in_seconds_or_milliseconds(tmp_path: Path, time: str) -> None:
    layout = dataset(tmp_path, {"toys.inter": f"userID\titemID\tviews\ttimestamp\tx_label\n1\t2\t7\t{time}\t2\n"})
    assert taken(layout) == [("1", "2", None, TIME, "test")]


def test_an_inter_file_with_columns_of_other_names(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"toys.inter": f"item_id\tuser_id\tx_label\ttimestamp\n2\t1\t1\t{TIME}\n"})
    assert taken(layout) == [("1", "2", None, TIME, "val")]


def test_faults_of_an_inter_file_name_the_value(tmp_path: Path) -> None:
    lines = ["userID\titemID\ttimestamp\tx_label", "1\t2\t12\t0", f"1\t2\t{TIME}\t7", f"1\t2\t{TIME}\t0", "1\t2"]
    layout = dataset(tmp_path, {"toys.inter": "\n".join(lines)})
    assert len(taken(layout)) == 1
    assert [(row[1], str(row[3]).partition(";")[0]) for row in rejects(layout)] == [
        (2, "timestamp is '12'"),
        (3, "x_label is '7'"),
        (5, "2 columns, expected 4"),
    ]


def test_the_folder_that_lattice_writes(tmp_path: Path) -> None:
    layout = dataset(tmp_path, LATTICE)
    assert by_split(layout) == BY_ID
    assert rejects(layout) == []
    assert "raw/toys/item_list.txt" in read_provenance(layout.raw_interactions)["inputs"]


@pytest.mark.parametrize("header", ["org_id remap_id\n", ""])
def test_the_folder_that_lightgcn_writes(tmp_path: Path, header: str) -> None:
    files = {
        "train.txt": "0 0 1\n1 1\n2\n",
        "test.txt": "0 2\n1 0\n",
        "user_list.txt": f"{header}A0 0\nA1 1\nA2 2\n",
        "item_list.txt": f"{header}B0 0\nB1 1\nB2 2\n",
    }
    layout = dataset(tmp_path, files)
    assert by_split(layout) == {(user, item, "test" if split == "val" else split) for user, item, split in BY_ID}


def test_lists_without_tables_have_numbers_as_ids(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"train.txt": "0 3 4\n1 x\n", "test.txt": "0 5 \n\n"})
    assert [row[:2] for row in taken(layout)] == [("0", "5"), ("0", "3"), ("0", "4")]
    assert rejects(layout) == [("train.txt", 2, "other columns than expected", "'x' is no number; 1 x")]


def test_valid_json_is_the_val_split(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"valid.json" if name == "val.json" else name: text for name, text in LATTICE.items()})
    assert by_split(layout) == BY_ID


def test_a_second_file_of_a_split_is_not_read(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {**LATTICE, "valid.json": '{"1": [2]}', "train.txt": "0 0\n"})
    assert by_split(layout) == BY_ID
    assert {row[0] for row in rejects(layout)} == {"valid.json", "train.txt"}


@pytest.mark.parametrize("content", ["B0\t0\nB1\t0\n", "B0\nB1\n", "B0\t0\nB1\tone\n"])
def test_a_list_of_ids_that_is_none_stops_the_stage(tmp_path: Path, content: str) -> None:
    layout = dataset(tmp_path, {**LATTICE, "item_list.txt": content})
    with pytest.raises(DataError, match=r"item_list\.txt: line [12]: found"):
        run(IngestParams(), layout)


def test_indented_splits(tmp_path: Path) -> None:
    files = {
        name: json.dumps(json.loads(text), indent=2) if name.endswith(".json") else text
        for name, text in LATTICE.items()
    }
    assert by_split(dataset(tmp_path, files)) == BY_ID
