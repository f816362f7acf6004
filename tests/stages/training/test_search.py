import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainable import params_of, write_trainable
from worlds import one_thread

from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.stages.training import evaluate, train
from mmprep.stages.training.search import run

PARAMS = TrainParams(batch_size=128, max_epochs=3, patience=3, seed=1)
RANGES = {"layers": [0, 2], "learning_rate": [1e-6, 0.05]}
PLAIN = EvaluateParams()


@pytest.fixture(scope="module", autouse=True)
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_trainable(layout, ["lightgcn"])
    return layout


def search(layout: Layout, ranges: dict[str, list[Any]] = RANGES, params: TrainParams = PARAMS) -> dict[str, Any]:
    return run("lightgcn", ranges, params, params_of("lightgcn"), PLAIN, layout)


def table(layout: Layout) -> list[dict[str, str]]:
    with layout.search("lightgcn").table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Layers and learning rate of every training."""
    done: list[tuple[int, float]] = []
    before = train.Training.run

    def watched(self: train.Training, *rest: Any) -> dict[str, Any]:  # noqa: ANN401
        values = self.recommender_params.model_dump()
        done.append((values["layers"], values["learning_rate"]))
        return before(self, *rest)

    monkeypatch.setattr(train.Training, "run", watched)
    return done


def test_every_combination_is_a_row_with_what_training_gives_of_it(layout: Layout) -> None:
    search(layout)
    rows = table(layout)
    assert [(int(row["layers"]), float(row["learning_rate"])) for row in rows] == [
        (layers, rate) for layers in (0, 2) for rate in (1e-6, 0.05)
    ]
    for row in rows:
        values = {"layers": int(row["layers"]), "learning_rate": float(row["learning_rate"])}
        told = train.run("lightgcn", PARAMS, params_of("lightgcn", **values), layout)
        assert {key: float(row[key]) for key in told} == told


def test_best_on_validation_is_chosen_and_tested(layout: Layout) -> None:
    found = search(layout)
    best = max(table(layout), key=lambda row: float(row["val_recall@20"]))
    assert found["chosen"] == {"layers": int(best["layers"]), "learning_rate": float(best["learning_rate"])}
    assert found["val_recall@20"] == float(best["val_recall@20"])
    assert (found["run"], found["combinations"]) == (best["run"], 4)
    train.run("lightgcn", PARAMS, params_of("lightgcn", **found["chosen"]), layout)
    tested = evaluate.run("lightgcn", PLAIN, layout)
    assert {key: found[key] for key in tested} == tested
    told = json.loads(layout.search("lightgcn").best.read_text())
    assert told["made_from"]["ranges"] == RANGES
    assert told["made_from"]["config"]["params"]["layers"] == found["chosen"]["layers"]
    assert {key: told[key] for key in found} == found


def test_only_the_chosen_combination_is_tested_and_the_table_has_no_test_metric(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[str] = []
    monkeypatch.setattr(
        "mmprep.stages.training.search.evaluate_run", lambda run, *_: tested.append(run.files.folder.name) or {}
    )
    found = search(layout)
    assert tested == [found["run"]]
    assert not [key for key in table(layout)[0] if "@" in key and not key.startswith("val_")]


def test_test_split_has_no_say_in_the_choice(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = iter([0.3, 0.5, 0.5, 0.4])

    def watched(self: train.Training, files: Any, *_: Any) -> dict[str, Any]:  # noqa: ANN401
        before(self, files)
        return {"best_epoch": 1, "epochs": 1, "val_recall@20": next(scripted)}

    before = train.Training.run
    monkeypatch.setattr(train.Training, "run", watched)
    assert search(layout)["chosen"] == {"layers": 0, "learning_rate": 0.05}  # of equal ones the first


def test_finished_combinations_are_not_trained_again(layout: Layout, trained: list[tuple[int, float]]) -> None:
    first = search(layout)
    assert len(trained) == 4
    files = [layout.search("lightgcn").table, layout.search("lightgcn").best]
    before = [sha256(path) for path in files]
    assert search(layout) == first
    assert len(trained) == 4
    assert [sha256(path) for path in files] == before
    search(layout, {"layers": [2, 0, 1], "learning_rate": [0.05]})
    assert trained[4:] == [(1, 0.05)]
    search(layout, params=PARAMS.model_copy(update={"seed": 9}))
    assert len(trained) == 9


def test_search_that_was_killed_continues_where_it_was(
    layout: Layout, trained: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search(layout)
    rows, best = table(layout), layout.search("lightgcn").best.read_bytes()
    other = Layout(layout.root.parent / "other", "toy")
    write_trainable(other, ["lightgcn"])

    def killed(*_: object) -> None:
        if len(trained) == 7:  # four and three
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mmprep.models.training.trainer.require_finite_losses", killed)
        search(other)
    assert len(table(other)) == 2
    assert search(other) == expected
    assert trained[7:] == [(2, 1e-6), (2, 0.05)]
    assert table(other) == rows
    assert other.search("lightgcn").best.read_bytes() == best


def test_combination_that_diverges_is_a_row_and_is_not_tried_again(
    layout: Layout, trained: list[tuple[int, float]], caplog: pytest.LogCaptureFixture
) -> None:
    ranges = {"learning_rate": [1e30, 0.05]}
    found = search(layout, ranges)
    assert found["chosen"] == {"learning_rate": 0.05}
    rows = table(layout)
    assert rows[0]["diverged"].startswith("training diverged: ")
    assert (rows[0]["val_recall@20"], rows[1]["diverged"]) == ("", "")
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == f"learning_rate=1e+30: {rows[0]['diverged']}"
    assert search(layout, ranges) == found
    assert len(trained) == 2


def test_search_in_which_all_diverge_says_so(layout: Layout) -> None:
    with pytest.raises(DataError, match="every combination diverged; search lower values of learning_rate"):
        search(layout, {"learning_rate": [1e30, 1e31]})
    assert not layout.search("lightgcn").best.exists()


def test_wrong_range_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="search: layers: found -1"):
        search(Layout(tmp_path / "data", "nothing"), {"layers": [1, -1]})


def test_plain_run_stays_what_it_is(layout: Layout) -> None:
    search(layout, {"layers": [1]})
    assert not layout.run("lightgcn").folder.exists()
