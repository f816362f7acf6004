"""What every encoder offers to the extract stage."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from models.encoders.catalogue import EncoderDescription
from models.encoders.weights import WeightsSource

Source_contra = TypeVar("Source_contra", contravariant=True)
Ready = TypeVar("Ready")


class Encoder(Protocol[Source_contra, Ready]):
    """A frozen network with its input transform. `prepare` runs on worker threads, `encode` on the main one."""

    @property
    def identity(self) -> "Identity":
        """What makes its vectors what they are."""

    def prepare(self, source: Source_contra) -> Ready:
        """Make one input ready for the network: decode and transform a photo, or pass a text on."""

    def encode(self, batch: list[Ready]) -> npt.NDArray[np.float32]:
        """The vectors [n, dimension] of n inputs."""


@dataclass(frozen=True)
class Identity:
    """Everything that a vector depends on beside the item itself.

    Attributes:
        description: the encoder's row.
        source: where the weights came from.
        digest: of the weights, see models.encoders.weights.weights_digest.
        transform: the input transform, as text.
    """

    description: EncoderDescription
    source: WeightsSource
    digest: str
    transform: str

    def to_dict(self) -> dict[str, Any]:
        """As provenance records it; no path, so equal weights give equal bytes on every machine."""
        return {
            "encoder": self.description.name,
            "model": self.description.model,
            "output": self.description.output,
            "dimension": self.description.dimension,
            "pretrained": self.source.pretrained,
            "seed": self.source.seed,
            "weights_sha256": self.digest,
            "transform": self.transform,
            "precision": "float32",
        }
