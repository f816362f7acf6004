"""Encoder interface of the extract stage, and the identity that names an encoder in caches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mmprep.models.encoders.catalogue import EncoderDescription
from mmprep.models.encoders.params import NetworkParams, PatchEncoderParams, TextEncoderParams
from mmprep.models.encoders.weights.prompts import registered_prompts
from mmprep.models.encoders.weights.sources import WeightsSource
from mmprep.pipeline.features.vectors import VectorBatch

Source_contra = TypeVar("Source_contra", contravariant=True)
Ready = TypeVar("Ready")


class Encoder(Protocol[Source_contra, Ready]):
    """A frozen network with its input transform. `prepare` runs on worker threads, `encode` on the main thread."""

    def sizes(self, sources: Sequence[str]) -> list[int]:
        """Relative cost of each input, so that batches group inputs of similar cost; all photos are equal."""

    def prepare(self, source: Source_contra) -> Ready:
        """Prepare one input for the network: transform a photo; a text is unchanged."""

    def encode(self, batch: list[Ready]) -> VectorBatch:
        """Encode n prepared inputs."""


@dataclass(frozen=True)
class Identity:
    """Everything that a vector depends on except the item itself; known without loading the network.

    Attributes:
        description: the encoder's row of the catalogue.
        params: its section of params.yaml.
        source: source of its weights.
    """

    description: EncoderDescription
    params: NetworkParams
    source: WeightsSource

    def to_dict(self) -> dict[str, Any]:
        """Identity as recorded in provenance and the row cache; without paths, so equal on every machine."""
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
        """Description of the input transform."""
        if isinstance(self.params, PatchEncoderParams):
            return f"{self.description.input}; image_size {self.params.image_size}"
        if isinstance(self.params, TextEncoderParams):
            return "; ".join((f"max_tokens {self.params.max_tokens or 'of the model'}", *self.text_options()))
        if self.description.library == "timm":
            from mmprep.models.encoders.weights.timm_models import transform_of  # importing timm takes seconds

            return transform_of(self.description.model)
        return self.description.input

    def prompt(self) -> str:
        """The text that is put before every text: params', else the model's own for documents, else its default."""
        own = self._registered_prompts()
        given = self.params.prompt if isinstance(self.params, TextEncoderParams) else ""
        return next(prompt for prompt in (given, *own) if prompt is not None)

    def text_options(self) -> list[str]:
        """What differs from encoding each text at once, after the model's default prompt only, as earlier versions did.

        Only that is part of the transform, so that rows cached by them stay valid. The default prompt is part of the
        identity of the weights.
        """
        options = []
        if self.prompt() != self._registered_prompts()[1]:
            options.append(f"prompt {self.prompt()!r}")
        if isinstance(self.params, TextEncoderParams) and self.params.long_texts != "cut":
            options.append(f"long_texts {self.params.long_texts}")
        return options

    def _registered_prompts(self) -> tuple[str | None, str]:
        return (None, "") if self.source.path is None else registered_prompts(self.source.path)
