"""Safe reading of state dicts from untrusted files, and loading them into networks."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from mmprep.models.encoders.weights.hub import TORCH_FILE
from mmprep.models.encoders.weights.sources import MODEL_FILE
from mmprep.pipeline.errors import WeightsError, first_line

UNSUPPORTED = re.compile(r"(?:GLOBAL|global:?|class) `?([A-Za-z_][\w.]*\.[\w.]+)")  # in torch's message


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors or from a PyTorch file, unpickling nothing but tensors.

    Args:
        path: the file, or a folder with a model.safetensors or else a pytorch_model.bin.

    Raises:
        WeightsError: the file has neither format.
    """
    file = file_in(path) if path.is_dir() else path
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise nearly any exception
        raise WeightsError(f"{file}: not a file of weights ({refusal(error)})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{file}: found {type(state).__name__}, expected a state dict of tensors")
    return state


def refusal(error: Exception) -> str:
    """Why weights were not loaded, in one line, without torch's advice to load what may run code."""
    text = str(error)
    if "weights_only" not in text and "weights only" not in text.lower():
        return first_line(error)
    name = UNSUPPORTED.search(text)
    return f"it holds more than tensors{f', {name[1]}' if name else ''}; convert it to safetensors where you trust it"


def file_in(folder: Path) -> Path:
    """The file of weights in a model folder with the hub's file names."""
    safe, other = folder / MODEL_FILE, folder / TORCH_FILE
    return other if other.is_file() and not safe.is_file() else safe


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Load a state dict into a module with the same names and shapes.

    Raises:
        WeightsError: a name or shape differs; the first difference is named.
    """
    difference = first_difference(module, state)
    if difference is not None:
        raise WeightsError(f"{origin}: weights of another network: {difference}")
    module.load_state_dict(state, assign=True)


def first_difference(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> str | None:
    """Description of the first tensor, by name, that differs between a state dict and a module; None without any."""
    own = module.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "nothing"
        expected = tuple(own[name].shape) if name in own else "nothing"
        if found != expected:
            return f"{name} has {found}, expected {expected}"
    return None
