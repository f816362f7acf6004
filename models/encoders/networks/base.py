"""What every image network offers: the network itself and its transform."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class ImageNetwork:
    """A network that is cut off at the layer whose activations are wanted.

    Attributes:
        network: photos [n, 3, height, width] to vectors [n, dimension] or patches [n, patches, dimension].
        transform: a photo to [3, height, width].
    """

    network: torch.nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
