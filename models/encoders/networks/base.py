"""Image network with its input transform, common to all libraries."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class ImageNetwork:
    """A network truncated after the layer whose activations are the features.

    Attributes:
        network: maps photos [n, 3, height, width] to vectors [n, dimension] or patches [n, patches, dimension].
        transform: maps a photo to [3, height, width].
    """

    network: torch.nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
