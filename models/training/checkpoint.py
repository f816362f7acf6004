"""Checkpoint of an unfinished training; resuming from it gives the same results as an uninterrupted run."""

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

from mmprep.pipeline.errors import first_line
from mmprep.pipeline.storage.files import sync, temporary_folder

Tensors = dict[str, Tensor]

KINDS = ("model", "best", "adam")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingState:
    """State that the remaining epochs depend on; their random numbers depend only on the seed and the epoch number.

    Attributes:
        history: one row an epoch, as in `FitResult`.
        seconds: duration of each epoch, without validation.
        best_epoch: the epoch with the best validation metric, counted from 1; 0 before the first validation.
        model: the recommender's parameters.
        best: the recommender's parameters after the best epoch; empty before the first validation.
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
        """Number of completed epochs."""
        return len(self.history)


@dataclass(frozen=True)
class ResumeFile:
    """A safetensors file, replaced by rename; its metadata holds the history and a digest of the whole content.

    Attributes:
        path: its path; the file exists only while a training is unfinished.
        made_from: JSON values of everything that determines the training; a file with other values is not resumed.
    """

    path: Path
    made_from: Mapping[str, Any]

    def write(self, state: TrainingState) -> None:
        """Write the state, replacing the previous one."""
        tensors = {f"{kind}/{name}": flat(value) for kind in KINDS for name, value in getattr(state, kind).items()}
        fields = {"made_from": self.made_from, "history": state.history, "best_epoch": state.best_epoch}
        fields["seconds"] = state.seconds
        text = json.dumps(fields)
        write_tensors(self.path, tensors, {"state": text, "sha256": digest(text, tensors)})

    def read(self, model: Mapping[str, Tensor]) -> TrainingState | None:
        """Read the state to resume from; None without a file, or with one that cannot be used, which is logged.

        Args:
            model: the recommender's parameters, whose names, types and shapes the state must have.
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
        """Remove the file if it exists."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> TrainingState:
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                # Copies, since the memory-mapped file may be replaced.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            text, expected = metadata["state"], metadata["sha256"]
        except (OSError, SafetensorError, KeyError) as error:
            raise UnusableStateError(f"damaged ({error})") from error
        if digest(text, tensors) != expected:
            raise UnusableStateError("damaged (its digest is another)")
        fields = json.loads(text)
        self._require_same_origin(fields["made_from"])
        parts: dict[str, Tensors] = {kind: {} for kind in KINDS}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = value
        try:
            return TrainingState(fields["history"], fields["seconds"], fields["best_epoch"], **parts)
        except KeyError as error:
            raise UnusableStateError(f"left by another version of mmprep, without {error}") from error

    def _require_same_origin(self, stored: Mapping[str, Any]) -> None:
        expected = json.loads(json.dumps(self.made_from))
        different = sorted(key for key in stored.keys() | expected.keys() if stored.get(key) != expected.get(key))
        if different:
            raise UnusableStateError(f"left by a training with other {', '.join(different)}")


class UnusableStateError(Exception):
    """A state that cannot be resumed; caught within this module."""


def require_like(state: TrainingState, model: Mapping[str, Tensor]) -> None:
    """Check that each tensor has the name, type and shape of the recommender's current parameter.

    Raises:
        UnusableStateError: a tensor differs, as after a change of the recommender's code.
    """
    expected = {name: signature(value) for name, value in model.items()}
    for parameters in (state.model, state.best) if state.best_epoch else (state.model,):
        if {name: signature(value) for name, value in parameters.items()} != expected:
            raise UnusableStateError("left by a recommender with other parameters")
    for name, moment in state.adam.items():
        parameter = model.get(name.rpartition("/")[0])
        if parameter is None or moment.shape not in (parameter.shape, ()):
            raise UnusableStateError("left by an optimiser with other moments")


def signature(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    """The type and shape of a tensor."""
    return tensor.dtype, tuple(tensor.shape)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically by rename.

    Args:
        path: the file.
        tensors: tensors by name, on any device.
        metadata: strings stored in the file's header.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    # In a temporary folder, since safetensors creates temporary files `.tmpXXXXXX` next to the file, which a killed
    # process leaves behind and which cannot be attributed to it.
    with temporary_folder(path) as folder:
        whole = folder / path.name
        try:
            save_file({name: flat(tensor) for name, tensor in tensors.items()}, whole, dict(metadata or {}) or None)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written ({first_line(error)})") from error
        sync(whole)
        whole.replace(path)


def flat(tensor: Tensor) -> Tensor:
    """The tensor as safetensors requires it: on the CPU and contiguous."""
    return tensor.detach().cpu().contiguous()


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a text and of tensors with their names, types and shapes."""
    total = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {signature(value)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
