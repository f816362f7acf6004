"""Sections `extract` and `encoders` of params.yaml. Imports no torch, so that any command can check them."""

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from mmprep.models.encoders.catalogue import CATALOGUE, EncoderDescription, Modality
from mmprep.models.encoders.text_templates import DEFAULT_TEMPLATE, check_template
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.features.vectors import Form, StorageDtype
from mmprep.pipeline.params import Params, parse_section, suggestion

RECENT_DEFAULTS = (("prompt", None), ("long_texts", "cut"))
ENCODER_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def refuse_drop(value: object) -> object:
    """Refuse `drop`, which was renamed to `error`; raises ValueError."""
    if value == "drop":
        raise ValueError("error, as drop is called now")
    return value


class ExtractParams(Params):
    """Section `extract` of params.yaml.

    Attributes:
        encoders: encoders to run when none is named.
        missing: features of items without a usable photo or text: the `mean` of the others, `zeros`, or `error`, with
            which recommenders that need the features refuse to train.
    """

    encoders: Annotated[tuple[str, ...], Field(min_length=1)] = ("vgg16", "minilm")
    missing: Annotated[Literal["mean", "zeros", "error"], BeforeValidator(refuse_drop)] = "mean"


class EncoderParams(Params):
    """Keys of any encoder in params.yaml.

    Attributes:
        stored_as: number type in feature files and cache.
        reduce: `pca:K` projects each vector to the first K principal components of the dataset; None keeps full length.
    """

    stored_as: StorageDtype = "f32"
    reduce: Annotated[str, Field(pattern=r"^pca:[1-9]\d{0,5}$")] | None = None

    @property
    def components(self) -> int | None:
        """The K of `reduce`."""
        return int(self.reduce.removeprefix("pca:")) if self.reduce else None


class NetworkParams(EncoderParams):
    """Keys of an encoder that is a network.

    Attributes:
        weights: `pretrained`, a file or folder, `package:NAME` or `random:SEED`, see
            mmprep.models.encoders.weights.sources.
        sha256: expected digest of the file of weights; None accepts any.
        batch_size: number of items that the network encodes at once; not recorded, as cached rows do not depend on it.
        precision: precision of the network's arithmetic.
    """

    weights: str = "pretrained"
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    batch_size: Annotated[int, Field(ge=1, exclude=True)] = 32
    precision: Literal["fp32", "bf16"] = "fp32"

    @field_validator("weights")
    @classmethod
    def check_weights(cls, value: str) -> str:
        """Refuse an empty value, and a seed that is no number or too large for a generator."""
        kind, _, rest = value.partition(":")
        bad_seed = kind == "random" and not (rest.isdecimal() and int(rest) < 2**64)
        if not value or bad_seed or (kind == "package" and not rest):
            raise ValueError("pretrained, a file or folder, package:NAME, or random:SEED with a whole number")
        return value


class ImageEncoderParams(NetworkParams):
    """Keys of an image encoder."""


class PatchEncoderParams(ImageEncoderParams):
    """Keys of vit_b16_patches.

    Attributes:
        image_size: 224 pixels give 196 patches; 256 give 256, with interpolated position embeddings.
    """

    image_size: Literal[224, 256] = 224


class TextEncoderParams(NetworkParams):
    """Keys of a text encoder.

    Attributes:
        template: text made of an item's columns, see mmprep.models.encoders.text_templates.
        max_tokens: length at which texts are truncated; None for the model's own limit, which is also the maximum.
        prompt: text put before every text, such as `passage: `; None for the prompt that the model registers for
            documents, else its default prompt, else none. An empty text puts nothing before them.
        long_texts: `cut` truncates texts that are longer; `mean_of_chunks` encodes their parts and takes the mean,
            weighted by the numbers of tokens.
    """

    template: str = DEFAULT_TEMPLATE
    max_tokens: Annotated[int, Field(ge=3)] | None = None
    prompt: str | None = None
    long_texts: Literal["cut", "mean_of_chunks"] = "cut"

    @model_serializer(mode="wrap")
    def without_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The parameters as recorded; without default values of keys that earlier versions did not have."""
        values: dict[str, Any] = serialise(self)
        return {key: value for key, value in values.items() if (key, value) not in RECENT_DEFAULTS}

    @field_validator("template")
    @classmethod
    def check(cls, value: str) -> str:
        """Refuse a template that names no column of items."""
        check_template(value)
        return value


class TimmParams(ImageEncoderParams):
    """An image encoder by its name in timm.

    Attributes:
        library: timm.
        model: its name in timm, such as `vit_small_patch14_dinov2.lvd142m`.
        form: `vector` for timm's pooled output, `patches` for the last layer before pooling.
    """

    library: Literal["timm"]
    model: Annotated[str, Field(min_length=1)]
    form: Literal["vector", "patches"] = "vector"


class SentenceParams(TextEncoderParams):
    """A text encoder by its name on the Hugging Face hub, as sentence-transformers loads it.

    Attributes:
        library: sentence-transformers.
        model: its repository, such as `intfloat/e5-small-v2`.
        form: `vector` for the sentence embedding, `tokens` for one vector per token.
    """

    library: Literal["sentence-transformers"]
    model: Annotated[str, Field(min_length=1)]
    form: Literal["vector", "tokens"] = "vector"


class FileParams(EncoderParams):
    """Precomputed features from a file.

    Attributes:
        library: file.
        path: path below the dataset's raw folder; see mmprep.pipeline.features.external for the formats.
        modality: the modality of the features.
        rows: item of an array's row: `ids` for the one in the table beside it, `number` for the item whose id is the
            row's number from 0.
        max_unmatched_fraction: largest share of items without a vector while as large a share of the vectors is of no
            item; not recorded, as features do not depend on it.
    """

    library: Literal["file"]
    path: Annotated[str, Field(min_length=1)]
    modality: Modality
    rows: Literal["ids", "number"] = "ids"
    max_unmatched_fraction: Annotated[float, Field(ge=0, le=1, exclude=True)] = 0.2

    @model_serializer(mode="wrap")
    def without_default_rows(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The parameters as recorded; without `rows` for tables of ids, as features recorded before it existed."""
        values: dict[str, Any] = serialise(self)
        return {key: value for key, value in values.items() if (key, value) != ("rows", "ids")}


KNOWN: dict[tuple[Modality, Form], type[NetworkParams]] = {
    ("image", "vector"): ImageEncoderParams,
    ("image", "patches"): PatchEncoderParams,
    ("text", "vector"): TextEncoderParams,
    ("text", "tokens"): TextEncoderParams,
}
OWN: dict[str, type[EncoderParams]] = {
    "timm": TimmParams,
    "sentence-transformers": SentenceParams,
    "file": FileParams,
}


def parse_encoder(name: str, values: dict[str, Any], source: str) -> EncoderParams:
    """Parse the parameters of a built-in encoder, or of one that names its library.

    Args:
        name: the encoder's name, a key of `encoders`.
        values: its section.
        source: the file's name, for messages.

    Raises:
        ParamsError: no encoder has that name, or its section is invalid.
    """
    key = f"encoders.{name}"
    if name in CATALOGUE:
        known = CATALOGUE[name]
        parsed = parse_section(KNOWN[known.modality, known.form], values, key, source)
        check_long_texts(parsed, known.form, f"{source}: {key}")
        return parsed
    library = values.get("library")
    if library is None:
        raise ParamsError(f"{source}: {key}: {no_such_encoder(name)}")
    if not isinstance(library, str) or library not in OWN:
        raise ParamsError(f"{source}: {key}.library: found {library!r}, expected one of {', '.join(OWN)}")
    if not ENCODER_PATTERN.fullmatch(name):
        raise ParamsError(f"{source}: {key}: expected letters, digits, '_', '-' and '.', as the name names a folder")
    own = parse_section(OWN[library], values, key, source)
    if isinstance(own, SentenceParams):
        check_long_texts(own, own.form, f"{source}: {key}")
    return own


def check_long_texts(params: EncoderParams, form: Form, key: str) -> None:
    """Refuse chunks for tokens, which are not pooled.

    Raises:
        ParamsError: the message has the key.
    """
    if isinstance(params, TextEncoderParams) and params.long_texts != "cut" and form == "tokens":
        raise ParamsError(
            f"{key}.long_texts: found {params.long_texts}, expected cut, as vectors of tokens have no mean"
        )


def no_such_encoder(name: str) -> str:
    """Message for an unknown encoder name."""
    return (
        f"found {name!r}, expected an encoder{suggestion(name, CATALOGUE)}, or one of your own "
        f"with a library ({', '.join(OWN)})"
    )


def describe(name: str, params: EncoderParams) -> EncoderDescription:
    """The description of an encoder with its parameters from `parse_encoder`."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if isinstance(params, TimmParams):
        output = "pooled" if params.form == "vector" else "last layer, without prefix tokens"
        return own_row(name, "image", "timm", params.model, params.form, output)
    if isinstance(params, SentenceParams):
        output = "sentence embedding" if params.form == "vector" else "a vector a token"
        return own_row(name, "text", "sentence-transformers", params.model, params.form, output)
    if isinstance(params, FileParams):
        own = own_row(name, params.modality, "file", params.path, "vector", "as computed by others")
        return replace(own, input="not known", licence="not known")
    raise ValueError(f"{name} has parameters of no known kind")


def own_row(
    name: str,
    modality: Modality,
    library: Literal["timm", "sentence-transformers", "file"],
    model: str,
    form: Form,
    output: str,
) -> EncoderDescription:
    """The description of an encoder that only params.yaml defines."""
    return EncoderDescription(
        name, modality, library, model, output, form, None, "as the model's own configuration says", model, "see there"
    )
