"""Presets: named values of several keys at once, in the classes and as sections of params.yaml name them."""

from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from mmprep.models.recommenders.base import RecommenderParams
from mmprep.models.recommenders.bm3 import BM3Params
from mmprep.models.recommenders.catalogue import CATALOGUE, describe
from mmprep.pipeline.errors import ParamsError
from mmprep.stages.config.load import load

KINDS = {name: describe(name).load().params_type for name in CATALOGUE}
PRESETS = [(name, preset) for name, kind in KINDS.items() for preset in kind.presets]


def section(folder: Path, name: str, values: dict[str, Any]) -> RecommenderParams:
    """The parameters of a recommender whose section in a file has these values."""
    with (folder / "p.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump({"dataset": "toys", "recommenders": {name: values}}, file)
    return load(folder / "p.yaml").recommender(name)


def mistake(folder: Path, name: str, values: dict[str, Any]) -> str:
    """The message about a section, less the file's name."""
    with pytest.raises(ParamsError) as caught:
        section(folder, name, values)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}/p.yaml: ")


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_key_needs_to_be_given(name: str, tmp_path: Path) -> None:
    assert section(tmp_path, name, {}) == KINDS[name]()


def test_there_are_presets() -> None:
    assert {name for name, _ in PRESETS} >= {"bm3", "lgmrec"}


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_preset_stands_for_its_keys_beside_the_defaults(name: str, preset: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    given = dict(kind.presets[preset])
    found = section(tmp_path, name, {"preset": preset}).model_dump()
    assert given
    assert found == {**kind().model_dump(), **given}


def another(kind: type[RecommenderParams], key: str, value: object) -> object:
    """A value that a key can have beside the one that a preset gives it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(each for each in get_args(kind.model_fields[key].annotation) if each != value)
    assert isinstance(value, int | float)
    return value + 1 if isinstance(value, int) else value / 2


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_key_of_the_section_goes_before_the_preset(name: str, preset: str, tmp_path: Path) -> None:
    values = KINDS[name].presets[preset]
    for key, value in values.items():
        other = another(KINDS[name], key, value)
        found = section(tmp_path, name, {key: other, "preset": preset}).model_dump()
        assert found == {**KINDS[name]().model_dump(), **values, key: other}


def test_other_keys_of_the_section_stay_beside_the_preset(tmp_path: Path) -> None:
    found = section(tmp_path, "bm3", {"preset": "elec", "embedding_size": 8, "dropout": 0.2})
    assert found == BM3Params(layers=2, dropout=0.2, regularisation=0.1, embedding_size=8)


ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_preset_acts_in_the_shipped_file_and_its_overlay(name: str, preset: str, tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    empty = "\nrecommenders: {}\n"
    assert text.count(empty) == 1
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(empty, f"\nrecommenders: {{{name}: {{preset: {preset}}}}}\n"))
    values, defaults = KINDS[name].presets[preset], KINDS[name]().model_dump()
    for dataset in ("sample", "toys"):
        before, after = load(ROOT / "params.yaml", dataset).recommender(name), load(path, dataset).recommender(name)
        fitted = load(path).sections.overlays["sample"]["recommenders"].get(name, {}) if dataset == "sample" else {}
        assert after.model_dump() == {**before.model_dump(), **values, **fitted}
    differs = any(defaults[key] != value for key, value in values.items())
    assert (after != before) == differs
    assert differs or (name, preset) in DEFAULTS


# Presets whose values are the class's defaults: they act in a dataset's overlay or on other keys of a wider place.
DEFAULTS = {
    *(("bm3", "baby"), ("lgmrec", "baby"), ("mdr_chca", "paper")),
}


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_preset_of_a_narrower_place_goes_before_all_keys_of_a_wider_one(name: str, preset: str, tmp_path: Path) -> None:
    values = KINDS[name].presets[preset]
    others = {key: another(KINDS[name], key, value) for key, value in values.items()}
    file = {"dataset": "toys", "recommenders": {name: others}}
    file["overlays"] = {"toys": {"recommenders": {name: {"preset": preset}}}}
    with (tmp_path / "p.yaml").open("w") as stream:
        YAML(typ="safe", pure=True).dump(file, stream)
    wide, narrow = load(tmp_path / "p.yaml", "books").recommender(name), load(tmp_path / "p.yaml").recommender(name)
    assert wide.model_dump() == {**KINDS[name]().model_dump(), **others}
    assert narrow.model_dump() == {**KINDS[name]().model_dump(), **values}
    assert wide != narrow


def test_written_key_that_disagrees_with_the_preset_beside_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("dataset: toys\nrecommenders: {bm3: {preset: elec, dropout: 0.2, layers: 2}}\n")
    settings = load(path).recommender_settings("bm3")
    assert settings.conflicts == (
        f"{path}: recommenders.bm3.dropout: found 0.2 beside preset elec, which sets 0.3; 0.2 is used; remove the key "
        "to follow the preset",
    )
    assert settings.params == BM3Params(layers=2, dropout=0.2)


def test_preset_of_nothing_is_none(tmp_path: Path) -> None:
    assert section(tmp_path, "bm3", {"preset": None}) == BM3Params()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "bm3",
            {"preset": "bay"},
            "recommenders.bm3.preset: found 'bay', expected a preset; did you mean baby? (allowed: baby, sports, elec)",
        ),
        (
            "bm3",
            {"preset": ["baby"]},
            "recommenders.bm3.preset: found ['baby'], expected a preset; did you mean baby? "
            "(allowed: baby, sports, elec)",
        ),
        ("bm3", {"preset": 3}, "recommenders.bm3.preset: found 3, expected a preset (allowed: baby, sports, elec)"),
        ("bpr", {"preset": "baby"}, "recommenders.bpr.preset: found 'baby', expected a preset (it has none)"),
        (
            "bm3",
            {"preset": "baby", "dropout": 2},
            "recommenders.bm3.dropout: found 2, expected less than 1",
        ),
    ],
)
def test_mistake_is_told_in_a_line(name: str, values: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert mistake(tmp_path, name, values) == message
