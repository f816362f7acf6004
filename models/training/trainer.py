"""Training loop: batches, Adam, validation, early stopping, checkpointing and resuming."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.utils.deterministic as fills
from torch import Tensor

from mmprep.models.device import best_device
from mmprep.models.recommenders.base import Recommender, RecommenderParams, TrainingData
from mmprep.models.training.batches import Batches
from mmprep.models.training.checkpoint import ResumeFile
from mmprep.models.training.evaluator import evaluate
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay, TrainingProgress
from mmprep.models.training.resource_usage import TrainingCost
from mmprep.models.training.validation_noise import doubt
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.progress import Progress, silent

VALIDATION_CUTOFFS = (10, 20)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """Result of a training.

    Attributes:
        history: one row an epoch: its number, the means of loss terms and of the recommender's diagnostics, and, if it
            was validated, the validation metrics.
        best_epoch: the epoch whose parameters the recommender now has.
        cost: time and memory used.
    """

    history: list[dict[str, float]]
    best_epoch: int
    cost: TrainingCost = field(compare=False)

    @property
    def best(self) -> dict[str, float]:
        """The best epoch's row of the history."""
        return self.history[self.best_epoch - 1]


def build(kind: type[Recommender], data: TrainingData, params: RecommenderParams, seed: int) -> Recommender:
    """Create an untrained recommender whose initial values depend only on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(data, params)


def fit(
    recommender: Recommender,
    data: TrainingData,
    params: TrainParams,
    learning_rate: LearningRateDecay,
    progress: Progress = silent,
    resume_file: ResumeFile | None = None,
    validate_every: int = 1,
) -> FitResult:
    """Train until validation Recall@20 has not risen for more than `patience` epochs; restore the best parameters.

    Each epoch's order and negatives depend only on the seed and the epoch number. If patience ends training although
    validation is too small for it, a warning is logged.

    Args:
        recommender: the recommender to train, from `build`.
        data: train and validation data.
        params: batch size, number of epochs and patience.
        learning_rate: Adam's learning rate.
        progress: displays the epochs.
        resume_file: checkpoint written every `checkpoint_every` epochs and resumed from if it exists. The caller
            removes it after writing the result.
        validate_every: number of epochs between validations; the last epoch is always validated.

    Raises:
        DivergedError: a loss, a gradient or an embedding is NaN or infinite.
        DataError: no user can be validated.
    """
    device = best_device()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    recommender.to(device)
    batches = Batches(data, params, device)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        deterministic(device),
        progress("training", params.max_epochs, "epochs") as advance,
    ):
        training = TrainingProgress(recommender, learning_rate)
        if resume_file and (state := resume_file.read(recommender.state_dict())):
            training.restore(state)
            advance(training.epoch, training.progress_text)
        while not training.should_stop(params):
            start = time.perf_counter()
            terms = train_epoch(recommender, training.next_optimiser(), batches, training.epoch + 1)
            seconds = time.perf_counter() - start
            metrics = validate(recommender, data) if training.validates_next(params, validate_every) else {}
            training.add(terms, metrics, seconds)
            warn_once(recommender, training.history)
            advance(1, training.progress_text)
            if resume_file and training.epoch % params.checkpoint_every == 0 and not training.should_stop(params):
                resume_file.write(training.state())
    recommender.load_state_dict(training.best)
    if training.out_of_patience(params):
        warning = doubt(training.best_value, data.val, data.train, params.patience)
        if warning:
            logger.warning(warning)
    return FitResult(training.history, training.best_epoch, TrainingCost.of(training.seconds, device))


def warn_once(recommender: Recommender, history: list[dict[str, float]]) -> None:
    """Log the recommender's warning of the latest epoch, unless an earlier epoch had one.

    Earlier epochs are read from the history, so that a resumed training does not repeat a warning.
    """
    *earlier, latest = history
    warning = recommender.epoch_warning(latest)
    if warning and not any(recommender.epoch_warning(row) for row in earlier):
        logger.warning("epoch %d: %s", len(history), warning)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, raise an error for operations whose result depends on the order of threads."""
    before = torch.are_deterministic_algorithms_enabled(), fills.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(before[0] or device.type == "cpu")
    # Filling memory that is overwritten anyway costs an eighth of an epoch.
    fills.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        fills.fill_uninitialized_memory = before[1]  # type: ignore[attr-defined]


def train_epoch(
    recommender: Recommender, optimiser: torch.optim.Optimizer, batches: Batches, epoch: int
) -> dict[str, float]:
    """Train for one epoch; return the means of loss terms, as `loss_NAME`, and of the recommender's diagnostics.

    Raises:
        DivergedError: a term or a gradient is NaN or infinite.
    """
    recommender.train()
    sums: dict[str, Tensor] = {}
    steps = batches.of_epoch(epoch)
    recommender.begin_epoch()
    for users, positives, negatives in steps:
        optimiser.zero_grad(set_to_none=True)
        recommender.observed.clear()
        terms = recommender.losses(users, positives, negatives)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        for name, value in {**{f"loss_{name}": term for name, term in terms.items()}, **recommender.observed}.items():
            # Summed on the device: fetching each value would synchronise with the GPU at every step.
            sums[name] = sums.get(name, 0.0) + value.detach().double()
    means = {name: float(value) / len(steps) for name, value in sums.items()}
    require_finite_losses(means, epoch)
    require_finite_steps(recommender, optimiser, epoch)
    return means


def require_finite_losses(means: dict[str, float], epoch: int) -> None:
    """Check that all loss terms are finite.

    Raises:
        DivergedError: a term is NaN or infinite.
    """
    losses = {name.removeprefix("loss_"): value for name, value in means.items() if name.startswith("loss_")}
    bad = [name for name, value in losses.items() if not np.isfinite(value)]
    if bad:
        raise DivergedError(f"loss {', '.join(bad)} is not finite in epoch {epoch}")


def require_finite_steps(recommender: Recommender, optimiser: torch.optim.Optimizer, epoch: int) -> None:
    """Check that all gradients of the epoch were finite.

    A NaN or infinite gradient makes Adam's second moment NaN or infinite for ever, so that one check at the end of the
    epoch is enough. A sum is finite only if all values are.

    Raises:
        DivergedError: a gradient was NaN or infinite.
    """
    named = [(name, value) for name, value in recommender.named_parameters() if value in optimiser.state]
    sums = [optimiser.state[value]["exp_avg_sq"].sum() for _, value in named]
    bad = [name for (name, _), total in zip(named, sums, strict=True) if not total.isfinite()]
    if bad:
        raise DivergedError(f"the gradient of {', '.join(bad)} is not finite in epoch {epoch}")


def validate(recommender: Recommender, data: TrainingData) -> dict[str, float]:
    """Evaluate on the validation split.

    Raises:
        DivergedError: an embedding is NaN or infinite.
    """
    recommender.eval()
    with torch.inference_mode():
        users, items = recommender.embeddings()
    if not (users.isfinite().all() and items.isfinite().all()):
        raise DivergedError("an embedding is not finite")
    return evaluate(users, items, data.val, data.train, cutoffs=VALIDATION_CUTOFFS)


class DivergedError(DataError):
    """NaN or infinite values in training; the message names them after `training diverged:`."""

    def __init__(self, what: str) -> None:
        super().__init__(f"training diverged: {what}; lower learning_rate")
