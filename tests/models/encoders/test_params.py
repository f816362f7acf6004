from typing import Any

import pytest
from pydantic import ValidationError

from mmprep.models.encoders.catalogue import CATALOGUE
from mmprep.models.encoders.params import (
    KNOWN,
    EncoderParams,
    ExtractParams,
    FileParams,
    NetworkParams,
    PatchEncoderParams,
    SentenceParams,
    TextEncoderParams,
    TimmParams,
    describe,
    parse_encoder,
)
from mmprep.pipeline.errors import ParamsError

TIMM = {"library": "timm", "model": "resnet18"}
SENTENCE = {"library": "sentence-transformers", "model": "intfloat/e5-small-v2"}
FILE = {"library": "file", "path": "image_feat.npy", "modality": "image"}


def parse(name: str, values: dict[str, Any]) -> EncoderParams:
    return parse_encoder(name, values, "params.yaml")


@pytest.mark.parametrize(
    "weights", ["pretrained", "random:0", "random:18446744073709551615", "package:some-weights", "some/file.pth", "~/x"]
)
def test_each_kind_of_weights_is_accepted(weights: str) -> None:
    assert NetworkParams(weights=weights).weights == weights


@pytest.mark.parametrize(
    "weights",
    ["", "random", "random:", "random:x", "random:-1", "random:1.5", "random:²", f"random:{2**64}", "package:"],
)
def test_weights_that_name_nothing_are_refused(weights: str) -> None:
    with pytest.raises(ValidationError, match="random:SEED with a whole number"):
        NetworkParams(weights=weights)


@pytest.mark.parametrize("pin", ["", "abc", "G" * 64, "A" * 64, "a" * 63, "a" * 65])
def test_pin_that_is_no_sha256_is_refused(pin: str) -> None:
    with pytest.raises(ValidationError, match="sha256"):
        NetworkParams(sha256=pin)


@pytest.mark.parametrize("reduce", ["pca", "pca:", "pca:0", "pca:-1", "pca:1.5", "PCA:8", "svd:8", "pca:08", "pca:8\n"])
def test_reduction_to_nothing_is_refused(reduce: str) -> None:
    with pytest.raises(ValidationError, match="reduce"):
        EncoderParams(reduce=reduce)


def test_reduction_names_its_components() -> None:
    assert EncoderParams(reduce="pca:128").components == 128
    assert EncoderParams().components is None


def test_every_encoder_of_the_catalogue_has_parameters_and_defaults() -> None:
    for name, description in CATALOGUE.items():
        params = parse(name, {})
        assert isinstance(params, KNOWN[description.modality, description.form])
        assert (params.weights, params.precision, params.stored_as) == ("pretrained", "fp32", "f32")
        assert describe(name, params) is description
    assert isinstance(parse("vit_b16_patches", {"image_size": 256}), PatchEncoderParams)
    assert isinstance(parse("minilm", {"template": "mmrec", "max_tokens": 64}), TextEncoderParams)


def test_own_encoders_are_described_by_their_parameters() -> None:
    vector, patches = parse("mine", TIMM), parse("mine", TIMM | {"form": "patches"})
    assert isinstance(vector, TimmParams)
    assert describe("mine", vector).form == "vector"
    assert describe("mine", patches).form == "patches"
    assert describe("mine", patches).model == "resnet18"
    assert describe("mine", patches).modality == "image"
    assert describe("mine", patches).dimension is None
    tokens = parse("e5", SENTENCE | {"form": "tokens", "max_tokens": 64})
    assert isinstance(tokens, SentenceParams)
    text = describe("e5", tokens)
    assert (text.form, text.modality, text.published_weights) == ("tokens", "text", "intfloat/e5-small-v2")
    theirs = parse("theirs", FILE)
    assert isinstance(theirs, FileParams)
    assert (describe("theirs", theirs).library, describe("theirs", theirs).modality) == ("file", "image")


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("vg16", {}, "encoders.vg16: found 'vg16', expected an encoder; did you mean vgg16?"),
    (
        "mine",
        {"library": "keras"},
        "encoders.mine.library: found 'keras', expected one of timm, sentence-transformers, file",
    ),
    (
        "mine",
        {"library": ["timm"]},
        "encoders.mine.library: found ['timm'], expected one of timm, sentence-transformers, file",
    ),
    ("../mine", TIMM, "encoders.../mine: expected letters, digits, '_', '-' and '.', as the name names a folder"),
    (".mine", TIMM, "encoders..mine: expected letters, digits, '_', '-' and '.', as the name names a folder"),
    ("mine\n", TIMM, "encoders.mine\n: expected letters"),
    ("mine", {"library": "timm"}, "encoders.mine.model: missing; it must be given"),
    ("mine", TIMM | {"model": ""}, "encoders.mine.model: found"),
    ("mine", TIMM | {"form": "tokens"}, 'encoders.mine.form: found "tokens", expected'),
    ("mine", SENTENCE | {"form": "patches"}, 'encoders.mine.form: found "patches", expected'),
    ("mine", TIMM | {"template": "all"}, "encoders.mine.template: no such key"),
    ("mine", TIMM | {"image_size": 256}, "encoders.mine.image_size: no such key"),
    ("theirs", {"library": "file", "modality": "image"}, "encoders.theirs.path: missing; it must be given"),
    ("theirs", {"library": "file", "path": "x.npy"}, "encoders.theirs.modality: missing; it must be given"),
    ("theirs", FILE | {"modality": "video"}, 'encoders.theirs.modality: found "video", expected'),
    ("theirs", FILE | {"weights": "pretrained"}, "encoders.theirs.weights: no such key"),
    ("vgg16", {"image_size": 256}, "encoders.vgg16.image_size: no such key"),
    ("vgg16", {"template": "all"}, "encoders.vgg16.template: no such key"),
    ("vgg16", {"library": "timm"}, "encoders.vgg16.library: no such key"),
    ("vgg16", {"batchsize": 4}, "encoders.vgg16.batchsize: no such key; did you mean batch_size?"),
    ("vgg16", {"batch_size": 0}, "encoders.vgg16.batch_size: found 0, expected"),
    ("vgg16", {"batch_size": "8"}, 'encoders.vgg16.batch_size: found "8", expected'),
    ("vgg16", {"precision": "fp16"}, 'encoders.vgg16.precision: found "fp16", expected'),
    ("vgg16", {"stored_as": "f64"}, 'encoders.vgg16.stored_as: found "f64", expected'),
    ("vit_b16_patches", {"image_size": 384}, "encoders.vit_b16_patches.image_size: found 384, expected"),
    ("minilm", {"image_size": 224}, "encoders.minilm.image_size: no such key"),
    ("minilm", {"fields": ["title"]}, "encoders.minilm.fields: no such key"),
    ("minilm", {"template": "{price}"}, 'encoders.minilm.template: found "{price}", expected all, mmrec, or a text'),
    ("minilm", {"max_tokens": 2}, "encoders.minilm.max_tokens: found 2, expected"),
]


@pytest.mark.parametrize(("name", "values", "message"), MISTAKES)
def test_every_mistake_is_one_clear_line(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(name, values)
    assert str(caught.value).startswith(f"params.yaml: {message}")
    assert "\n" not in str(caught.value).replace(name, "")


def test_unknown_encoder_is_told_that_it_may_have_a_library() -> None:
    with pytest.raises(ParamsError, match=r"or one of your own with a library \(timm, sentence-transformers, file\)$"):
        parse("mine", {"weights": "random:0"})


def test_impossible_values_of_extract_are_refused() -> None:
    with pytest.raises(ValidationError, match="encoders"):
        ExtractParams(encoders=())
    with pytest.raises(ValidationError, match="missing"):
        ExtractParams.model_validate({"missing": "median"})
