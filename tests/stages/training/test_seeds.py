import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import pytest
from trainable import params_of, write_trainable
from worlds import one_thread

from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.stages.training import evaluate, train
from mmprep.stages.training.seeds import parse_seeds, run

PARAMS = TrainParams(batch_size=128, max_epochs=3, patience=3, seed=1)
PLAIN = EvaluateParams()


@pytest.fixture(scope="module", autouse=True)
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_trainable(layout, ["bpr"])
    return layout


def run_bpr(layout: Layout, *seeds: int, evaluation: EvaluateParams = PLAIN) -> dict[str, dict[str, float]]:
    return run("bpr", seeds, PARAMS, params_of("bpr"), evaluation, layout)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (7, 8, 9)), ("2", (7, 8)), ("0,1,2", (0, 1, 2)), ("5, 3", (5, 3)), (str(2**64 - 1) + ",0", (2**64 - 1, 0))],
)
def test_a_number_says_how_many_seeds_and_a_list_which(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, first=7) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("three", "seeds: found 'three', expected how many, such as 3, or which, such as 0,1,2"),
        ("", "seeds: found '', expected how many, such as 3, or which, such as 0,1,2"),
        ("1,,2", "seeds: found '1,,2', expected how many, such as 3, or which, such as 0,1,2"),
        ("-3", "seeds: found '-3', expected how many, such as 3, or which, such as 0,1,2"),
        ("²", "seeds: found '²', expected how many, such as 3, or which, such as 0,1,2"),
        ("1", "seeds: found '1', expected at least two, as one has no spread"),
        ("0", "seeds: found '0', expected at least two, as one has no spread"),
        ("4,4", "seeds: found '4,4', expected each once and below 2**64"),
        ("0,18446744073709551616", "seeds: found '0,18446744073709551616', expected each once and below 2**64"),
        ("1001", "seeds: found '1001', expected at most 1000"),
    ],
)
def test_seeds_that_cannot_be_are_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse_seeds(text, first=0)
    assert str(caught.value) == message


def test_each_seed_gives_what_training_and_evaluation_give_of_it(layout: Layout) -> None:
    run_bpr(layout, 1, 4)
    summary = json.loads(layout.seeds("bpr").summary.read_text())
    for seed, told in zip((1, 4), summary["runs"], strict=True):
        trained = train.run("bpr", PARAMS.model_copy(update={"seed": seed}), params_of("bpr"), layout)
        tested = evaluate.run("bpr", PLAIN, layout)
        assert told == {"seed": seed, **trained, **tested}
        ours, plain = layout.seeds("bpr").run(seed), layout.run("bpr")
        for file in ("checkpoint", "embeddings", "history", "training", "config", "metrics"):
            assert getattr(ours, file).read_bytes() == getattr(plain, file).read_bytes(), file


def test_mean_and_deviation_are_those_of_the_runs(layout: Layout) -> None:
    summary = run_bpr(layout, 0, 1, 2)
    told = json.loads(layout.seeds("bpr").summary.read_text())
    assert told["metrics"] == summary
    assert {"best_epoch", "val_recall@20", "val_ndcg@10", "recall@20", "ndcg@50"} <= summary.keys()
    assert "seed" not in summary
    for key, found in summary.items():
        values = [each[key] for each in told["runs"]]
        assert found == {"mean": pytest.approx(mean(values)), "std": pytest.approx(stdev(values))}
    assert summary["recall@20"]["std"] > 0


def test_plain_run_stays_what_it_is(layout: Layout) -> None:
    run_bpr(layout, 0, 1)
    assert not layout.run("bpr").folder.exists()


def test_seed_whose_run_is_whole_is_not_trained_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_bpr(layout, 0, 1)
    content = layout.seeds("bpr").summary.read_bytes()
    trained = watch_training(monkeypatch)
    assert run_bpr(layout, 0, 1) == first
    assert trained == []
    assert layout.seeds("bpr").summary.read_bytes() == content
    run_bpr(layout, 0, 1, 2)
    assert trained == [2]


@pytest.mark.parametrize("file", ["checkpoint", "embeddings", "training", "config"])
def test_seed_whose_run_is_damaged_is_trained_again(layout: Layout, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    first = run_bpr(layout, 0, 1)
    path: Path = getattr(layout.seeds("bpr").run(1), file)
    path.write_bytes(path.read_bytes()[:-9])
    trained = watch_training(monkeypatch)
    assert run_bpr(layout, 0, 1) == first
    assert trained == [1]


def watch_training(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every training that begins from now on."""
    trained: list[int] = []
    before = train.Training.run

    def watched(self: train.Training, *rest: object) -> dict[str, object]:
        trained.append(self.params.seed)
        return before(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train.Training, "run", watched)
    return trained


def test_features_and_graphs_are_read_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before, reads = train.read_training_data, []
    monkeypatch.setattr("mmprep.stages.training.train.read_training_data", lambda *a: reads.append(a) or before(*a))
    run_bpr(layout, 0, 1, 2)
    assert len(reads) == 1


def test_val_items_are_masked_where_evaluation_says_so(layout: Layout) -> None:
    plain, masked = run_bpr(layout, 0, 1), run_bpr(layout, 0, 1, evaluation=EvaluateParams(mask_val=True))
    assert masked["ndcg@50"]["mean"] > plain["ndcg@50"]["mean"]
    assert masked["val_recall@20"] == plain["val_recall@20"]


def test_one_seed_alone_is_refused(layout: Layout) -> None:
    with pytest.raises(ParamsError, match="seeds: found 1, expected at least two"):
        run_bpr(layout, 3)


def test_diverging_seed_is_reported_and_there_is_no_summary(layout: Layout) -> None:
    with pytest.raises(DataError, match="training diverged"):
        run("bpr", (0, 1), PARAMS, params_of("bpr", learning_rate=1e30), PLAIN, layout)
    assert not layout.seeds("bpr").summary.exists()
