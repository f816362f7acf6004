import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from worlds import binary, two_groups

from mmprep.models.recommenders.base import Recommender, RecommenderParams, TrainingData, embedding_table
from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.training.batches import Batches
from mmprep.models.training.checkpoint import ResumeFile
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay, make_adam
from mmprep.models.training.trainer import DivergedError, FitResult, build, fit, require_finite_steps, train_epoch
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.progress import silent

PARAMS = TrainParams(batch_size=64, max_epochs=6, patience=3, seed=1)


def toy_data() -> TrainingData:
    world = two_groups()
    return TrainingData(world.train, world.val)


def train(
    params: TrainParams = PARAMS, learning_rate: float = 0.02, validate_every: int = 1
) -> tuple[Recommender, FitResult]:
    data = toy_data()
    recommender = build(BPR, data, BPRParams(embedding_size=8), params.seed)
    rate = LearningRateDecay(learning_rate)
    return recommender, fit(recommender, data, params, rate, validate_every=validate_every)


class Noisy(Recommender):
    """Its loss depends on torch's generator, as one with dropout does."""

    params_type = RecommenderParams

    def __init__(self, data: TrainingData, params: RecommenderParams) -> None:
        super().__init__(data, params)
        self.users = embedding_table(data.n_users, 4)
        self.items = embedding_table(data.n_items, 4)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        lead = (self.users[users] * (self.items[positives] - self.items[negatives])).sum(dim=1)
        return {"noisy": -(lead * torch.rand(len(users))).mean()}

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.users, self.items


class Exploding(Noisy):
    """Its second loss term is no number from the third step on."""

    steps = 0

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        return super().losses(users, positives, negatives) | {"second": torch.tensor(1.0 if self.steps < 3 else np.nan)}


def script_validation(monkeypatch: pytest.MonkeyPatch, recalls: list[float]) -> list[dict[str, Tensor]]:
    """Make validation report these values; the parameters at each validation are collected in the list returned."""
    states: list[dict[str, Tensor]] = []
    script = chain(recalls, repeat(0.0))

    def validate(recommender: Recommender, data: TrainingData) -> dict[str, float]:
        del data
        states.append({name: value.clone() for name, value in recommender.state_dict().items()})
        return {"recall@20": next(script)}

    monkeypatch.setattr("mmprep.models.training.trainer.validate", validate)
    return states


def test_same_seed_gives_the_same_history_and_bytes() -> None:
    (first, one), (second, two) = train(), train()
    assert one == two
    assert save(first.state_dict()) == save(second.state_dict())


def test_another_seed_gives_another_history() -> None:
    (first, one), (second, two) = train(), train(PARAMS.model_copy(update={"seed": 2}))
    assert one.history != two.history
    assert save(first.state_dict()) != save(second.state_dict())


def test_noise_inside_a_recommender_depends_on_the_seed_alone() -> None:
    data = toy_data()
    results = []
    for state in (5, 6):
        torch.manual_seed(state)
        recommender = build(Noisy, data, RecommenderParams(), 3)
        results.append((fit(recommender, data, PARAMS, LearningRateDecay(0.01)), save(recommender.state_dict())))
    assert results[0] == results[1]


def test_callers_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    data = toy_data()
    recommender = build(Noisy, data, RecommenderParams(), 3)
    fit(recommender, data, PARAMS, LearningRateDecay(0.01))
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_do_not_change_the_result() -> None:
    rng = np.random.default_rng(0)
    pairs = [(user, int(item)) for user in range(1500) for item in rng.permutation(30)[:9]]
    train_items, val = binary(pairs[::2], (1500, 30)), binary(pairs[1::2], (1500, 30))
    data = TrainingData(train_items, val)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        runs = []
        for _ in range(2):
            recommender = build(BPR, data, BPRParams(embedding_size=16), 0)
            fit(recommender, data, TrainParams(batch_size=4096, max_epochs=3), LearningRateDecay(0.05))
            runs.append(save(recommender.state_dict()))
    finally:
        torch.set_num_threads(before)
    assert runs[0] == runs[1]


class Undetermined(Noisy):
    """Its gradient is summed in the order of threads, for which torch has no ordered way."""

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        del users, negatives
        return {"put": self.items.flatten().put(positives, torch.ones(len(positives))).sum()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="only on a CPU are such operations refused")
def test_recommender_whose_result_depends_on_threads_is_refused_and_the_callers_choice_restored() -> None:
    data = toy_data()
    with pytest.raises(RuntimeError, match="deterministic"):
        fit(build(Undetermined, data, RecommenderParams(), 0), data, PARAMS, LearningRateDecay(0.01))
    assert not torch.are_deterministic_algorithms_enabled()


def test_initial_values_depend_on_the_seed_alone() -> None:
    data = toy_data()
    tables = []
    for seed, noise in ((4, 1), (4, 2), (5, 1)):
        torch.manual_seed(noise)
        tables.append(build(BPR, data, BPRParams(), seed).state_dict()["users"])
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("recalls", "epochs", "best"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.25, 0.2], 6, 2),  # an equal value is no better one
        ([0.0, 0.0, 0.0, 0.0, 0.0], 5, 1),  # the first epoch is better than none
        ([0.1, 0.0, 0.0, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1], 9, 5),  # a better one in the last moment starts the count again
        ([0.1, 0.10001, 0.1, 0.1, 0.1, 0.1], 6, 2),  # values are compared unrounded
    ],
)
def test_training_tolerates_exactly_patience_epochs_without_a_better_one(
    monkeypatch: pytest.MonkeyPatch, recalls: list[float], epochs: int, best: int
) -> None:
    script_validation(monkeypatch, recalls)
    _, result = train(PARAMS.model_copy(update={"max_epochs": 50}))
    assert (len(result.history), result.best_epoch) == (epochs, best)
    assert result.best["recall@20"] == recalls[best - 1]


@pytest.mark.parametrize("seed", range(20))
def test_training_stops_when_the_count_of_epochs_without_a_gain_exceeds_patience(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    recalls = np.random.default_rng(seed).integers(8, size=50) / 10
    best, without_gain, last = -1.0, 0, 0
    while without_gain <= PARAMS.patience:
        value = recalls[last]
        best, without_gain, last = (value, 0, last + 1) if value > best else (best, without_gain + 1, last + 1)
    script_validation(monkeypatch, list(recalls))
    _, result = train(PARAMS.model_copy(update={"max_epochs": 50}))
    assert (len(result.history), result.best["recall@20"]) == (last, best)


@pytest.mark.parametrize(
    ("recalls", "every", "patience", "validated", "best"),
    [
        ([0.1, 0.3, 0.2, 0.1], 3, 4, [3, 6, 9, 12], 6),  # after 3 epochs patience remains, after 6 none
        ([0.3, 0.2, 0.1, 0.1], 2, 4, [2, 4, 6, 8], 2),  # after 4 epochs patience is used up, not exceeded
        ([0.3, 0.2, 0.4, 0.1, 0.1], 2, 3, [2, 4, 6, 8, 10], 6),  # a better one starts the count again
        ([0.3, 0.2], 5, 1, [5, 10], 5),  # nothing ends a training before its first validation
        ([0.3, 0.4, 0.5], 5, 3, [5, 10, 15], 15),  # nor between two, although more than 3 epochs pass
    ],
)
def test_patience_counts_epochs_however_many_are_validated(
    monkeypatch: pytest.MonkeyPatch, recalls: list[float], every: int, patience: int, validated: list[int], best: int
) -> None:
    script_validation(monkeypatch, recalls)
    params = PARAMS.model_copy(update={"max_epochs": max(validated) if best == max(validated) else 50})
    _, result = train(params.model_copy(update={"patience": patience}), validate_every=every)
    assert [row["epoch"] for row in result.history if "recall@20" in row] == validated
    assert (len(result.history), result.best_epoch) == (validated[-1], best)
    assert result.best["recall@20"] == max(recalls)


@pytest.mark.parametrize(("every", "validated"), [(1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (6, [6]), (7, [6])])
def test_last_epoch_is_always_validated_and_may_be_the_best(
    monkeypatch: pytest.MonkeyPatch, every: int, validated: list[int]
) -> None:
    states = script_validation(monkeypatch, [0.1 * number for number in range(1, 7)])
    recommender, result = train(validate_every=every)
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row in result.history if "recall@20" in row] == validated
    assert result.best_epoch == 6
    assert all(torch.equal(value, states[-1][name]) for name, value in recommender.state_dict().items())


def test_epochs_without_validation_train_alike() -> None:
    patient = PARAMS.model_copy(update={"patience": 6})
    (_, each), (_, some) = train(patient), train(patient, validate_every=4)
    for row, other in zip(each.history, some.history, strict=True):
        shared = row if row["epoch"] in (4, 6) else {key: row[key] for key in ("epoch", "loss_bpr", "loss_norm")}
        assert other == shared


def test_training_ends_after_max_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    script_validation(monkeypatch, [epoch / 100 for epoch in range(100)])
    _, result = train()
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.best_epoch == 6


def test_best_epochs_parameters_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    states = script_validation(monkeypatch, [0.1, 0.3, 0.2, 0.1, 0.0, 0.0])
    recommender, _ = train()
    assert len(states) == 6
    assert all(torch.equal(value, states[1][name]) for name, value in recommender.state_dict().items())
    assert not torch.equal(recommender.state_dict()["users"], states[5]["users"])


def test_history_has_the_mean_of_each_loss_term_and_the_validation_metrics() -> None:
    _, result = train(learning_rate=1e-9)
    keys = ["epoch", "loss_bpr", "loss_norm"] + [
        f"{kind}@{k}" for kind in ("recall", "precision", "ndcg") for k in (10, 20)
    ]
    assert all(list(row) == keys for row in result.history)
    # Scores of fresh embeddings are near 0, so the mean over steps is near log 2, the sum would be seven times it.
    assert result.history[0]["loss_bpr"] == pytest.approx(np.log(2), abs=0.05)


class Observing(Noisy):
    """Tells the number of the step, and in the first epoch alone one more."""

    steps = epochs = 0

    def begin_epoch(self) -> None:
        self.epochs += 1

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        self.observe("step", torch.tensor(float(self.steps)))
        if self.epochs == 1:
            self.observe("once", torch.tensor(3.0))
        return super().losses(users, positives, negatives)


def test_history_has_the_mean_of_what_is_observed_beside_the_losses() -> None:
    data = toy_data()
    recommender = build(Observing, data, RecommenderParams(), 0)
    result = fit(recommender, data, PARAMS.model_copy(update={"max_epochs": 2}), LearningRateDecay(0.01))
    steps = len(Batches(data, PARAMS, torch.device("cpu")).of_epoch(1))
    assert list(result.history[0])[:4] == ["epoch", "loss_noisy", "step", "once"]
    assert [row.get("once") for row in result.history] == [3.0, None]
    assert [row["step"] for row in result.history] == [(steps + 1) / 2, steps + (steps + 1) / 2]


class Doubting(Noisy):
    """Observes what cannot be told."""

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        self.observe("nothing", torch.tensor(np.nan))
        return super().losses(users, positives, negatives)


def test_what_is_observed_may_be_no_number() -> None:
    data = toy_data()
    result = fit(build(Doubting, data, RecommenderParams(), 0), data, PARAMS, LearningRateDecay(0.01))
    assert np.isnan([row["nothing"] for row in result.history]).all()


class Idle(Noisy):
    """Warns of every epoch from the second on."""

    def epoch_warning(self, means: Mapping[str, float]) -> str | None:
        return f"loss {means['loss_noisy']:.4f}, recall {means['recall@20']:.4f}" if means["epoch"] > 1 else None


def test_warning_of_an_epoch_is_logged_once_also_after_resuming(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    data = toy_data()
    file = ResumeFile(tmp_path / "state", {})

    def warnings(epochs: int) -> tuple[list[str], list[dict[str, float]]]:
        caplog.clear()
        params = PARAMS.model_copy(update={"max_epochs": epochs, "patience": 10, "checkpoint_every": 1})
        with caplog.at_level(logging.WARNING):
            result = fit(build(Idle, data, RecommenderParams(), 0), data, params, LearningRateDecay(0.01), silent, file)
        return caplog.messages, result.history

    found, history = warnings(3)
    second = history[1]
    assert found == [f"epoch 2: loss {second['loss_noisy']:.4f}, recall {second['recall@20']:.4f}"]
    assert warnings(5)[0] == []


@pytest.mark.filterwarnings("error")
def test_loss_that_is_no_number_is_reported_with_its_name_and_epoch() -> None:
    data = toy_data()
    recommender = build(Exploding, data, RecommenderParams(), 0)
    one_step = PARAMS.model_copy(update={"batch_size": 10_000})
    with pytest.raises(DataError) as caught:
        fit(recommender, data, one_step, LearningRateDecay(0.01))
    assert str(caught.value) == "training diverged: loss second is not finite in epoch 3; lower learning_rate"


def test_learning_rate_that_is_far_too_high_is_reported() -> None:
    with pytest.raises(DataError, match=r"training diverged: loss .* lower learning_rate"):
        train(learning_rate=1e30)


def test_nothing_to_validate_on_is_reported() -> None:
    data = replace(toy_data(), val=binary([], (40, 60)))
    recommender = build(BPR, data, BPRParams(), 0)
    with pytest.raises(DataError, match="nothing to evaluate"):
        fit(recommender, data, PARAMS, LearningRateDecay(0.01))


def test_training_cannot_see_the_test_split() -> None:
    assert {field.name for field in fields(TrainingData)} == {"train", "val", "features", "graphs", "graph_k", "tokens"}


def test_validation_masks_train_items_alone() -> None:
    data = toy_data()
    _, plain = train(learning_rate=1e-9)
    recommender = build(BPR, data, BPRParams(embedding_size=8), PARAMS.seed)
    users, items = (table.detach().numpy() for table in recommender.embeddings())
    scores = np.where(data.train.toarray() > 0, -np.inf, users @ items.T)
    top = np.argsort(-scores, axis=1)[:, :20]
    hits = np.take_along_axis(data.val.toarray(), top, axis=1).sum(axis=1)
    assert plain.history[0]["recall@20"] == pytest.approx(hits.mean())  # one val item each


def batches(params: TrainParams = PARAMS) -> Batches:
    return Batches(toy_data(), params, torch.device("cpu"))


def test_every_train_interaction_is_a_positive_once_an_epoch() -> None:
    steps = batches().of_epoch(1)
    assert [len(users) for users, _, _ in steps] == [64] * 6 + [16]
    pairs = [(int(u), int(i)) for users, items, _ in steps for u, i in zip(users, items, strict=True)]
    assert sorted(pairs) == sorted((int(u), int(i)) for u, i in zip(*toy_data().train.nonzero(), strict=True))


def test_every_negative_is_of_its_positives_user() -> None:
    train_items = toy_data().train.toarray()
    for users, _, negatives in batches().of_epoch(2):
        assert (train_items[users.numpy(), negatives.numpy()] == 0).all()


def columns(source: Batches, epoch: int) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*source.of_epoch(epoch), strict=True)]


def test_order_and_negatives_depend_on_seed_and_epoch_alone() -> None:
    source = batches()
    third = columns(source, 3)
    assert all(torch.equal(a, b) for a, b in zip(third, columns(batches(), 3), strict=True))
    columns(source, 1)
    assert all(torch.equal(a, b) for a, b in zip(third, columns(source, 3), strict=True))
    for other in (columns(source, 4), columns(batches(PARAMS.model_copy(update={"seed": 2})), 3)):
        assert not torch.equal(third[0], other[0])
        assert not torch.equal(third[2], other[2])


def test_progress_advances_by_one_an_epoch_and_tells_the_best() -> None:
    seen: list[tuple[int, str]] = []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
        assert (task, total, unit) == ("training", PARAMS.max_epochs, "epochs")
        yield lambda units, remark: seen.append((units, remark))

    data = toy_data()
    result = fit(build(BPR, data, BPRParams(), 0), data, PARAMS, LearningRateDecay(0.02), progress)
    assert [units for units, _ in seen] == [1] * len(result.history)
    assert seen[-1][1] == f"best recall@20 {result.best['recall@20']:.4f} in epoch {result.best_epoch}"
    seen.clear()
    fit(build(BPR, data, BPRParams(), 0), data, PARAMS, LearningRateDecay(0.02), progress, validate_every=2)
    assert seen[0] == (1, "not validated yet")
    assert seen[1][1].endswith("in epoch 2")


class Rooted(Noisy):
    """Its loss is finite but its gradient is not, at the last step of the second epoch: the slope of a root at 0."""

    steps = 0

    def __init__(self, data: TrainingData, params: RecommenderParams) -> None:
        super().__init__(data, params)
        self.unused = embedding_table(2, 2)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        terms = super().losses(users, positives, negatives)
        if self.steps == 14:
            terms["root"] = (self.items * 0).sum().sqrt()
        return terms


def test_gradient_that_is_no_number_stops_training_in_its_epoch_and_is_named() -> None:
    data = toy_data()
    recommender = build(Rooted, data, RecommenderParams(), 0)
    with pytest.raises(DivergedError) as caught:
        fit(recommender, data, PARAMS, LearningRateDecay(0.01))
    assert str(caught.value) == (
        "training diverged: the gradient of items is not finite in epoch 2; lower learning_rate"
    )


class Infinite(Noisy):
    """Its losses are finite, but an embedding is not, of which training has seen nothing."""

    def embeddings(self) -> tuple[Tensor, Tensor]:
        users, items = super().embeddings()
        return users, torch.cat([items[:-1], items[-1:] / 0])


def test_embedding_that_is_no_number_stops_training() -> None:
    data = toy_data()
    with pytest.raises(DivergedError) as caught:
        fit(build(Infinite, data, RecommenderParams(), 0), data, PARAMS, LearningRateDecay(0.01))
    assert str(caught.value) == "training diverged: an embedding is not finite; lower learning_rate"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_every_gradient_that_is_no_number_or_overflows_is_found(value: float) -> None:
    recommender = build(BPR, toy_data(), BPRParams(embedding_size=8), 0)
    optimiser = make_adam(recommender, 1e-3)
    for step in range(3):
        for parameter in recommender.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        if step == 0:
            recommender.users.grad[3, 5] = value
        optimiser.step()
    with pytest.raises(DivergedError, match="gradient of users is not finite in epoch 4"):
        require_finite_steps(recommender, optimiser, 4)


@pytest.mark.parametrize(("decay", "expected"), [(1.0, [0.1] * 5), (0.5, [0.1 * 0.5 ** (n / 2) for n in range(5)])])
def test_learning_rate_falls_by_its_factor_in_so_many_epochs(
    monkeypatch: pytest.MonkeyPatch, decay: float, expected: list[float]
) -> None:
    rates: list[float] = []

    def step(optimiser: torch.optim.Adam) -> None:
        rates.append(optimiser.param_groups[0]["lr"])

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    monkeypatch.setattr("mmprep.models.training.trainer.require_finite_steps", lambda *_: None)
    data = toy_data()
    params = PARAMS.model_copy(update={"max_epochs": 5, "patience": 5, "batch_size": 10_000})
    steps = LearningRateDecay.of(BPRParams(learning_rate=0.1, lr_decay=decay, lr_decay_epochs=2))
    fit(build(BPR, data, BPRParams(), 0), data, params, steps)
    assert rates == pytest.approx(expected, rel=1e-12)


def test_adam_in_one_pass_is_adam() -> None:
    data = toy_data()
    recommenders = [build(BPR, data, BPRParams(embedding_size=8), 0) for _ in range(2)]
    optimisers = [make_adam(recommenders[0], 0.01), torch.optim.Adam(recommenders[1].parameters(), lr=0.01)]
    for recommender, optimiser in zip(recommenders, optimisers, strict=True):
        for epoch in range(1, 4):
            train_epoch(recommender, optimiser, batches(), epoch)
    torch.testing.assert_close(recommenders[0].state_dict(), recommenders[1].state_dict())
    assert not torch.equal(recommenders[0].users, build(BPR, data, BPRParams(embedding_size=8), 0).users)


def test_memory_is_filled_again_after_training_as_the_caller_had_it() -> None:
    assert torch.utils.deterministic.fill_uninitialized_memory  # torch's default
    train()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_progress_of_a_training_that_continues_begins_where_it_stopped(tmp_path: Path) -> None:
    seen: list[int] = []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
        del task, total, unit
        yield lambda units, _: seen.append(units)

    data = toy_data()
    resume_file = ResumeFile(tmp_path / "state", {})
    params = PARAMS.model_copy(update={"patience": 6, "checkpoint_every": 4})
    for _ in range(2):
        fit(build(BPR, data, BPRParams(), 0), data, params, LearningRateDecay(0.02), progress, resume_file)
    assert seen == [1] * 6 + [4, 1, 1]
