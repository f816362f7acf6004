"""Published splits in which a user and an item are a pair in more than one part."""

import random
from pathlib import Path

import pytest

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import KCORE, SPLIT_INTERACTIONS
from mmprep.stages.ingest.ingest import IngestParams
from mmprep.stages.ingest.ingest import run as ingest
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.filter import run as filter_core
from mmprep.stages.prepare.split import SplitParams, run

SOUND = ["0\t0\t5\t0", "0\t1\t5\t1", "0\t2\t5\t2", "1\t0\t5\t0", "1\t1\t5\t0", "1\t2\t5\t2"]
LEAKS = ["0\t0\t4\t2", "1\t1\t4\t1", "1\t1\t4\t2", "1\t1\t5\t2"]  # the last two are duplicates within test


def prepared(folder: Path, lines: list[str], params: FilterParams | None = None) -> tuple[Layout, dict[str, object]]:
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    (layout.raw / "toys.inter").write_text("\n".join(["userID\titemID\trating\tx_label", *lines]))
    ingest(IngestParams(), layout)
    return layout, filter_core(params or FilterParams(k_core=1), layout)


def split(layout: Layout) -> list[tuple[object, ...]]:
    return SPLIT_INTERACTIONS.read(layout.interactions).select("user", "item", "rating", "split").rows()


def test_given_refuses_pairs_in_more_than_one_part_with_their_number(tmp_path: Path) -> None:
    layout, metrics = prepared(tmp_path, SOUND + LEAKS)
    with pytest.raises(DataError, match="found given, but 2 pairs of a user and an item are in more than one part"):
        run(SplitParams(rule="given"), layout)
    assert (metrics["interactions"], metrics["repeated_in_other_splits"]) == (6, 3)


def test_keep_has_all_rows_as_given(tmp_path: Path) -> None:
    layout, _ = prepared(tmp_path, SOUND + LEAKS)
    metrics = run(SplitParams(rule="given", leaks="keep"), layout)
    assert sorted(split(layout), key=str) == sorted(
        [
            (0, 0, 5.0, "train"),
            (0, 0, 4.0, "test"),
            (0, 1, 5.0, "val"),
            (0, 2, 5.0, "test"),
            (1, 0, 5.0, "train"),
            (1, 1, 5.0, "train"),
            (1, 1, 4.0, "val"),
            (1, 1, 5.0, "test"),
            (1, 2, 5.0, "test"),
        ],
        key=str,
    )
    assert metrics["pairs_in_more_than_one_part"] == 2
    assert read_provenance(layout.interactions)["leaks"] == "keep"


def test_drop_has_the_row_that_filter_selects(tmp_path: Path) -> None:
    layout, _ = prepared(tmp_path, SOUND + LEAKS, FilterParams(k_core=1, duplicates="best"))
    metrics = run(SplitParams(rule="given", leaks="drop"), layout)
    rows = split(layout)
    assert len(rows) == 6
    assert {row[1:] for row in rows if row[:2] in ((0, 0), (1, 1))} == {(0, 5.0, "train"), (1, 5.0, "test")}
    assert metrics["pairs_in_more_than_one_part"] == 2


def test_another_rule_splits_pairs(tmp_path: Path) -> None:
    layout, _ = prepared(tmp_path, SOUND + LEAKS)
    metrics = run(SplitParams(rule="mmrec", redraw=True), layout)
    assert len(split(layout)) == 6
    assert "pairs_in_more_than_one_part" not in metrics


def test_a_sound_split_needs_no_choice(tmp_path: Path) -> None:
    layout, metrics = prepared(tmp_path, [*SOUND, SOUND[0]])
    assert run(SplitParams(rule="given"), layout)["train"] == 3
    assert "repeated_in_other_splits" not in metrics
    assert "leaks" not in read_provenance(layout.interactions)


def test_pairs_below_the_core_are_no_leaks(tmp_path: Path) -> None:
    lone = ["7\t9\t5\t0", "7\t9\t5\t2"]
    layout, metrics = prepared(tmp_path, SOUND + lone, FilterParams(k_core=2))
    assert "repeated_in_other_splits" not in metrics
    assert run(SplitParams(rule="given"), layout)["train"] == 3


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    lines = SOUND + LEAKS
    one, _ = prepared(tmp_path / "one", lines)
    random.Random(1).shuffle(lines)  # noqa: S311 - no secret
    two, _ = prepared(tmp_path / "two", lines)
    assert KCORE.read(one.core).equals(KCORE.read(two.core))
