"""Sections `extract` and `encoders` of params.yaml. Imports no torch, so that any command can check them."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from models.encoders.catalogue import Modality
from pipeline.params import Params
from pipeline.tables import TEXT_FIELDS, TextField


class ExtractParams(Params):
    """Section `extract` of params.yaml.

    Attributes:
        encoders: those that run when none is named.
        missing: what readers of the features give to items without a usable photo or text.
    """

    encoders: Annotated[tuple[str, ...], Field(min_length=1)] = ("vgg16", "minilm")
    missing: Literal["mean", "zeros"] = "mean"


class EncoderParams(Params):
    """What params.yaml says of any encoder.

    Attributes:
        weights: `pretrained`, a file or folder, `package:NAME` or `random:SEED`, see models.encoders.weights.
        sha256: what the digest of a file of weights must be; None accepts any.
        batch_size: how many items go through the network at once.
    """

    weights: str = "pretrained"
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32

    @field_validator("weights")
    @classmethod
    def check_weights(cls, value: str) -> str:
        """Refuse a seed that is no number or beyond what generators take, and an empty value."""
        kind, _, rest = value.partition(":")
        bad_seed = kind == "random" and not (rest.isdecimal() and int(rest) < 2**64)
        if not value or bad_seed or (kind == "package" and not rest):
            raise ValueError("pretrained, a file or folder, package:NAME, or random:SEED with a whole number")
        return value


class ImageEncoderParams(EncoderParams):
    """What params.yaml says of an image encoder."""


class TextEncoderParams(EncoderParams):
    """What params.yaml says of a text encoder.

    Attributes:
        fields: which of an item's texts are encoded, joined by a space in this order.
    """

    fields: Annotated[tuple[TextField, ...], Field(min_length=1)] = TEXT_FIELDS


PARAMS: dict[Modality, type[EncoderParams]] = {"image": ImageEncoderParams, "text": TextEncoderParams}
