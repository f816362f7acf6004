"""The encoders that mmprep knows, one row each. Adding an encoder is adding a row."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ParamsError
from pipeline.params import suggestion

Modality = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")


@dataclass(frozen=True)
class EncoderDescription:
    """A frozen, pretrained network and which of its activations are the features.

    Attributes:
        name: as params.yaml and the command line name it.
        modality: what it encodes.
        library: where the network comes from.
        model: its name in that library.
        output: which activation is stored.
        dimension: the length of a vector.
        published_weights: what `weights: pretrained` means.
        licence: of the published weights.
    """

    name: str
    modality: Modality
    library: Literal["torchvision", "sentence-transformers"]
    model: str
    output: str
    dimension: int
    published_weights: str
    licence: str


DESCRIPTIONS = (
    EncoderDescription(
        name="vgg16",
        modality="image",
        library="torchvision",
        model="vgg16",
        output="second fully connected layer, after its ReLU",
        dimension=4096,
        published_weights="IMAGENET1K_V1",
        licence="BSD-3-Clause; trained on ImageNet, whose terms allow non-commercial research",
    ),
    EncoderDescription(
        name="minilm",
        modality="text",
        library="sentence-transformers",
        model="sentence-transformers/all-MiniLM-L6-v2",
        output="sentence embedding: mean of token vectors, L2-normalised",
        dimension=384,
        published_weights="sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
    ),
)

CATALOGUE = {description.name: description for description in DESCRIPTIONS}


def describe(name: str, place: str = "encoder") -> EncoderDescription:
    """The description of an encoder.

    Args:
        name: its name.
        place: where the name was given, for the message.

    Raises:
        ParamsError: there is no such encoder.
    """
    if name not in CATALOGUE:
        raise ParamsError(f"{place}: found {name!r}, expected an encoder{suggestion(name, CATALOGUE)}")
    return CATALOGUE[name]
