"""What `mmprep recommend` finds: a user's history and list, whose recommender, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from worlds import made_by_hand, write_items, write_users

from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables import table as tables
from mmprep.pipeline.tables.schemas import RECOMMENDATIONS, SPLIT_INTERACTIONS
from mmprep.stages.explore.recommend import find

ROWS = [  # user, item, rating, timestamp, split
    (0, 1, 4.0, 20, "train"),
    (0, 2, 5.0, 10, "train"),
    (0, 3, None, 30, "val"),
    (0, 4, 3.5, 40, "test"),
    (0, 5, 1.0, 15, "test"),
    (1, 0, 5.0, 10, "train"),
    (2, 0, 5.0, 10, "test"),
]
LISTS = {0: [4, 3, 0, 6], 1: [1, 2, 3, 4]}  # user 2 has nothing in train


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Users u0 to u2, items i0 to i6, and three recommenders, of which lightgcn is the best on validation."""
    layout = Layout(tmp_path / "data", "toy")
    write_users(layout, 3)
    write_items(layout, [{} for _ in range(7)])
    write_interactions(layout)
    for name, recall in (("bpr", 0.5), ("lightgcn", 0.75), ("vbpr", 0.625)):
        write_run(layout, name, recall)
    return layout


def write_interactions(layout: Layout) -> None:
    kinds = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64, "split": pl.String}
    frame = pl.DataFrame(ROWS, schema=kinds, orient="row")
    SPLIT_INTERACTIONS.write(frame, layout.interactions, made_by_hand(layout, [layout.users, layout.items]))


def write_run(layout: Layout, name: str, recall: float) -> None:
    files = layout.run(name)
    rows = [
        (user, rank, item, 1 / rank, f"u{user}", f"i{item}", f"Item {item}")
        for user, items in LISTS.items()
        for rank, item in enumerate(items, start=1)
    ]
    frame = pl.DataFrame(rows, schema=RECOMMENDATIONS.schema.names, orient="row")
    inputs = [layout.interactions, layout.users, layout.items]
    RECOMMENDATIONS.write(frame, files.recommendations, made_by_hand(layout, inputs))
    files.training.write_text(json.dumps({"best_epoch": 3, "epochs": 4, "val_recall@20": recall}))


def test_the_history_is_told_by_split_the_oldest_first(layout: Layout) -> None:
    found = find(layout, "bpr", "u0")
    assert (found.user, found.user_id, found.recommender, found.notes) == (0, "u0", "bpr", ())
    assert found.history_rows() == [
        ("train", "i2", "Item 2", "5"),
        ("train", "i1", "Item 1", "4"),
        ("val", "i3", "Item 3", ""),
        ("test", "i5", "Item 5", "1"),
        ("test", "i4", "Item 4", "3.5"),
    ]
    assert len(found.history_columns) == 4


def test_the_list_marks_what_the_user_has_in_test_and_val(layout: Layout) -> None:
    found = find(layout, "bpr", "u0", 3)
    assert found.rows() == [
        ("1", "i4", "Item 4", "1.0000", "test"),
        ("2", "i3", "Item 3", "0.5000", "val"),
        ("3", "i0", "Item 0", "0.3333", ""),
    ]
    assert len(found.columns) == 5
    assert found.title == "bpr: 1 of 2 test items among the best 3"


def test_a_user_is_found_by_index_too(layout: Layout) -> None:
    assert find(layout, "bpr", "#1") == find(layout, "bpr", "u1")
    assert [row[1] for row in find(layout, "bpr", "#1").rows()] == ["i1", "i2", "i3", "i4"]


def test_without_a_name_the_best_on_validation_is_taken_and_told(layout: Layout) -> None:
    layout.run("bpr").metrics.write_text(json.dumps({"recall@20": 0.99}))  # in test, which must choose nothing
    found = find(layout, None, "u0")
    assert found.recommender == "lightgcn"
    assert found.notes == ("lightgcn has the best validation Recall@20, 0.7500, of the 3 trained",)


def test_user_without_train_items_has_no_list(layout: Layout) -> None:
    found = find(layout, "bpr", "u2")
    assert found.rows() == []
    assert found.notes == ("this user has no list, as they have no train interactions",)
    assert found.history_rows() == [("test", "i0", "Item 0", "5")]


def test_only_row_groups_that_may_hold_the_user_are_read(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    write_interactions(layout)
    write_run(layout, "bpr", 0.5)
    read: list[list[int]] = []
    original = pq.ParquetFile.read_row_groups

    def noted(file: pq.ParquetFile, groups: list[int]) -> object:
        read.append(groups)
        return original(file, groups)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    assert len(find(layout, "bpr", "u1").rows()) == 4
    assert read == [[1, 2], [1]]  # of three groups each: of the list, and of the history


def test_text_of_others_cannot_steer_the_terminal(layout: Layout) -> None:
    write_items(layout, [{"title": "\x1b[2J", "item_id": f"i{n}\n"} for n in range(7)])
    write_interactions(layout)
    write_run(layout, "bpr", 0.5)
    found = find(layout, "bpr", "u0")
    assert all(cell.isprintable() for row in [*found.rows(), *found.history_rows()] for cell in row)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("U0", "user: found 'U0', expected an id of {users}, or # and an index; did you mean u0"),
        ("#3", "user: found #3, expected one of the 3 of {users}, #0 to #2"),
        ("#x", "user: found '#x', expected an id of {users}, or # and an index"),
        ("", "user: found '', expected an id of {users}, or # and an index"),
    ],
)
def test_unknown_user_is_refused_in_one_line(layout: Layout, user: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        find(layout, "bpr", user)
    assert str(caught.value).startswith(message.format(users=layout.users))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bqr", "../bpr", ""])
def test_unknown_recommender_is_refused(layout: Layout, name: str) -> None:
    with pytest.raises(ParamsError, match=f"recommender: found '{name}', expected a recommender"):
        find(layout, name, "u0")


def test_lists_must_have_a_length(layout: Layout) -> None:
    with pytest.raises(ParamsError, match="k: found 0, expected 1 or more"):
        find(layout, "bpr", "u0", 0)


def test_recommender_that_is_not_evaluated_names_the_command_and_those_that_are(layout: Layout) -> None:
    layout.run("lightgcn").recommendations.unlink()
    with pytest.raises(MissingInputError) as caught:
        find(layout, None, "u0")
    path = layout.run("lightgcn").recommendations
    again = "run `mmprep evaluate --recommender lightgcn` first (lists here: bpr, vbpr)"
    assert str(caught.value) == f"{path}: not found; {again}"


def test_without_any_trained_recommender_the_command_is_named(layout: Layout) -> None:
    for name in ("bpr", "lightgcn", "vbpr"):
        layout.run(name).training.unlink()
    with pytest.raises(MissingInputError, match="no trained recommender; run `dvc repro` or `mmprep train` first"):
        find(layout, None, "u0")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("[]", "found list, expected an object"),
        ("{}", "missing or of another type: best_epoch, epochs, val_recall@20"),
        ('{"best_epoch": 3, "epochs": 4}', "missing or of another type: val_recall@20"),
        ('{"best_epoch": 3, "epochs": 4, "val_recall@20": "much"}', "missing or of another type: val_recall@20"),
        ('{"best_epoch": 3, "epochs": 4, "val_recall@20": NaN}', "missing or of another type: val_recall@20"),
    ],
)
def test_damaged_validation_metrics_name_the_command(layout: Layout, content: str, reason: str) -> None:
    path = layout.run("vbpr").training
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        find(layout, None, "u0")
    again = "run `mmprep train --recommender vbpr` again"
    assert str(caught.value) == f"{path}: not what training wrote ({reason}); {again}"


def test_lists_of_another_split_are_refused(layout: Layout) -> None:
    write_users(layout, 4)
    with pytest.raises(DataError) as caught:
        find(layout, "bpr", "u0")
    again = "run `mmprep evaluate --recommender bpr`"
    assert str(caught.value) == f"{layout.run('bpr').recommendations}: made of another {layout.users}; {again}"


@pytest.fixture
def damaged(layout: Layout) -> Iterator[Path]:
    """A list whose pages are spoilt, which its footer does not tell."""
    path = layout.run("bpr").recommendations
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    yield path


def test_damaged_lists_are_refused(layout: Layout, damaged: Path) -> None:
    with pytest.raises(DataError, match=r"damaged .*; remove it and run `mmprep evaluate --recommender bpr`") as caught:
        find(layout, "bpr", "u0")
    assert str(caught.value).startswith(f"{damaged}: ")
    assert "\n" not in str(caught.value)
