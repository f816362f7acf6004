"""Features of papers, written into params.yaml as visible keys."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from imports import ROOT
from ruamel.yaml import YAML

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.stages.cli.main import main
from mmprep.stages.config.feature_presets import PRESETS, apply, look_up
from mmprep.stages.config.load import load
from mmprep.stages.config.rewrite import round_trip

FILES = {
    "own": (),
    "released": ("image_features_Toys.b",),
    "mmrec": ("image_feat.npy", "text_feat.npy"),
    "mmssl": ("image_feat.npy", "text_feat.npy", "audio_feat.npy"),
    "patches_tokens": (),
}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A copy of the shipped params.yaml, for a dataset without any file yet."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    layout = Layout(Path("data"), "sample")
    layout.raw.mkdir(parents=True)
    return layout


def put(layout: Layout, *names: str) -> None:
    for name in names:
        (layout.raw / name).write_bytes(b"")


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    return loaded


def set_by(name: str, layout: Layout) -> dict[str, Any]:
    """The keys that a preset changes in the shipped file, as the file has them afterwards."""
    changes = apply(name, Path("params.yaml"), layout)
    after = values()
    assert [change.after for change in changes] == [look_up(after, change.path) for change in changes]
    load(Path("params.yaml"))
    return {change.key: change.after for change in changes}


def npy(modality: str, **more: str) -> dict[str, str]:
    return {"library": "file", "path": f"{modality}_feat.npy", "modality": modality, **more}


def test_own_features_have_published_weights(layout: Layout) -> None:
    assert set_by("own", layout) == {"encoders.vgg16.weights": "pretrained"}


def test_released_features_are_those_in_the_folder(layout: Layout) -> None:
    put(layout, "image_features_Toys.b.gz")
    assert set_by("released", layout) == {
        "extract.encoders": ["released", "minilm"],
        "graphs.encoders": ["released", "minilm"],
        "train.image": "released",
        "encoders.released": {"library": "file", "path": "image_features_Toys.b.gz", "modality": "image"},
        "encoders.minilm.template": "mmrec",
    }


@pytest.mark.parametrize("mapping", [False, True])
def test_arrays_of_mmrec_are_by_number_without_a_table_of_ids(layout: Layout, mapping: bool) -> None:
    put(layout, *FILES["mmrec"], *(["i_id_mapping.csv"] if mapping else []))
    more = {} if mapping else {"rows": "number"}
    assert set_by("mmrec", layout) == {
        "extract.encoders": ["image_feat", "text_feat"],
        "graphs.encoders": ["image_feat", "text_feat"],
        "train.image": "image_feat",
        "train.text": "text_feat",
        "encoders.image_feat": npy("image", **more),
        "encoders.text_feat": npy("text", **more),
    }


def test_the_layout_of_mmssl_has_three_modalities_and_a_given_split(layout: Layout) -> None:
    put(layout, *FILES["mmssl"])
    names = ["image_feat", "text_feat", "audio_feat"]
    assert set_by("mmssl", layout) == {
        "extract.encoders": names,
        "graphs.encoders": names,
        **{f"train.{modality}": f"{modality}_feat" for modality in ("image", "text", "audio")},
        **{f"encoders.{modality}_feat": npy(modality, rows="number") for modality in ("image", "text", "audio")},
        "overlays.sample.split.rule": "given",
        "overlays.sample.filter.k_core": 1,
    }
    assert load(Path("params.yaml")).sections.split.rule == "given"
    assert load(Path("params.yaml"), "other").sections.split.rule == "mmrec"


def test_patches_and_tokens_come_in_addition(layout: Layout) -> None:
    assert set_by("patches_tokens", layout) == {
        "extract.encoders": ["vgg16", "minilm", "vit_b16_patches", "minilm_tokens"],
        "graphs.intra_item.encoders": ["vit_b16_patches", "minilm_tokens"],
        "encoders.vit_b16_patches": {"weights": "pretrained", "image_size": 256, "stored_as": "f16"},
        "encoders.minilm_tokens": {"stored_as": "f16"},
    }
    put(layout, *FILES["mmssl"])
    names = ["image_feat", "text_feat", "audio_feat"]
    assert set_by("mmssl", layout)["extract.encoders"] == [*names, "vit_b16_patches", "minilm_tokens"]
    assert values()["graphs"]["encoders"] == names


@pytest.mark.parametrize("name", PRESETS)
def test_no_comment_and_no_other_line_is_lost(layout: Layout, name: str) -> None:
    before = Path("params.yaml").read_text().splitlines()
    put(layout, *FILES[name])
    changed = set_by(name, layout)
    after = Path("params.yaml").read_text().splitlines()
    assert changed
    assert [line for line in after if "#" in line] == [line for line in before if "#" in line]
    for section in ("extract:", "encoders:", "graphs:", "train:", "overlays:"):
        assert after[after.index(section) - 1] == before[before.index(section) - 1]  # its comment
    lost, new = set(before) - set(after), set(after) - set(before)
    assert 0 < len(lost | new) <= 2 * len(changed)
    for line in new:
        key = line.strip().split(":")[0]
        assert key in {part for name in changed for part in name.split(".")[-2:]}
    once = Path("params.yaml").read_bytes()
    assert apply(name, Path("params.yaml"), layout) == []
    assert Path("params.yaml").read_bytes() == once


@pytest.mark.parametrize("first", PRESETS)
@pytest.mark.parametrize("second", PRESETS)
def test_presets_follow_each_other(layout: Layout, first: str, second: str) -> None:
    put(layout, *FILES[first], *FILES[second])
    set_by(first, layout)
    set_by(second, layout)
    modalities = PRESETS[second].modalities or PRESETS[first].modalities
    if modalities:
        assert {key: values()["train"][key] for key in modalities} == modalities


def mmprep(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["features", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_every_change_is_printed_and_a_dry_run_writes_nothing(layout: Layout) -> None:
    put(layout, "image_features_Toys.b")
    before = Path("params.yaml").read_bytes()
    lines = [
        "  extract.encoders: [vgg16, minilm] -> [released, minilm]",
        "  graphs.encoders: [vgg16, minilm] -> [released, minilm]",
        "  train.image: vgg16 -> released",
        "  encoders.released: not set -> {library: file, path: image_features_Toys.b, modality: image}",
        "  encoders.minilm.template: all -> mmrec",
    ]
    printed = mmprep("released", "--dry-run").stdout.splitlines()
    assert printed == ["params.yaml: would change 5 keys", *lines]
    assert Path("params.yaml").read_bytes() == before
    assert mmprep("released").stdout.splitlines() == ["params.yaml: changed 5 keys", *lines]
    assert mmprep("released").stdout.splitlines() == ["params.yaml: changed 0 keys"]


def test_presets_are_listed(layout: Layout) -> None:
    del layout
    listed = mmprep().stdout.splitlines()
    assert [line for line in listed if not line.startswith(" ")] == list(FILES)


@pytest.mark.parametrize(
    ("name", "there", "code", "message"),
    [
        ("nothing", (), 2, "features: found 'nothing', expected a preset (allowed: own, released, mmrec, mmssl, patc"),
        (
            "released",
            (),
            3,
            "data/raw/sample/image_features_*.b*: not found; fetch them with `mmprep download --edition 2014 "
            "--category CATEGORY --image-features`",
        ),
        (
            "released",
            ("image_features_A.b", "image_features_B.b"),
            2,
            "data/raw/sample: found image_features_A.b, image_features_B.b, expected one of them; remove the others",
        ),
        ("mmrec", ("image_feat.npy",), 3, "data/raw/sample/text_feat.npy: not found; put the published file there"),
    ],
)
def test_what_is_missing_is_one_line_and_nothing_is_written(
    layout: Layout, name: str, there: tuple[str, ...], code: int, message: str
) -> None:
    put(layout, *there)
    before = Path("params.yaml").read_bytes()
    result = mmprep(name)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert result.stderr.startswith(f"error: {message}")
    assert Path("params.yaml").read_bytes() == before


def test_a_file_of_ones_own_is_changed_where_it_says_so(layout: Layout) -> None:
    own = "dataset: sample\ntrain: &t {image: '', text: minilm}  # mine\n"
    Path("own.yaml").write_text(own)
    put(layout, *FILES["mmrec"])
    assert mmprep("mmrec", "--params", "own.yaml").exit_code == 0
    assert load(Path("own.yaml")).sections.train.modalities == {"image": "image_feat", "text": "text_feat"}
    assert "# mine" in Path("own.yaml").read_text()


def test_anchors_that_would_change_other_keys_are_refused(layout: Layout) -> None:
    shared = (
        "dataset: sample\nextract: {encoders: [vgg16, minilm]}\ntrain: {text: minilm}\n"
        "encoders:\n  minilm: &same {template: all}\n  bert_base: *same\n"
    )
    Path("params.yaml").write_text(shared)
    put(layout, "image_features_Toys.b")
    result = mmprep("released")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    expected = "error: params.yaml: cannot be changed without changing other keys; write anchors (&, *) out\n"
    assert result.stderr == expected
    assert Path("params.yaml").read_text() == shared


def test_the_shipped_file_is_as_the_writer_has_it(tmp_path: Path) -> None:
    with (tmp_path / "params.yaml").open("w") as file:
        round_trip().dump(round_trip().load((ROOT / "params.yaml").read_text()), file)
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_a_key_of_the_datasets_overlay_is_changed_there(layout: Layout) -> None:
    Path("params.yaml").write_text("dataset: sample\noverlays:\n  sample: {encoders: {vgg16: {weights: random:7}}}\n")
    assert set_by("own", layout)["overlays.sample.encoders.vgg16"] == {"weights": "pretrained"}
    assert load(Path("params.yaml")).encoder("vgg16").model_dump()["weights"] == "pretrained"


def test_a_dataset_may_have_dots_in_its_name(layout: Layout) -> None:
    layout = Layout(layout.root, "tik.tok")
    layout.raw.mkdir()
    put(layout, *FILES["mmssl"])
    set_by("mmssl", layout)
    assert load(Path("params.yaml"), "tik.tok").sections.filter.k_core == 1
    assert load(Path("params.yaml")).sections.filter.k_core == 5


def test_invalid_parameters_are_refused_before_anything_is_written(layout: Layout) -> None:
    Path("params.yaml").write_text("dataset: sample\nsplt: {}\n")
    with pytest.raises(ParamsError, match="splt: no such key"):
        apply("own", Path("params.yaml"), layout)
    with pytest.raises(MissingInputError, match="no such parameter file"):
        apply("own", Path("none.yaml"), layout)
