"""Splits of others, kept exactly: LATTICE's JSON and MMRec's .inter, with and without the tables of ids."""

import json
from pathlib import Path

import polars as pl
import pytest
from imports import ROOT

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS, REJECTS, SPLIT_INTERACTIONS
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.prepare import filter as filter_stage
from mmprep.stages.prepare import split as split_stage
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.split import Rule, SplitParams

BABY = ROOT.parent / "shared" / "data" / "baby_2014_split"
LENIENT = IngestParams(max_reject_fraction=1)
LATTICE = {
    "train.json": b'{"0": [0, 1], "1": [1]}',
    "val.json": b'{"0": [2], "1": []}',
    "test.json": b'{"1": [0]}',
}
LATTICE_IDS = {"user2id.json": b'{"A0": 0, "A1": 1}', "item2id.json": b'{"B0": 0, "B1": 1, "B2": 2}'}
MMREC = (
    b"userID\titemID\trating\ttimestamp\tx_label\n"
    b"0\t0\t5.0\t1400000000\t0\n"
    b"0\t1\t4.0\t1400000001\t1\n"
    b"1\t0\t1.0\t1400000002.0\t2\n"
)
MMREC_IDS = {
    "u_id_mapping.csv": b"user_id\tuserID\nA0\t0\nA1\t1\n",
    "i_id_mapping.csv": b"asin\titemID\nB0\t0\nB1\t1\n",
}


def dataset(folder: Path, files: dict[str, bytes]) -> Layout:
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    for name, content in files.items():
        (layout.raw / name).write_bytes(content)
    return layout


def rows(layout: Layout) -> list[tuple[object, ...]]:
    return INTERACTIONS.read(layout.raw_interactions).rows()


def rejects(layout: Layout) -> list[tuple[object, ...]]:
    return REJECTS.read(layout.rejects).select("source", "line", "reason").rows()


def test_lattice_numbers_become_ids_where_the_tables_are_there(tmp_path: Path) -> None:
    layout = dataset(tmp_path, LATTICE | LATTICE_IDS)
    metrics = run(IngestParams(max_reject_fraction=0), layout)
    assert rows(layout) == [
        ("A1", "B0", None, None, "test"),
        ("A0", "B0", None, None, "train"),
        ("A0", "B1", None, None, "train"),
        ("A1", "B1", None, None, "train"),
        ("A0", "B2", None, None, "val"),
    ]
    assert (metrics["users"], metrics["items"], metrics["rejects"]) == (2, 3, 0)
    assert "raw/toys/user2id.json" in read_provenance(layout.raw_interactions)["inputs"]


def test_lattice_numbers_are_the_ids_without_the_tables(tmp_path: Path) -> None:
    layout = dataset(tmp_path, LATTICE)
    run(IngestParams(), layout)
    assert [row[:2] for row in rows(layout)] == [("1", "0"), ("0", "0"), ("0", "1"), ("1", "1"), ("0", "2")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"0": [0], "1": 5}', Reason.NOT_AN_OBJECT),
        (b'{"0": [[0]]}', Reason.MISSING_ITEM),
        (b'{"0": [null]}', Reason.MISSING_ITEM),
        (b'{"0": [true]}', Reason.MISSING_ITEM),
        (b'{"0": [1.0]}', Reason.MISSING_ITEM),
        (b'{"0": [{}]}', Reason.MISSING_ITEM),
        (b'{"0": ["a\\u0000b"]}', Reason.MISSING_ITEM),
        (b'{"": [0]}', Reason.MISSING_USER),
        (b'{"a\\u001bb": [0]}', Reason.MISSING_USER),
        (b'{"0": [0]', Reason.BAD_JSON),
        (b'{"0": ["\xff"]}', Reason.BAD_ENCODING),
        (b"[0]", Reason.NOT_AN_OBJECT),
    ],
)
def test_lattice_lines_that_cannot_be_used_give_their_reason(tmp_path: Path, line: bytes, reason: Reason) -> None:
    layout = dataset(tmp_path, {"train.json": b'{"0": [0]}\n' + line})
    run(LENIENT, layout)
    assert rejects(layout) == [("train.json", 2, reason.value)]
    assert len(rows(layout)) == 1


@pytest.mark.parametrize("content", [b"[]", b"rubbish", b'"x"', b"\xff"])
def test_a_table_of_ids_that_is_something_else_is_an_error(tmp_path: Path, content: bytes) -> None:
    layout = dataset(tmp_path, LATTICE | {"user2id.json": content})
    with pytest.raises(DataError, match=r"user2id\.json: expected an object of ids and their numbers"):
        run(IngestParams(), layout)


def test_mmrec_numbers_become_ids_where_the_tables_are_there(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"toys.inter": MMREC} | MMREC_IDS)
    run(IngestParams(max_reject_fraction=0), layout)
    assert rows(layout) == [
        ("A0", "B0", 5.0, 1_400_000_000, "train"),
        ("A0", "B1", 4.0, 1_400_000_001, "val"),
        ("A1", "B0", 1.0, 1_400_000_002, "test"),
    ]


def test_mmrec_without_tables_ratings_and_times(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"toys.inter": b"x_label\titemID\tuserID\r\n0\t7\t3\r\n2\t8\t3\r\n"})
    run(IngestParams(max_reject_fraction=0), layout)
    assert rows(layout) == [("3", "7", None, None, "train"), ("3", "8", None, None, "test")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"0\t0\t5.0\t1400000000", Reason.BAD_COLUMNS),
        (b"0\t0\t5.0\t1400000000\t3", Reason.BAD_COLUMNS),
        (b"0\t0\t5.0\t1400000000\ttrain", Reason.BAD_COLUMNS),
        (b"0\t0\tgood\t1400000000\t0", Reason.BAD_RATING),
        (b"0\t0\tnan\t1400000000\t0", Reason.BAD_RATING),
        (b"0\t0\t1e400\t1400000000\t0", Reason.BAD_RATING),
        (b"0\t0\t5.0\tnan\t0", Reason.BAD_TIMESTAMP),
        (b"0\t0\t5.0\tinf\t0", Reason.BAD_TIMESTAMP),
        (b"0\t0\t5.0\t1e300\t0", Reason.BAD_TIMESTAMP),
        (b"0\t0\t5.0\t\t0", Reason.BAD_TIMESTAMP),
        (b"0\t0\t5.0\t0\t0", Reason.BAD_TIMESTAMP),
        (b"0\x00\t0\t5.0\t1400000000\t0", Reason.MISSING_USER),
        (b"0\t \t5.0\t1400000000\t0", Reason.MISSING_ITEM),
        (b"0\t\xff\t5.0\t1400000000\t0", Reason.BAD_ENCODING),
    ],
)
def test_mmrec_lines_that_cannot_be_used_give_their_reason(tmp_path: Path, line: bytes, reason: Reason) -> None:
    layout = dataset(tmp_path, {"toys.inter": MMREC + b"\n" + line + b"\n"})
    run(LENIENT, layout)
    assert rejects(layout) == [("toys.inter", 6, reason.value)]
    assert len(rows(layout)) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user\tnumber\nA0\t0\n", "no column 'userID', expected user_id and userID, tab-separated"),
        (b"user_id,userID\nA0,0\n", "no column 'userID', expected user_id and userID, tab-separated"),
        (b"user_id\tuserID\nA\xff\t0\n", "expected a tab-separated table"),
    ],
)
def test_a_mapping_that_is_something_else_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    layout = dataset(tmp_path, {"toys.inter": MMREC, "u_id_mapping.csv": content})
    with pytest.raises(DataError, match=message):
        run(IngestParams(), layout)


def test_a_mapping_with_a_byte_order_mark_and_a_short_row(tmp_path: Path) -> None:
    mapping = b"\xef\xbb\xbfuserID\tuser_id\n0\tA0\n1\n"
    layout = dataset(tmp_path, {"toys.inter": MMREC, "u_id_mapping.csv": mapping})
    run(LENIENT, layout)
    assert [row[0] for row in rows(layout)] == ["A0", "A0"]
    assert rejects(layout) == [("toys.inter", 4, Reason.UNKNOWN_NUMBER.value)]


def test_mmrec_numbers_that_the_tables_lack_are_refused(tmp_path: Path) -> None:
    for name, left in (
        ("u_id_mapping.csv", [("A0", 5.0), ("A0", 4.0)]),
        ("i_id_mapping.csv", [("A0", 5.0), ("A1", 1.0)]),
    ):
        short = b"\n".join(MMREC_IDS[name].splitlines()[:2])
        layout = dataset(tmp_path / name, {"toys.inter": MMREC} | MMREC_IDS | {name: short})
        run(LENIENT, layout)
        assert [(row[0], row[2]) for row in rows(layout)] == left
        assert [row[2] for row in rejects(layout)] == [Reason.UNKNOWN_NUMBER.value]


def test_lattice_numbers_that_the_tables_lack_are_refused_one_by_one(tmp_path: Path) -> None:
    layout = dataset(tmp_path, LATTICE | LATTICE_IDS | {"item2id.json": b'{"B0": 0, "B1": 1}'})
    metrics = run(LENIENT, layout)
    assert rejects(layout) == [("val.json", 1, Reason.UNKNOWN_NUMBER.value)]
    assert metrics["interactions"] == 4


def test_a_line_of_lattice_of_more_than_16_mb_is_taken(tmp_path: Path) -> None:
    # Long ids, of which few make a long line.
    bought = [[f"B{item}-{user:04d}".ljust(200, "x") for item in range(8)] for user in range(11_000)]
    line = json.dumps({str(user): items for user, items in enumerate(bought)}).encode()
    assert len(line) > 16 << 20
    layout = dataset(tmp_path, {"train.json": line})
    metrics = run(IngestParams(max_reject_fraction=0), layout)
    assert (metrics["users"], metrics["interactions"]) == (11_000, 88_000)


@pytest.mark.skipif(not BABY.is_dir(), reason=f"real data is not redistributed and not at {BABY}")
def test_the_published_split_of_baby_passes_through_unchanged(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {path.name: path.read_bytes() for path in BABY.glob("*.json")})
    ingested = run(IngestParams(max_reject_fraction=0), layout)
    counts = (ingested["users"], ingested["reviewed_items"], ingested["interactions"])
    assert counts == (19_445, 7_050, 160_792)

    filtered = filter_stage.run(FilterParams(k_core=5), layout)
    assert (filtered["users"], filtered["items"], filtered["interactions"]) == counts

    split = split_stage.run(SplitParams(rule="given"), layout)
    assert (split["train"], split["val"], split["test"]) == (119_674, 20_559, 20_559)
    kept = SPLIT_INTERACTIONS.read(layout.interactions)
    users, items = pl.read_parquet(layout.users), pl.read_parquet(layout.items)
    named = kept.join(users, on="user").join(items, on="item").select("user_id", "item_id", "split")
    user_names, item_names = (
        {number: name for name, number in json.loads((BABY / f"{kind}2id.json").read_bytes()).items()}
        for kind in ("user", "item")
    )
    published = {
        (user_names[int(user)], item_names[item], part)
        for part in ("train", "val", "test")
        for user, bought in json.loads((BABY / f"{part}.json").read_bytes()).items()
        for item in bought
    }
    assert set(named.rows()) == published


@pytest.mark.skipif(not BABY.is_dir(), reason=f"real data is not redistributed and not at {BABY}")
def test_the_rule_ratio_gives_each_user_of_the_published_split_the_same_counts(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {path.name: path.read_bytes() for path in BABY.glob("*.json")})
    run(IngestParams(max_reject_fraction=0), layout)
    filter_stage.run(FilterParams(), layout)
    sizes: dict[Rule, list[tuple[int, ...]]] = {}
    rules: tuple[Rule, ...] = ("given", "ratio", "mmrec", "lattice")
    for rule in rules:
        split_stage.run(SplitParams(rule=rule, redraw=True), layout)
        kept = SPLIT_INTERACTIONS.read(layout.interactions)
        counted = kept.pivot("split", index="user", values="item", aggregate_function="len").sort("user")
        sizes[rule] = counted.select("train", "val", "test").rows()
    totals = {rule: tuple(map(sum, zip(*sizes[rule], strict=True))) for rule in rules}
    assert totals == {
        "given": (119_674, 20_559, 20_559),
        "ratio": (119_674, 20_559, 20_559),
        "mmrec": (118_551, 20_559, 21_682),
        "lattice": (118_551, 21_682, 20_559),
    }
    assert (len(sizes["ratio"]), sizes["ratio"]) == (19_445, sizes["given"])
    assert sum(a != b for a, b in zip(sizes["lattice"], sizes["given"], strict=True)) == 1_123
