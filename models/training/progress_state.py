"""Resumable training state: optimiser, history and best epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmprep.models.recommenders.base import Recommender, RecommenderParams
from mmprep.models.training.checkpoint import Tensors, TrainingState
from mmprep.models.training.params import TrainParams

STOPPING_METRIC = "recall@20"


@dataclass(frozen=True)
class LearningRateDecay:
    """Exponential decay of Adam's learning rate.

    Attributes:
        initial: learning rate in the first epoch.
        lr_decay: factor by which it falls over `lr_decay_epochs`.
        lr_decay_epochs: number of epochs over which it falls by that factor.
    """

    initial: float
    lr_decay: float = 1.0
    lr_decay_epochs: int = 50

    @classmethod
    def of(cls, params: RecommenderParams) -> "LearningRateDecay":
        """The decay that a recommender's parameters specify."""
        return cls(params.learning_rate, params.lr_decay, params.lr_decay_epochs)

    def in_epoch(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        return float(self.initial * self.lr_decay ** ((epoch - 1) / self.lr_decay_epochs))


class TrainingProgress:
    """Training state of a recommender: optimiser, history, and best epoch so far."""

    def __init__(self, recommender: Recommender, learning_rate: LearningRateDecay) -> None:
        self._recommender = recommender
        self._learning_rate = learning_rate
        self._adam = make_adam(recommender, learning_rate.initial)
        self.history: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self.best_epoch = 0
        self.best: Tensors = {}

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return len(self.history)

    @property
    def progress_text(self) -> str:
        """Text next to the progress bar."""
        if not self.best_epoch:
            return "not validated yet"
        return f"best recall@20 {self.best_value:.4f} in epoch {self.best_epoch}"

    @property
    def best_value(self) -> float:
        """The best epoch's validation Recall@20; -1 before the first validation."""
        return self.history[self.best_epoch - 1][STOPPING_METRIC] if self.best_epoch else -1.0

    def validates_next(self, params: TrainParams, validate_every: int) -> bool:
        """Whether the next epoch is validated: each `validate_every`-th one, and the last of `max_epochs`."""
        return (self.epoch + 1) % validate_every == 0 or self.epoch + 1 >= params.max_epochs

    def should_stop(self, params: TrainParams) -> bool:
        """Whether early stopping or `max_epochs` ends training now."""
        return self.epoch >= params.max_epochs or self.out_of_patience(params)

    def out_of_patience(self, params: TrainParams) -> bool:
        """Whether the last epoch was validated and is more than `patience` epochs after the best one.

        Source: docs/papers/conventions.md#early-stopping.
        """
        # An epoch without validation never ends training, since it may be better than the best one.
        validated = bool(self.history) and STOPPING_METRIC in self.history[-1]
        return validated and self.epoch - self.best_epoch > params.patience

    def next_optimiser(self) -> torch.optim.Adam:
        """Adam with the learning rate of the next epoch."""
        for group in self._adam.param_groups:
            group["lr"] = self._learning_rate.in_epoch(self.epoch + 1)
        return self._adam

    def add(self, terms: dict[str, float], metrics: dict[str, float], seconds: float) -> None:
        """Record an epoch, and keep its parameters if it is the best.

        Args:
            terms: loss terms and diagnostics.
            metrics: validation metrics; empty if the epoch is not validated.
            seconds: duration without validation.
        """
        better = metrics.get(STOPPING_METRIC, -1.0) > self.best_value
        self.history.append({"epoch": self.epoch + 1, **terms, **metrics})
        self.seconds.append(seconds)
        if better:
            self.best_epoch = self.epoch
            self.best = {name: value.clone() for name, value in self._recommender.state_dict().items()}

    def state(self) -> TrainingState:
        """The state that the remaining epochs depend on."""
        names: dict[Tensor, str] = {value: name for name, value in self._recommender.named_parameters()}
        moments = {
            f"{names[parameter]}/{kind}": value
            for parameter, kinds in self._adam.state.items()
            for kind, value in kinds.items()
        }
        return TrainingState(
            self.history, self.seconds, self.best_epoch, self._recommender.state_dict(), self.best, moments
        )

    def restore(self, state: TrainingState) -> None:
        """Restore a saved state."""
        self.history, self.seconds = list(state.history), list(state.seconds)
        self.best_epoch, self.best = state.best_epoch, state.best
        self._recommender.load_state_dict(state.model)
        indices = {name: index for index, name in enumerate(parameter_names(self._recommender))}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.adam.items():
            parameter, _, kind = name.rpartition("/")
            moments.setdefault(indices[parameter], {})[kind] = value
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})


def make_adam(recommender: Recommender, learning_rate: float) -> torch.optim.Adam:
    """Fused Adam, several times as fast on a CPU as torch's default."""
    return torch.optim.Adam(recommender.parameters(), lr=learning_rate, fused=True)


def parameter_names(recommender: Recommender) -> list[str]:
    """Parameter names in the order of Adam's state."""
    return [name for name, _ in recommender.named_parameters()]
