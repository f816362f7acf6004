"""What every encoder offers to the extract stage, and what names it in caches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mmprep.models.encoders.catalogue import EncoderDescription
from mmprep.models.encoders.params import NetworkParams, PatchEncoderParams, TextEncoderParams
from mmprep.models.encoders.weights.sources import WeightsSource
from mmprep.pipeline.features.vectors import VectorBatch

Source_contra = TypeVar("Source_contra", contravariant=True)
Ready = TypeVar("Ready")


class Encoder(Protocol[Source_contra, Ready]):
    """A frozen network with its input transform. `prepare` runs on worker threads, `encode` on the main one."""

    def sizes(self, sources: Sequence[str]) -> list[int]:
        """How much work each of some texts is, so that batches can be made of what is alike; of photos all are."""

    def prepare(self, source: Source_contra) -> Ready:
        """Make one input ready for the network: transform a photo, or pass a text on."""

    def encode(self, batch: list[Ready]) -> VectorBatch:
        """What the network gives for n inputs."""


@dataclass(frozen=True)
class Identity:
    """Everything that a vector depends on beside the item itself. Told without loading the network.

    Attributes:
        description: the encoder's row.
        params: its section of params.yaml.
        source: where the weights came from.
    """

    description: EncoderDescription
    params: NetworkParams
    source: WeightsSource

    def to_dict(self) -> dict[str, Any]:
        """As provenance records it and as the row cache names it; no path, so it is the same on every machine."""
        return {
            "encoder": self.description.name,
            "library": self.description.library,
            "model": self.description.model,
            "output": self.description.output,
            "form": self.description.form,
            "pretrained": self.source.pretrained,
            "seed": self.source.seed,
            "weights": self.source.identity,
            "transform": self.transform(),
            "precision": self.params.precision,
            "stored_as": self.params.stored_as,
        }

    def transform(self) -> str:
        """What happens to a photo or a text before the network sees it."""
        if isinstance(self.params, PatchEncoderParams):
            return f"{self.description.input}; image_size {self.params.image_size}"
        if isinstance(self.params, TextEncoderParams):
            return f"max_tokens {self.params.max_tokens or 'of the model'}"
        if self.description.library == "timm":
            from mmprep.models.encoders.weights.timm_models import transform_of  # takes seconds

            return transform_of(self.description.model)
        return self.description.input
