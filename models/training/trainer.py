"""The training loop: batches, Adam, validation each epoch, early stopping."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.device import best_device
from models.recommenders.base import Recommender, RecommenderParams, TrainingData
from models.training.evaluator import evaluate
from models.training.params import TrainParams
from models.training.sampling import NegativeSampler
from pipeline.errors import DataError
from pipeline.progress import Progress, silent

STOPPING_METRIC = "recall@20"
VALIDATION_CUTOFFS = (10, 20)


@dataclass(frozen=True)
class Fit:
    """What training gave.

    Attributes:
        history: a row an epoch: its number, the mean of each loss term, the validation metrics.
        best_epoch: whose parameters the recommender now has.
    """

    history: list[dict[str, float]]
    best_epoch: int

    @property
    def best(self) -> dict[str, float]:
        """The history's row of the best epoch."""
        return self.history[self.best_epoch - 1]


def build(kind: type[Recommender], data: TrainingData, params: RecommenderParams, seed: int) -> Recommender:
    """Make an untrained recommender whose initial values depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(data, params)


def fit(
    recommender: Recommender, data: TrainingData, params: TrainParams, learning_rate: float, progress: Progress = silent
) -> Fit:
    """Train until validation Recall@20 has not risen for `patience` epochs, and restore the best epoch's parameters.

    Each epoch's order and negatives depend on the seed and its number alone.

    Raises:
        DataError: a loss is NaN or infinite, or there is nothing to validate on.
    """
    device = best_device()
    recommender.to(device)
    optimiser = torch.optim.Adam(recommender.parameters(), lr=learning_rate)
    batches = Batches(data, params, device)
    history: list[dict[str, float]] = []
    best_epoch, best_value, best_state = 0, -1.0, recommender.state_dict()
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        deterministic(device),
        progress("training", params.max_epochs, "epochs") as advance,
    ):
        for epoch in range(1, params.max_epochs + 1):
            terms = train_epoch(recommender, optimiser, batches, epoch)
            metrics = validate(recommender, data)
            history.append({"epoch": epoch, **terms, **metrics})
            if metrics[STOPPING_METRIC] > best_value:
                best_epoch, best_value = epoch, metrics[STOPPING_METRIC]
                best_state = {name: value.clone() for name, value in recommender.state_dict().items()}
            advance(1, f"best recall@20 {best_value:.4f} in epoch {best_epoch}")
            if epoch - best_epoch >= params.patience:
                break
    recommender.load_state_dict(best_state)
    return Fit(history, best_epoch)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, refuse operations whose result depends on the order of threads."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class Batches:
    """The train interactions in random order with negatives, in batches."""

    def __init__(self, data: TrainingData, params: TrainParams, device: torch.device) -> None:
        train = data.train
        self._users = np.repeat(np.arange(train.shape[0], dtype=np.int64), np.diff(train.indptr))
        self._items = train.indices.astype(np.int64)
        self._sampler = NegativeSampler(train)
        self._params = params
        self._device = device

    def of_epoch(self, epoch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Users, positives and negatives [batch] of each step of an epoch; also seeds torch for it."""
        rng = np.random.default_rng([self._params.seed, epoch])
        torch.manual_seed(int(rng.integers(2**63)))
        order = rng.permutation(len(self._users))
        shuffled = self._users[order]
        triples = (shuffled, self._items[order], self._sampler.sample(shuffled, rng))
        columns = [torch.from_numpy(column).to(self._device) for column in triples]
        users, positives, negatives = (torch.split(column, self._params.batch_size) for column in columns)
        return list(zip(users, positives, negatives, strict=True))


def train_epoch(
    recommender: Recommender, optimiser: torch.optim.Optimizer, batches: Batches, epoch: int
) -> dict[str, float]:
    """One pass over the train interactions; the mean of each loss term, as `loss_NAME`.

    Raises:
        DataError: a term is NaN or infinite.
    """
    recommender.train()
    sums: dict[str, float] = {}
    steps = batches.of_epoch(epoch)
    for users, positives, negatives in steps:
        optimiser.zero_grad(set_to_none=True)
        terms = recommender.losses(users, positives, negatives)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
    bad = [name for name, value in sums.items() if not np.isfinite(value)]
    if bad:
        raise DataError(f"training diverged: loss {', '.join(bad)} is not finite in epoch {epoch}; lower learning_rate")
    return {f"loss_{name}": value / len(steps) for name, value in sums.items()}


def validate(recommender: Recommender, data: TrainingData) -> dict[str, float]:
    """The metrics on the validation split.

    Raises:
        DataError: an embedding is NaN or infinite.
    """
    recommender.eval()
    with torch.inference_mode():
        users, items = recommender.embeddings()
    if not (users.isfinite().all() and items.isfinite().all()):
        raise DataError("training diverged: an embedding is not finite; lower learning_rate")
    return evaluate(users, items, data.val, data.train, cutoffs=VALIDATION_CUTOFFS)
