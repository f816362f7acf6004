"""The whole of params.yaml: the shipped file, and what is wrong across sections."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from mmprep.models.encoders.catalogue import CATALOGUE as ENCODERS
from mmprep.models.encoders.params import ImageEncoderParams, TextEncoderParams
from mmprep.models.recommenders.bm3 import BM3Params
from mmprep.models.recommenders.catalogue import CATALOGUE as RECOMMENDERS
from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.stages.config.load import load
from mmprep.stages.config.parameters import Parameters, Sections

SHIPPED = Path(__file__).parents[3] / "params.yaml"
SECTIONS = ("download", "ingest", "filter", "split", "extract", "graphs", "train", "evaluate")
OWN = "or one of your own with a library (timm, sentence-transformers, file)"
ALLOWED_ENCODERS = f"{', '.join(ENCODERS)}), {OWN}"
NETWORK = "stored_as, reduce, weights, sha256, batch_size, precision"
TIMM = {"library": "timm", "model": "vit_small_patch14_dinov2.lvd142m"}
SENTENCE = {"library": "sentence-transformers", "model": "intfloat/e5-small-v2"}
FILE = {"library": "file", "path": "image_feat.npy", "modality": "image"}
BOTH = ("vgg16", "minilm")
TOKENS = {
    "extract__encoders": [*BOTH, "vit_b16_patches", "minilm_tokens"],
    "graphs__intra_item": {"encoders": ["vit_b16_patches", "minilm_tokens"]},
    "train__token_based": ["mdr_chca"],
}
PSEUDO = {
    "graphs__intra_item": {"encoders": ["vgg16", "minilm"], "pseudo_tokens": True},
    "train__token_based": ["mdr_chca"],
    "train__patches": "vgg16",
    "train__text_tokens": "minilm",
}
ALLOWED_RECOMMENDERS = ", ".join(RECOMMENDERS)


def as_yaml(values: dict[str, Any]) -> str:
    text = StringIO()
    YAML(typ="safe", pure=True).dump(values, text)
    return text.getvalue()


def load_with(folder: Path, **changes: Any) -> Parameters:  # noqa: ANN401 - any YAML value
    """Parameters of a small file, with other values under dotted keys, in which "__" stands for the dot."""
    values: dict[str, Any] = {"dataset": "toys"}
    for key, value in changes.items():
        *sections, name = key.split("__")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    path = folder / "p.yaml"
    path.write_text(as_yaml(values))
    return load(path)


def mistake(folder: Path, **changes: Any) -> str:  # noqa: ANN401 - any YAML value
    """The message of a file with these values, less the file's name."""
    with pytest.raises(ParamsError) as caught:
        load_with(folder, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder}/p.yaml: ")
    return message.removeprefix(f"{folder}/p.yaml: ")


def shipped() -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(SHIPPED)
    return values


def test_the_shipped_file_is_right() -> None:
    params = load(SHIPPED)
    params.check_recommenders()
    assert params.dataset == "sample"
    assert set(params.encoders) == set(shipped()["encoders"])


@pytest.mark.parametrize("section", SECTIONS)
def test_the_shipped_values_are_the_defaults(section: str) -> None:
    found = getattr(load(SHIPPED, "toys").sections, section)
    assert found == type(found)()


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_a_recommender_runs_with_its_defaults_but_on_the_sample(name: str) -> None:
    found = load(SHIPPED, "toys").recommender(name)
    assert found == type(found)()


def test_what_suits_the_sample_lies_in_its_overlay() -> None:
    params = load(SHIPPED)
    assert params.sections.train.batch_size == 512
    changed = {name: params.recommender_settings(name).changes for name in RECOMMENDERS}
    fitted = shipped()["overlays"]["sample"]["recommenders"]
    assert {name: {each.key: each.value for each in changes} for name, changes in changed.items() if changes} == fitted
    assert {each.origin for changes in changed.values() for each in changes} == {f"{SHIPPED}: overlays.sample"}


def test_the_shipped_file_names_every_parameter() -> None:
    values = shipped()
    assert set(values) == set(Sections.model_fields)
    for section in SECTIONS:
        if section != "graphs":
            assert set(values[section]) == set(Sections.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
    graphs = load(SHIPPED).sections.graphs.model_dump()
    assert set(values["graphs"]) == set(graphs)
    for name, section in graphs.items():
        if isinstance(section, dict):
            assert set(values["graphs"][name]) == set(section)
    assert values["recommenders"] == {}  # they are documented by `mmprep recommenders NAME`


def test_the_encoders_of_the_shipped_file_are_those_that_run() -> None:
    values = shipped()
    assert set(values["extract"]["encoders"]) <= set(values["encoders"])
    assert {values["train"]["image"], values["train"]["text"]} <= set(values["extract"]["encoders"])
    assert set(values["graphs"]["encoders"]) <= set(values["extract"]["encoders"])


def test_all_but_the_dataset_has_defaults(tmp_path: Path) -> None:
    params = load_with(tmp_path)
    assert params.dataset == "toys"
    assert params.sections.filter.k_core == 5
    assert params.encoder("minilm") == TextEncoderParams()
    assert params.recommender("bpr").embedding_size == 64
    assert mistake(tmp_path, dataset=[3]) == "dataset: found [3], expected a valid string"
    assert mistake(tmp_path, dataset=True) == "dataset: found true, expected a valid string"


def test_a_section_in_the_file_reaches_its_encoder_and_recommender(tmp_path: Path) -> None:
    params = load_with(
        tmp_path,
        encoders__minilm={"weights": "random:7", "template": "{brand}: {title}", "batch_size": 3},
        recommenders__lightgcn={"layers": 4},
    )
    assert params.encoder("minilm") == TextEncoderParams(weights="random:7", template="{brand}: {title}", batch_size=3)
    assert params.encoder("vgg16") == ImageEncoderParams(weights="pretrained")
    assert params.recommender("lightgcn").model_dump()["layers"] == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"filter__kcore": 3},
            "filter.kcore: no such key; did you mean k_core? "
            "(allowed: k_core, k_core_items, duplicates, min_rating, require)",
        ),
        ({"filter__k_core": 0}, "filter.k_core: found 0, expected greater than or equal to 1"),
        ({"filter__k_core": 2.5}, "filter.k_core: found 2.5, expected a valid integer"),
        (
            {"ingest__max_reject_fraction": 1.5},
            "ingest.max_reject_fraction: found 1.5, expected less than or equal to 1",
        ),
        (
            {"split__rule": "random"},
            "split.rule: found \"random\", expected 'mmrec', 'lattice', 'ratio', 'temporal', "
            "'leave_one_out', 'global_time' or 'given'",
        ),
        ({"split__seed": -1}, "split.seed: found -1, expected greater than or equal to 0"),
        ({"graphs__knn__k": "ten"}, 'graphs.knn.k: found "ten", expected a valid integer'),
        ({"graphs__knn__n": 5}, "graphs.knn.n: no such key (allowed: k, include_self, weight, normalise, exact_up_to)"),
        (
            {"extract__encoders": "vgg16"},
            'extract.encoders: found "vgg16", expected a valid array',
        ),
        ({"extract__encoders": [3]}, "extract.encoders.0: found 3, expected a valid string"),
        ({"extract__missing": "median"}, "extract.missing: found \"median\", expected 'mean', 'zeros' or 'error'"),
        ({"train__max_epochs": 0}, "train.max_epochs: found 0, expected greater than or equal to 1"),
        ({"evaluate__mask_val": "no"}, 'evaluate.mask_val: found "no", expected a valid boolean'),
        ({"encoders__minilm": 5}, "encoders.minilm: found 5, expected an object"),
        (
            {"encoders__minilm__batch_size": 0},
            "encoders.minilm.batch_size: found 0, expected greater than or equal to 1",
        ),
        (
            {"encoders__vgg16__template": "all"},
            f"encoders.vgg16.template: no such key (allowed: {NETWORK})",
        ),
        (
            {"encoders__minilm__template": "{titel}"},
            'encoders.minilm.template: found "{titel}", expected all, mmrec, or a text with any of {title}, '
            "{description}, {brand}, {categories}, {first_category}, {features}, {details} in it",
        ),
        (
            {"encoders__minilm__weights": "random:seven"},
            'encoders.minilm.weights: found "random:seven", expected pretrained, a file or folder, package:NAME, or '
            "random:SEED with a whole number",
        ),
        (
            {"encoders__vgg16__precision": "fp16"},
            "encoders.vgg16.precision: found \"fp16\", expected 'fp32' or 'bf16'",
        ),
        ({"encoders__vgg16__stored_as": "f64"}, "encoders.vgg16.stored_as: found \"f64\", expected 'f32' or 'f16'"),
        (
            {"encoders__vgg16__reduce": "pca:0"},
            "encoders.vgg16.reduce: found \"pca:0\", expected pattern '^pca:[1-9]\\d{0,5}$'",
        ),
        ({"encoders": []}, "encoders: found [], expected an object"),
        ({"graphs__encoders": "vgg16"}, 'graphs.encoders: found "vgg16", expected a valid array'),
    ],
)
def test_a_mistake_in_a_section_is_named_by_its_whole_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert mistake(tmp_path, **changes) == message


@pytest.mark.parametrize("weights", ["", "random", "random:", "random:-1", "random:1.5", "package:"])
def test_weights_that_name_nothing_are_refused(tmp_path: Path, weights: str) -> None:
    assert mistake(tmp_path, encoders__vgg16__weights=weights).startswith(
        f'encoders.vgg16.weights: found "{weights}", expected pretrained, a file or folder, package:NAME, or random:'
    )


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, digest: str) -> None:
    assert mistake(tmp_path, encoders__vgg16__sha256=digest) == (
        f"encoders.vgg16.sha256: found \"{digest}\", expected pattern '^[0-9a-f]{{64}}$'"
    )


def test_some_encoder_must_be_named(tmp_path: Path) -> None:
    assert mistake(tmp_path, extract__encoders=[]) == "extract.encoders: found [], expected at least 1 item"


@pytest.mark.parametrize(
    ("own", "modality", "form"),
    [
        (TIMM, "image", "vector"),
        (TIMM | {"form": "patches", "reduce": "pca:128", "precision": "bf16"}, "image", "patches"),
        (SENTENCE | {"template": "{title}", "max_tokens": 64, "weights": "a/folder"}, "text", "vector"),
        (SENTENCE | {"form": "tokens", "stored_as": "f16"}, "text", "tokens"),
        (FILE, "image", "vector"),
        (FILE | {"modality": "text"}, "text", "vector"),
    ],
)
def test_an_encoder_of_ones_own_is_named_by_its_library(
    tmp_path: Path, own: dict[str, str], modality: str, form: str
) -> None:
    params = load_with(tmp_path, encoders__mine=own, extract__encoders=[*BOTH, "mine"])
    found = params.describe_encoder("mine")
    assert (found.name, found.library, found.modality, found.form) == ("mine", own["library"], modality, form)
    assert own.items() <= params.encoder("mine").model_dump().items()
    assert params.encoders_of(found.modality)[-1] == "mine"


@pytest.mark.parametrize("own", [TIMM, FILE])
def test_an_encoder_of_ones_own_may_be_drawn_and_trained_on(tmp_path: Path, own: dict[str, str]) -> None:
    params = load_with(
        tmp_path,
        encoders__mine=own,
        extract__encoders=["mine"],
        graphs__encoders=["mine"],
        train__image="mine",
        train__text="",
    )
    assert params.sections.graphs.encoders == ("mine",)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"weights": "pretrained"},
            f": found 'mine', expected an encoder; did you mean minilm? (allowed: {ALLOWED_ENCODERS}",
        ),
        ({"library": "tim"}, ".library: found 'tim', expected one of timm, sentence-transformers, file"),
        ({"library": ["timm"]}, ".library: found ['timm'], expected one of timm, sentence-transformers, file"),
        ({"library": "timm"}, ".model: missing; it must be given"),
        ({"library": "timm", "model": 3}, ".model: found 3, expected a valid string"),
        (TIMM | {"form": "tokens"}, ".form: found \"tokens\", expected 'vector' or 'patches'"),
        (SENTENCE | {"form": "patches"}, ".form: found \"patches\", expected 'vector' or 'tokens'"),
        (TIMM | {"template": "all"}, f".template: no such key (allowed: {NETWORK}, library, model, form)"),
        (SENTENCE | {"max_tokens": 2}, ".max_tokens: found 2, expected greater than or equal to 3"),
        ({"library": "file", "path": "x.npy"}, ".modality: missing; it must be given"),
        (FILE | {"modality": "sound"}, ".modality: found \"sound\", expected 'image', 'text' or 'audio'"),
        (
            FILE | {"weights": "pretrained"},
            ".weights: no such key (allowed: stored_as, reduce, library, path, modality, rows, max_unmatched_fraction)",
        ),
        (None, ": found null, expected an object"),
    ],
)
def test_a_mistake_in_an_encoder_of_ones_own_is_named(tmp_path: Path, own: dict[str, str] | None, message: str) -> None:
    assert mistake(tmp_path, encoders__mine=own) == f"encoders.mine{message}"


@pytest.mark.parametrize("name", ["../x", "a b", ".mine", "a/b", "-x"])
def test_an_encoders_name_that_is_no_folders_is_refused(tmp_path: Path, name: str) -> None:
    expected = f"encoders.{name}: expected letters, digits, '_', '-' and '.', as the name names a folder"
    assert mistake(tmp_path, **{f"encoders__{name}": TIMM}) == expected


def test_an_encoder_that_is_known_takes_no_other_library(tmp_path: Path) -> None:
    message = mistake(tmp_path, encoders__vgg16={"library": "timm"})
    assert message == f"encoders.vgg16.library: no such key (allowed: {NETWORK})"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"extract__encoders": ["minilm", "vgg_16"]},
            f"extract.encoders: found 'vgg_16', expected an encoder; did you mean vgg16? (allowed: {ALLOWED_ENCODERS}",
        ),
        (
            {"encoders__qqq": {}},
            f"encoders.qqq: found 'qqq', expected an encoder (allowed: {ALLOWED_ENCODERS}",
        ),
        (
            {"recommenders__lightgn": {}},
            "recommenders: found 'lightgn', expected a recommender; did you mean lightgcn? "
            f"(allowed: {ALLOWED_RECOMMENDERS})",
        ),
        (
            {"train__collaborative": ["bprr"]},
            "train.collaborative: found 'bprr', expected a recommender; did you mean bpr? "
            f"(allowed: {ALLOWED_RECOMMENDERS})",
        ),
        (
            {"train__collaborative": ["bpr", "vbpr"]},
            "train.collaborative: found 'vbpr', which belongs under train.multimodal",
        ),
        ({"train__multimodal": ["bpr"]}, "train.multimodal: found 'bpr', which belongs under train.collaborative"),
        (
            {"train__image": "vgg_16"},
            f"train.image: found 'vgg_16', expected an encoder; did you mean vgg16? (allowed: {ALLOWED_ENCODERS}",
        ),
        ({"train__image": "minilm"}, "train.image: found 'minilm', an encoder of text, expected one of image"),
        ({"train__text": "vgg16"}, "train.text: found 'vgg16', an encoder of image, expected one of text"),
        (
            {"extract__encoders": ["minilm"], "graphs__encoders": []},
            "train.image: found 'vgg16', expected one of extract.encoders (minilm)",
        ),
        (
            {"extract__encoders": ["vgg16"], "graphs__encoders": []},
            "train.text: found 'minilm', expected one of extract.encoders (vgg16)",
        ),
        (
            {"extract__encoders": ["minilm"]},
            "graphs.encoders: found 'vgg16', expected one of extract.encoders (minilm)",
        ),
        (
            {"graphs__encoders": ["vgg61"]},
            "graphs.encoders: found 'vgg61', expected one of extract.encoders (vgg16, minilm)",
        ),
        ({"graphs__encoders": ["minilm", "minilm"]}, "graphs.encoders: found 'minilm' twice, expected each once"),
        ({"extract__encoders": ["vgg16", "vgg16"]}, "extract.encoders: found 'vgg16' twice, expected each once"),
        ({"train__collaborative": ["bpr", "bpr"]}, "train: found 'bpr' twice, expected each once"),
        (
            {"extract__encoders": [*BOTH, "minilm_tokens"], "graphs__encoders": ["minilm_tokens"]},
            "graphs.encoders: found 'minilm_tokens', which gives tokens; expected an encoder of one vector per item",
        ),
        (
            {
                "extract__encoders": [*BOTH, "mine"],
                "encoders__mine": TIMM | {"form": "patches"},
                "graphs__encoders": ["mine"],
            },
            "graphs.encoders: found 'mine', which gives patches; expected an encoder of one vector per item",
        ),
        (
            {"extract__encoders": [*BOTH, "vit_b16_patches"], "train__image": "vit_b16_patches"},
            "train.image: found 'vit_b16_patches', which gives patches; expected an encoder of one vector per item",
        ),
        (
            {"extract__encoders": [*BOTH, "minilm_tokens"], "train__text": "minilm_tokens"},
            "train.text: found 'minilm_tokens', which gives tokens; expected an encoder of one vector per item",
        ),
        (
            {"extract__encoders": [*BOTH, "mine"], "encoders__mine": SENTENCE, "train__image": "mine"},
            "train.image: found 'mine', an encoder of text, expected one of image",
        ),
        ({"train__token_based": ["bpr"]}, "train.token_based: found 'bpr', which belongs under train.collaborative"),
        (
            {"train__multimodal": ["mdr_chca"]},
            "train.multimodal: found 'mdr_chca', which belongs under train.token_based",
        ),
        (
            {"train__token_based": ["mdr_chca"]},
            "train.patches: found 'vit_b16_patches', expected one of extract.encoders (vgg16, minilm)",
        ),
        (
            TOKENS | {"train__patches": "minilm_tokens"},
            "train.patches: found 'minilm_tokens', an encoder of text, expected one of image",
        ),
        (
            TOKENS | {"train__text_tokens": "minilm"},
            "train.text_tokens: found 'minilm', which gives one vector per item; "
            "expected an encoder of patches or tokens",
        ),
        (
            TOKENS | {"graphs__intra_item": {"encoders": ["vit_b16_patches"]}},
            "train.text_tokens: found 'minilm_tokens', expected one of graphs.intra_item.encoders (vit_b16_patches)",
        ),
        (
            {"train__image": "", "train__text": ""},
            "train.image, train.text and train.audio are all empty; multimodal recommenders need features",
        ),
        ({"graphs__encoders": ["vgg16"]}, "train.text: found 'minilm', expected one of graphs.encoders (vgg16)"),
        ({"graphs__encoders": []}, "train.image: found 'vgg16', expected one of graphs.encoders (empty)"),
    ],
)
def test_sections_that_do_not_fit_each_other_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert mistake(tmp_path, **changes) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"extract__encoders": ["minilm"], "graphs__encoders": ["minilm"], "train__image": ""},
        {"extract__encoders": ["vgg16"], "graphs__encoders": ["vgg16"], "train__text": ""},
        {"extract__encoders": ["minilm"], "graphs__encoders": [], "train__multimodal": [], "train__item_graphs": []},
        {"train__image": "", "train__text": "", "train__multimodal": [], "train__item_graphs": []},
        {"train__collaborative": []},
        {"train__patches": "nothing"},
        TOKENS,
        PSEUDO,
    ],
)
def test_a_modality_may_be_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    load_with(tmp_path, **changes)


def test_pieces_of_vectors_are_told_from_patches_and_tokens(tmp_path: Path) -> None:
    assert load_with(tmp_path, **TOKENS).pseudo_tokens == []
    assert load_with(tmp_path, **PSEUDO).pseudo_tokens == ["vgg16", "minilm"]


def test_a_recommenders_own_keys_are_checked_when_it_is_asked_for(tmp_path: Path) -> None:
    params = load_with(tmp_path, recommenders__lightgcn={"layer": 2})
    params.recommender("bpr")
    for ask in (lambda: params.recommender("lightgcn"), params.check_recommenders):
        with pytest.raises(ParamsError) as caught:
            ask()
        assert str(caught.value) == (
            f"{tmp_path}/p.yaml: recommenders.lightgcn.layer: no such key; did you mean layers? "
            "(allowed: embedding_size, learning_rate, lr_decay, lr_decay_epochs, layers, regularisation)"
        )


@pytest.mark.parametrize(("ask", "kind"), [("encoder", "an encoder"), ("recommender", "a recommender")])
def test_an_unknown_name_is_named(tmp_path: Path, ask: str, kind: str) -> None:
    params = load_with(tmp_path)
    with pytest.raises(ParamsError, match=f"found 'nothing', expected {kind} "):
        getattr(params, ask)("nothing")


def test_a_dataset_may_be_named_by_a_year(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("dataset: 2018\noverlays:\n  2018: {filter: {k_core: 3}}\n")
    params = load(path)
    assert (params.dataset, params.sections.filter.k_core) == ("2018", 3)


def test_another_dataset_changes_nothing_else(tmp_path: Path) -> None:
    params = load_with(tmp_path, filter__k_core=3)
    other = load(tmp_path / "p.yaml", "books")
    assert (other.dataset, other.sections.filter.k_core, params.dataset) == ("books", 3, "toys")
    assert replace(other, dataset="toys") == params


OVERLAY = {
    "filter": {"k_core": 2},
    "graphs": {"knn": {"k": 5}},
    "encoders": {"minilm": {"template": "mmrec"}},
    "recommenders": {"bm3": {"preset": "elec", "cl_weight": 1.5}},
}


def test_overlay_of_the_dataset_goes_before_the_file_and_that_of_another_changes_nothing(tmp_path: Path) -> None:
    written = {"bm3": {"layers": 3, "cl_weight": 0.5, "embedding_size": 8}}
    changes = {"filter__k_core": 3, "filter__k_core_items": 4, "recommenders": written, "overlays": {"toys": OVERLAY}}
    params = load_with(tmp_path, **changes)
    assert (params.sections.filter.k_core, params.sections.filter.k_core_items) == (2, 4)
    assert (params.sections.graphs.knn.k, params.sections.graphs.knn.weight) == (5, "cosine")
    assert params.encoder("minilm") == TextEncoderParams(template="mmrec")
    # The overlay's preset goes before the keys of the file: it is the narrower place.
    assert params.recommender("bm3") == BM3Params(
        layers=2, dropout=0.3, regularisation=0.1, cl_weight=1.5, embedding_size=8
    )
    assert {
        each.key: each.origin.removeprefix(f"{tmp_path}/") for each in params.recommender_settings("bm3").changes
    } == {
        "embedding_size": "p.yaml",
        "layers": "p.yaml: overlays.toys, preset elec",
        "dropout": "p.yaml: overlays.toys, preset elec",
        "cl_weight": "p.yaml: overlays.toys",
    }
    other = load(tmp_path / "p.yaml", "books")
    assert other.sections.filter.k_core == 3
    assert other.recommender("bm3") == BM3Params(layers=3, cl_weight=0.5, embedding_size=8)


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"filter": {"k_cor": 2}}, "overlays.toys.filter.k_cor: no such key; did you mean k_core? "),
        ({"filtr": {}}, "overlays.toys.filtr: no such key; did you mean filter? "),
        ({"train": {"batch_size": 0}}, "overlays.toys.train.batch_size: found 0, expected greater than or equal to 1"),
        ({"dataset": "x"}, "overlays.toys.dataset: found here, expected outside overlays, as dvc.yaml reads it"),
        (
            {"train": {"image": "clip"}},
            "overlays.toys.train.image: found here, expected outside overlays, as dvc.yaml reads it",
        ),
        ({"overlays": {}}, "overlays.toys.overlays: found here, expected outside overlays, as dvc.yaml reads it"),
    ],
)
@pytest.mark.parametrize("dataset", ["toys", "books"])
def test_mistake_in_an_overlay_is_located_whatever_the_dataset(
    tmp_path: Path, dataset: str, overlay: dict[str, Any], message: str
) -> None:
    assert mistake(tmp_path, dataset=dataset, overlays={"toys": overlay}).startswith(message)


def test_mistake_in_a_recommender_of_an_overlay_is_located(tmp_path: Path) -> None:
    params = load_with(tmp_path, overlays={"toys": {"recommenders": {"bm3": {"dropout": 2}}}})
    with pytest.raises(ParamsError) as caught:
        params.recommender("bm3")
    assert str(caught.value) == (
        f"{tmp_path}/p.yaml: overlays.toys: recommenders.bm3.dropout: found 2, expected less than 1"
    )


def test_encoders_are_told_by_modality(tmp_path: Path) -> None:
    params = load_with(tmp_path, extract__encoders=["minilm", "vgg16"])
    assert params.encoders_of(None) == ["minilm", "vgg16"]
    assert params.encoders_of("image") == ["vgg16"]
    assert params.encoders_of("text") == ["minilm"]


def test_parameters_are_frozen(tmp_path: Path) -> None:
    params = load_with(tmp_path)
    with pytest.raises(FrozenInstanceError):
        params.dataset = "books"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        params.sections.filter.k_core = 1
    with pytest.raises(ValidationError, match="frozen"):
        params.encoder("vgg16").batch_size = 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nope.yaml: no such parameter file; give one with --params FILE$"):
        load(tmp_path / "nope.yaml")


def test_parameters_are_checked_without_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from mmprep.stages.config.load import load; "
        "load(Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(SHIPPED)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__tokens": []}, "train.tokens: renamed; write train.token_based"),
        ({"train__words": "minilm_tokens"}, "train.words: renamed; write train.text_tokens"),
        ({"extract__missing": "drop"}, 'extract.missing: found "drop", expected error, as drop is called now'),
    ],
)
def test_keys_of_earlier_versions_name_the_new_ones(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert mistake(tmp_path, **changes) == message


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("lightgcn", "decay", "lr_decay"), ("bpr", "decay_epochs", "lr_decay_epochs"), ("sgl", "drop", "edge_dropout")],
)
def test_recommenders_keys_of_earlier_versions_name_the_new_ones(tmp_path: Path, name: str, old: str, new: str) -> None:
    parameters = load_with(tmp_path, **{f"recommenders__{name}": {old: 0.5}})
    with pytest.raises(ParamsError) as caught:
        parameters.recommender(name)
    assert str(caught.value) == f"{tmp_path}/p.yaml: recommenders.{name}.{old}: renamed; write {new}"
