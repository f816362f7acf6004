"""Extract stages that run in a process of their own, with an encoder that is no network, to be killed or measured."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from fakes import FakeEncoder, Seen

import mmprep.stages.extract.encode
import mmprep.stages.extract.extract
from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.params import (
    ExtractParams,
    ImageEncoderParams,
    NetworkParams,
    PatchEncoderParams,
    TextEncoderParams,
)
from mmprep.pipeline.features.vectors import VectorBatch
from mmprep.pipeline.layout import Layout
from mmprep.stages.extract.extract import run

KINDS: dict[str, NetworkParams] = {
    "vgg16": ImageEncoderParams(weights="random:3", batch_size=4),
    "minilm": TextEncoderParams(weights="random:3", batch_size=4),
}
PATCHES, DIMENSION = 196, 768
BLOCK_BYTES = 8 * 1024 * 1024  # read at once; half of the usual, so that few items make many blocks


class LargeEncoder(FakeEncoder):
    """Gives each photo as many patches as vit_b16_patches does, 0.6 MB as f32."""

    def load(self, _: Identity) -> "LargeEncoder":
        return self

    def encode(self, batch: list[Seen]) -> VectorBatch:
        numbers = np.array(batch, dtype=np.float32)
        vectors = np.repeat(numbers, PATCHES)[:, None] + np.zeros(DIMENSION, dtype=np.float32)
        return VectorBatch(vectors, np.full(len(batch), PATCHES))


def extract(root: Path, cache: Path, name: str, seconds: float) -> dict[str, Any]:
    """Extract the dataset `toy`, so many seconds a batch, whose numbers depend on what else is in it."""
    fake = FakeEncoder(tells_batch=True, seconds=seconds)
    with (
        patch.dict(os.environ, {"MMPREP_CACHE": str(cache)}),
        patch.object(mmprep.stages.extract.encode, "load_encoder", fake.load),
    ):
        return run(name, ExtractParams(), KINDS[name], Layout(root, "toy"))


def peak_memory(root: Path, cache: Path) -> int:
    """Extract patches of the dataset `toy`, once anew and once out of the cache; the most memory that took, in MB."""
    params = PatchEncoderParams(weights="random:3", batch_size=16, stored_as="f16")
    with (
        patch.dict(os.environ, {"MMPREP_CACHE": str(cache)}),
        patch.object(mmprep.stages.extract.encode, "load_encoder", LargeEncoder().load),
        patch.object(mmprep.stages.extract.extract, "BLOCK_BYTES", BLOCK_BYTES),
    ):
        for _ in range(2):
            run("vit_b16_patches", ExtractParams(), params, Layout(root, "toy"))
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024
