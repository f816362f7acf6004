"""The state of an unfinished training on disk, from which the same training continues as if it had never stopped."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmprep.pipeline.storage.files import temporary_folder

Tensors = dict[str, Tensor]

KINDS = ("model", "best", "adam")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingState:
    """All that the epochs to come depend on. Their random numbers depend on the seed and their number alone.

    Attributes:
        history: a row an epoch, as in `Fit`.
        seconds: that each epoch took, without validation.
        best_epoch: the one with the best validation metric, counted from 1.
        model: the recommender's parameters.
        best: those of the best epoch.
        adam: the optimiser's moments, named `PARAMETER/MOMENT`.
    """

    history: list[dict[str, float]]
    seconds: list[float]
    best_epoch: int
    model: Tensors
    best: Tensors
    adam: Tensors

    @property
    def epoch(self) -> int:
        """The last epoch that is behind us."""
        return len(self.history)


@dataclass(frozen=True)
class ResumeFile:
    """One safetensors file, replaced by rename; its metadata holds the numbers and a digest of all that is in it.

    Attributes:
        path: where it lies; there is none before the first and after the last epoch.
        made_from: all that determines the training, JSON values; a file made from anything else is not continued.
    """

    path: Path
    made_from: Mapping[str, Any]

    def write(self, state: TrainingState) -> None:
        """Replace what there is by this state."""
        tensors = {f"{kind}/{name}": flat(value) for kind in KINDS for name, value in getattr(state, kind).items()}
        told = {"made_from": self.made_from, "history": state.history, "best_epoch": state.best_epoch}
        told["seconds"] = state.seconds
        text = json.dumps(told)
        write_tensors(self.path, tensors, {"state": text, "sha256": digest(text, tensors)})

    def read(self, model: Mapping[str, Tensor]) -> TrainingState | None:
        """The state to continue from; None if there is none, or none that can be used, which is logged.

        Args:
            model: the parameters of the recommender that is to be trained on, for their names, types and shapes.
        """
        if not self.path.exists():
            return None
        try:
            state = self._read()
            require_like(state, model)
        except UnusableStateError as error:
            logger.warning("%s: %s; training starts anew", self.path, error)
            return None
        logger.info("%s: training continues after epoch %d", self.path, state.epoch)
        return state

    def remove(self) -> None:
        """Remove the file, if it is there."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> TrainingState:
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                # Copies, since the file behind these may be replaced.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            text, expected = metadata["state"], metadata["sha256"]
        except (OSError, SafetensorError, KeyError) as error:
            raise UnusableStateError(f"damaged ({error})") from error
        if digest(text, tensors) != expected:
            raise UnusableStateError("damaged (its digest is another)")
        told = json.loads(text)
        self._require_same_origin(told["made_from"])
        parts: dict[str, Tensors] = {kind: {} for kind in KINDS}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = value
        try:
            return TrainingState(told["history"], told["seconds"], told["best_epoch"], **parts)
        except KeyError as error:
            raise UnusableStateError(f"left by another version of mmprep, without {error}") from error

    def _require_same_origin(self, found: Mapping[str, Any]) -> None:
        expected = json.loads(json.dumps(self.made_from))
        other = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        if other:
            raise UnusableStateError(f"left by a training with other {', '.join(other)}")


class UnusableStateError(Exception):
    """Why a state is not continued; it never leaves this module."""


def require_like(state: TrainingState, model: Mapping[str, Tensor]) -> None:
    """Check that each tensor has the name, type and shape that the recommender has today.

    Raises:
        UnusableStateError: one has not, as after a change of the recommender's code.
    """
    expected = {name: signature(value) for name, value in model.items()}
    for found in (state.model, state.best):
        if {name: signature(value) for name, value in found.items()} != expected:
            raise UnusableStateError("left by a recommender with other parameters")
    for name, moment in state.adam.items():
        parameter = model.get(name.rpartition("/")[0])
        if parameter is None or moment.shape not in (parameter.shape, ()):
            raise UnusableStateError("left by an optimiser with other moments")


def signature(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    """The type and shape of a tensor."""
    return tensor.dtype, tuple(tensor.shape)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, by rename.

    Args:
        path: the file.
        tensors: on any device, by name.
        metadata: texts that the file's header holds.
    """
    # In a folder, since safetensors has temporary files of its own, `.tmpXXXXXX` beside the file: a process that is
    # killed leaves them, and they do not tell whose they are.
    with temporary_folder(path) as folder:
        whole = folder / path.name
        save_file({name: flat(tensor) for name, tensor in tensors.items()}, whole, dict(metadata) if metadata else None)
        whole.replace(path)


def flat(tensor: Tensor) -> Tensor:
    """The tensor as safetensors takes it: on the CPU and in one piece."""
    return tensor.detach().cpu().contiguous()


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a text and of tensors with their names, types and shapes."""
    total = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {signature(value)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
