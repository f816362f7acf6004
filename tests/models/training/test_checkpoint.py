"""What is saved of an unfinished training, and when it is not taken up."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file
from worlds import training_data, two_groups

from mmprep.models.recommenders.base import Recommender, RecommenderParams, TrainingData
from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.recommenders.catalogue import CATALOGUE, describe
from mmprep.models.training.checkpoint import ResumeFile, TrainingState, write_tensors
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import FitResult, build, fit

PARAMS = TrainParams(batch_size=128, max_epochs=6, patience=6, seed=3, checkpoint_every=2)
STEPS = LearningRateDecay(0.02, lr_decay=0.5, lr_decay_epochs=2)
ORIGIN = {"params": {"layers": 2}, "inputs": {"a": "1"}}


class Killed(BaseException):
    """Ends a training where it stands."""


def train(name: str, resume_file: ResumeFile | None = None, stop_in: int = 0) -> tuple[Recommender, FitResult]:
    """Train on two groups; with `stop_in`, until the validation of that epoch."""
    world = two_groups()
    data = training_data(name, world.train, world.val, world.features)
    kind = describe(name).load()
    recommender = build(kind, data, kind.params_type(embedding_size=8), PARAMS.seed)
    if stop_in:
        stop(recommender, stop_in)
    return recommender, fit(recommender, data, PARAMS, STEPS, resume_file=resume_file)


def stop(recommender: Recommender, epoch: int) -> None:
    left = [epoch]
    embeddings = recommender.eval

    def evaluating() -> Recommender:
        left[0] -= 1
        if not left[0]:
            raise Killed
        return embeddings()

    recommender.eval = evaluating  # type: ignore[method-assign]


@pytest.fixture
def resume_file(tmp_path: Path) -> ResumeFile:
    return ResumeFile(tmp_path / "run" / ".resume.safetensors", ORIGIN)


@cache
def unbroken(name: str) -> tuple[bytes, FitResult]:
    """The state that a training without a break ends in, and its result."""
    recommender, result = train(name)
    return save(recommender.state_dict()), result


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("epoch", [3, 6])
def test_training_that_is_taken_up_again_equals_an_unbroken_one(resume_file: ResumeFile, name: str, epoch: int) -> None:
    with pytest.raises(Killed):
        train(name, resume_file, stop_in=epoch)
    again, found = train(name, resume_file)
    assert (save(again.state_dict()), found) == unbroken(name)


class Scripted(BPR):
    """Counts its epochs in its state, from which `script` looks up the validation metric."""

    script: Sequence[float] = ()
    kill_in = 0

    def __init__(self, data: TrainingData, params: BPRParams) -> None:
        super().__init__(data, params)
        self.register_buffer("epochs", torch.tensor(0))

    def begin_epoch(self) -> None:
        self.epochs += 1
        if int(self.epochs) == self.kill_in:
            raise Killed


def train_scripted(
    monkeypatch: pytest.MonkeyPatch, script: Sequence[float], every: int, file: ResumeFile | None, kill_in: int = 0
) -> tuple[bytes, FitResult]:
    """Train BPR with a patience of 4 and these validation metrics, one per epoch; 0 after them."""

    def scripted(recommender: Recommender, _: TrainingData) -> dict[str, float]:
        epoch = int(recommender.epochs)  # type: ignore[arg-type]
        return {"recall@20": script[epoch - 1] if epoch <= len(script) else 0.0}

    monkeypatch.setattr("mmprep.models.training.trainer.validate", scripted)
    world = two_groups()
    data = training_data("bpr", world.train, world.val, world.features)
    recommender = build(Scripted, data, BPRParams(embedding_size=8), PARAMS.seed)
    assert isinstance(recommender, Scripted)
    recommender.kill_in = kill_in
    params = PARAMS.model_copy(update={"patience": 4, "max_epochs": 30})
    result = fit(recommender, data, params, STEPS, resume_file=file, validate_every=every)
    return save(recommender.state_dict()), result


@pytest.mark.parametrize(
    ("every", "epochs", "best"),
    [
        (1, 12, 7),  # 8 to 11 are tolerated, 12 ends it
        (2, 16, 10),  # 10 is the best; after 14 patience is used up, after 16 exceeded
        (3, 12, 6),  # patience remains after 9
        (5, 15, 10),  # 4 epochs are saved before the first validation
    ],
)
def test_training_stops_in_the_same_epoch_wherever_it_was_killed(
    resume_file: ResumeFile, monkeypatch: pytest.MonkeyPatch, every: int, epochs: int, best: int
) -> None:
    script = [0.1, 0.1, 0.2, 0.4, 0.3, 0.25, 0.5, 0.3, 0.2, 0.5, 0.4, 0.1]
    whole = train_scripted(monkeypatch, script, every, None)
    assert (len(whole[1].history), whole[1].best_epoch) == (epochs, best)
    for killed in range(2, epochs + 1):
        with pytest.raises(Killed):
            train_scripted(monkeypatch, script, every, resume_file, killed)
        assert resume_file.path.exists() == (killed > 2)
        assert train_scripted(monkeypatch, script, every, resume_file) == whole
        resume_file.remove()


def test_state_without_the_parameters_of_its_best_epoch_is_refused(
    resume_file: ResumeFile, caplog: pytest.LogCaptureFixture
) -> None:
    before_validation = a_state(best_epoch=0, best={})
    resume_file.write(before_validation)
    assert resume_file.read(before_validation.model) is not None
    resume_file.write(a_state(best={}))
    assert read_refused(resume_file, a_state(), caplog) == "left by a recommender with other parameters"


def test_epochs_before_the_saved_one_are_not_trained_again(resume_file: ResumeFile) -> None:
    with pytest.raises(Killed):
        train("bpr", resume_file, stop_in=6)
    with pytest.raises(Killed):
        train("bpr", resume_file, stop_in=2)  # 4 are saved, so the 2nd that is trained is the 6th
    _, result = train("bpr", resume_file, stop_in=3)
    assert len(result.history) == 6


def test_saving_changes_nothing_of_a_training(resume_file: ResumeFile) -> None:
    plain, saving = train("bpr"), train("bpr", resume_file)
    assert plain[1] == saving[1]
    assert save(plain[0].state_dict()) == save(saving[0].state_dict())


def test_state_is_saved_every_so_many_epochs_and_never_after_the_last(
    resume_file: ResumeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(ResumeFile, "write", lambda _, state: saved.append(state.epoch))
    train("bpr", resume_file)
    assert saved == [2, 4]


def a_state(**changed: Any) -> TrainingState:  # noqa: ANN401 - any field
    whole = TrainingState(
        history=[{"epoch": 1, "loss_norm": 0.1 + 0.2, "loss_bpr": 1e-30, "recall@20": 1 / 3}],
        seconds=[1 / 7],
        best_epoch=1,
        model={"users": torch.randn(3, 2), "count": torch.tensor(4)},
        best={"users": torch.randn(3, 2), "count": torch.tensor(3)},
        adam={
            "users/step": torch.tensor(7.0),
            "users/exp_avg": torch.randn(3, 2),
            "users/exp_avg_sq": torch.rand(3, 2),
        },
    )
    return replace(whole, **changed)


def test_state_is_read_as_it_was_written(resume_file: ResumeFile) -> None:
    state = a_state()
    resume_file.write(state)
    found = resume_file.read(state.model)
    assert found is not None
    told = [(each.history, each.seconds, each.best_epoch) for each in (found, state)]
    assert told[0] == told[1]
    assert [list(row) for row in found.history] == [list(row) for row in state.history]  # history.csv has this order
    for kind in ("model", "best", "adam"):
        read, written = getattr(found, kind), getattr(state, kind)
        assert read.keys() == written.keys()
        assert all(torch.equal(read[name], value) for name, value in written.items())
    resume_file.remove()
    resume_file.remove()
    assert list(resume_file.path.parent.iterdir()) == []


def test_state_that_is_half_written_leaves_the_old_one(
    resume_file: ResumeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = a_state()
    resume_file.write(state)

    def half(_: object, path: Path, *__: object) -> None:
        path.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr("mmprep.models.training.checkpoint.save_file", half)
    with pytest.raises(Killed):
        resume_file.write(a_state(best_epoch=2))
    found = resume_file.read(state.model)
    assert found is not None
    assert found.best_epoch == 1
    assert list(resume_file.path.parent.iterdir()) == [resume_file.path]


@pytest.mark.parametrize("killed", [False, True])
def test_what_safetensors_leaves_half_written_goes(tmp_path: Path, killed: bool, dead_process: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    left: list[Path] = []

    def half(_: object, target: Path, *__: object) -> None:
        left.append(target.parent / ".tmpXXXXXX")  # safetensors 0.8 writes to such a file
        left[0].write_bytes(b"half")
        if killed:  # before it could remove anything
            name = target.parent.name.replace(f".{os.getpid()}.", f".{dead_process}.")
            left.append(target.parent.rename(tmp_path / name))
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmprep.models.training.checkpoint.save_file", half)
        with pytest.raises(Killed):
            write_tensors(path, {"a": torch.ones(2)})
    assert list(tmp_path.iterdir()) == left[1:]
    write_tensors(path, {"a": torch.ones(2)})
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_are_written_from_any_layout_with_texts(tmp_path: Path) -> None:
    value = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    write_tensors(tmp_path / "new" / "file", {"a": value}, {"told": "by"})
    with safe_open(tmp_path / "new" / "file", "pt") as file:
        assert file.metadata() == {"told": "by"}
        assert torch.equal(file.get_tensor("a"), value)


def test_where_nothing_was_saved_training_begins_without_a_word(
    resume_file: ResumeFile, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert resume_file.read({}) is None
    assert caplog.messages == []


def read_refused(resume_file: ResumeFile, state: TrainingState, caplog: pytest.LogCaptureFixture) -> str:
    """The one line in which a state is refused."""
    assert resume_file.read(state.model) is None
    (message,) = caplog.messages
    start, end = f"{resume_file.path}: ", "; training starts anew"
    assert message.startswith(start)
    assert message.endswith(end)
    return message.removeprefix(start).removesuffix(end)


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ({**ORIGIN, "params": {"layers": 3}}, "params"),
        ({"params": {"layers": 3}, "inputs": {"a": "2"}}, "inputs, params"),
        ({**ORIGIN, "device": "cuda"}, "device"),
    ],
)
def test_state_of_another_training_is_told_by_what_differs(
    resume_file: ResumeFile, caplog: pytest.LogCaptureFixture, origin: Mapping[str, Any], told: str
) -> None:
    state = a_state()
    resume_file.write(state)
    refused = read_refused(replace(resume_file, made_from=origin), state, caplog)
    assert refused == f"left by a training with other {told}"


@pytest.mark.parametrize("place", ["start", "header", "tensors", "cut", "empty"])
def test_damaged_state_is_not_taken_up(resume_file: ResumeFile, caplog: pytest.LogCaptureFixture, place: str) -> None:
    state = a_state()
    resume_file.write(state)
    content = bytearray(resume_file.path.read_bytes())
    at = {"start": 0, "header": content.index(b"best_epoch") + 15, "tensors": len(content) - 3}.get(place)
    if at is not None:
        content[at] ^= 1
    resume_file.path.write_bytes(content[: {"cut": -4, "empty": 0}.get(place)])
    assert read_refused(resume_file, state, caplog).startswith("damaged (")


def test_file_of_somebody_else_is_not_taken_up(resume_file: ResumeFile, caplog: pytest.LogCaptureFixture) -> None:
    resume_file.path.parent.mkdir()
    save_file({"users": torch.zeros(3)}, resume_file.path)
    assert read_refused(resume_file, a_state(), caplog).startswith("damaged (")


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"users": torch.zeros(3, 2)}},
        {"best": {"users": torch.zeros(2, 3), "count": torch.tensor(4)}},
        {"model": {"users": torch.zeros(3, 2), "count": torch.tensor(4.0)}},
        {"adam": {"others/exp_avg": torch.zeros(3, 2)}},
        {"adam": {"users/exp_avg": torch.zeros(2, 2)}},
    ],
)
def test_state_that_does_not_fit_the_recommender_is_not_taken_up(
    resume_file: ResumeFile, caplog: pytest.LogCaptureFixture, changed: dict[str, Any]
) -> None:
    resume_file.write(a_state(**changed))
    assert read_refused(resume_file, a_state(), caplog).startswith("left by ")


def test_state_of_an_older_mmprep_is_not_taken_up(
    resume_file: ResumeFile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mmprep.models.training.checkpoint.json.dumps",
        lambda told: json.JSONEncoder().encode({key: value for key, value in told.items() if key != "seconds"}),
    )
    resume_file.write(a_state())
    monkeypatch.undo()
    assert read_refused(resume_file, a_state(), caplog) == "left by another version of mmprep, without 'seconds'"


def test_file_is_plain_data_and_tells_what_made_it(resume_file: ResumeFile) -> None:
    resume_file.write(a_state())
    with safe_open(resume_file.path, "pt") as file:
        assert json.loads(file.metadata()["state"])["made_from"] == ORIGIN


def test_refused_state_leads_to_the_same_training_as_none(resume_file: ResumeFile) -> None:
    with pytest.raises(Killed):
        train("lightgcn", resume_file, stop_in=5)
    again, found = train("lightgcn", replace(resume_file, made_from={}))
    whole, expected = train("lightgcn")
    assert found == expected
    assert save(again.state_dict()) == save(whole.state_dict())


def test_recommender_with_other_parameters_is_trained_anew(
    resume_file: ResumeFile, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Killed):
        train("bpr", resume_file, stop_in=5)
    world = two_groups()
    data = training_data("bpr", world.train, world.val)
    params: RecommenderParams = describe("bpr").load().params_type(embedding_size=9)
    fit(build(describe("bpr").load(), data, params, 0), data, PARAMS, STEPS, resume_file=resume_file)
    assert [message for message in caplog.messages if "starts anew" in message]
