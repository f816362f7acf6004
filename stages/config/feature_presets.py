"""Features that papers use, as keys of params.yaml: `mmprep features NAME` writes them there, with comments kept.

Written keys, rather than a key that stands for others, as DVC reads the lists of encoders from the file itself, and as
nothing then depends on a value that the file does not show.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmprep.models.encoders.params import ExtractParams
from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.features.external import MAPPING
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import read_yaml, suggestion
from mmprep.stages.config.load import parse
from mmprep.stages.config.rewrite import in_yaml, rewrite

Key = tuple[str, ...]
"""A key of params.yaml and the sections around it."""

MISSING = object()
RELEASED = "image_features_*.b*"  # one a category; .b or .b.gz
MODALITIES = ("image", "text", "audio")
EXTERNAL = {"library": "file"}


@dataclass(frozen=True)
class FeaturePreset:
    """Features of one kind of publication.

    Attributes:
        name: as `mmprep features` takes it.
        summary: the features, in a line.
        used_by: papers that use them.
        modalities: encoder of each modality; None leaves train.image, train.text and train.audio.
        tokens: encoder of patches and of tokens (`patches`, `text_tokens`); None leaves them.
        sections: keys of each encoder's section.
        others: other keys that data published in this form need, for the dataset alone.
    """

    name: str
    summary: str
    used_by: str
    modalities: Mapping[str, str] | None = None
    tokens: Mapping[str, str] | None = None
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    others: Mapping[Key, Any] = field(default_factory=dict)


def external(modality: str) -> dict[str, str]:
    """Section of an encoder whose vectors are MMRec's or MMSSL's array of a modality."""
    return {**EXTERNAL, "path": f"{modality}_feat.npy", "modality": modality}


PRESETS = {
    preset.name: preset
    for preset in (
        FeaturePreset(
            "own",
            "VGG16 (4,096) and MiniLM (384) of the dataset's own photos and texts",
            "CAmgr names VGG; otherwise for data without published features",
            {"image": "vgg16", "text": "minilm", "audio": ""},
            sections={"vgg16": {"weights": "pretrained"}, "minilm": {"template": "all"}},
        ),
        FeaturePreset(
            "released",
            "4,096 numbers per photo as released with the reviews of 2014 (image_features_CATEGORY.b), and MiniLM",
            "LATTICE, and most papers through the data of LATTICE or MMRec",
            {"image": "released", "text": "minilm", "audio": ""},
            sections={
                "released": {**EXTERNAL, "path": RELEASED, "modality": "image"},
                "minilm": {"template": "mmrec"},
            },
        ),
        FeaturePreset(
            "mmrec",
            "image_feat.npy and text_feat.npy as MMRec distributes them",
            "MMRec, and DA-MRS, MGCN, FREEDOM and BM3 in it",
            {"image": "image_feat", "text": "text_feat", "audio": ""},
            sections={"image_feat": external("image"), "text_feat": external("text")},
        ),
        FeaturePreset(
            "mmssl",
            "image_feat.npy, text_feat.npy, audio_feat.npy by item number, beside matrices of a given split (TikTok)",
            "MMSSL, DiffMM, and DA-MRS on TikTok",
            {"image": "image_feat", "text": "text_feat", "audio": "audio_feat"},
            sections={f"{modality}_feat": {**external(modality), "rows": "number"} for modality in MODALITIES},
            others={("split", "rule"): "given", ("filter", "k_core"): 1},
        ),
        FeaturePreset(
            "patches_tokens",
            "256 patches of ViT-B/16 per photo and MiniLM's vector of each token, in addition to other features",
            "MDR-CHCA",
            tokens={"patches": "vit_b16_patches", "text_tokens": "minilm_tokens"},
            sections={
                "vit_b16_patches": {"weights": "pretrained", "image_size": 256, "stored_as": "f16"},
                "minilm_tokens": {"stored_as": "f16"},
            },
        ),
    )
}


@dataclass(frozen=True)
class Change:
    """A key of params.yaml that a preset sets.

    Attributes:
        path: the key.
        before: the value in the file; MISSING for none.
        after: the preset's value.
    """

    path: Key
    before: Any
    after: Any

    @property
    def key(self) -> str:
        """The key, dotted."""
        return ".".join(self.path)

    def __str__(self) -> str:
        before = "not set" if self.before is MISSING else in_yaml(self.before)
        return f"{self.key}: {before} -> {in_yaml(self.after)}"


def apply(name: str, path: Path, layout: Layout, *, write: bool = True) -> list[Change]:
    """Write a preset's keys into a parameter file; comments and other keys are kept.

    Args:
        name: of the preset.
        path: the parameter file.
        layout: of the dataset whose raw folder holds the features.
        write: whether the file is written, or only what would change is returned.

    Raises:
        ParamsError: there is no such preset, or the file with its keys would be invalid.
        MissingInputError: a file of the features does not exist.
    """
    if name not in PRESETS:
        raise ParamsError(f"features: found {name!r}, expected a preset{suggestion(name, PRESETS)}")
    values = read_yaml(path)
    parse(values, str(path), layout.dataset)
    wanted = keys_of(PRESETS[name], values, layout)
    changes = [Change(key, before, after) for key, after in wanted.items() if (before := look_up(values, key)) != after]
    expected = with_keys(values, changes)
    parse(expected, str(path), layout.dataset)
    if write and changes:
        rewrite(path, expected)
    return changes


def keys_of(preset: FeaturePreset, values: Mapping[str, Any], layout: Layout) -> dict[Key, Any]:
    """All keys that a preset sets; raises as `apply` does.

    What belongs to the dataset alone goes to its overlay, and so does a key that the overlay has already, as the
    overlay goes before the keys elsewhere.
    """
    overlay = ("overlays", layout.dataset)
    keys = {**keys_of_lists(preset, values), **keys_of_sections(preset, values, layout)}
    placed = {
        key if look_up(values, (*overlay, *key)) is MISSING else (*overlay, *key): value for key, value in keys.items()
    }
    return placed | {(*overlay, *key): value for key, value in preset.others.items()}


def keys_of_lists(preset: FeaturePreset, values: Mapping[str, Any]) -> dict[Key, Any]:
    """Keys that name encoders: the lists of those that run, and those of training."""
    keys: dict[Key, Any] = {}
    extracted, joined = (
        [] if names is MISSING else names
        for names in (look_up(values, ("extract", "encoders")), look_up(values, ("graphs", "intra_item", "encoders")))
    )
    if preset.modalities is not None:
        used = [encoder for encoder in preset.modalities.values() if encoder]
        keys["extract", "encoders"] = [*used, *(encoder for encoder in extracted if encoder in joined)]
        keys["graphs", "encoders"] = used
        keys |= {("train", modality): encoder for modality, encoder in preset.modalities.items()}
    if preset.tokens is not None:
        used = list(preset.tokens.values())
        before = extracted or list(ExtractParams().encoders)
        keys["extract", "encoders"] = list(dict.fromkeys((*before, *used)))
        keys["graphs", "intra_item", "encoders"] = used
        keys |= {("train", part): encoder for part, encoder in preset.tokens.items()}
    return keys


def keys_of_sections(preset: FeaturePreset, values: Mapping[str, Any], layout: Layout) -> dict[Key, Any]:
    """Keys of the encoders' sections; a section of features from a file is written as a whole."""
    keys: dict[Key, Any] = {}
    for encoder, section in preset.sections.items():
        located = dict(located_section(section, layout))
        place = ("encoders", encoder)
        if "library" in located or look_up(values, place) is MISSING:
            keys[place] = located
        else:
            keys |= {(*place, key): value for key, value in located.items()}
    return keys


def located_section(section: Mapping[str, Any], layout: Layout) -> Iterator[tuple[str, Any]]:
    """An encoder's section with the path that the raw folder has; raises MissingInputError if it has none."""
    path = section.get("path")
    if path is None:
        yield from section.items()
        return
    existing = sorted(file.name for file in layout.require_raw().glob(path))
    if not existing:
        advice = (
            "fetch them with `mmprep download --edition 2014 --category CATEGORY --image-features`"
            if path == RELEASED
            else "put the published file there"
        )
        raise MissingInputError(f"{layout.raw / path}: not found; {advice}")
    if len(existing) > 1:
        raise ParamsError(f"{layout.raw}: found {', '.join(existing)}, expected one of them; remove the others")
    yield from {**section, "path": existing[0]}.items()
    # Without a table of ids the rows of MMRec's arrays can only be items by number, which the key says.
    if existing[0].endswith(".npy") and "rows" not in section and not (layout.raw / MAPPING).exists():
        yield "rows", "number"


def look_up(values: object, key: Key) -> Any:  # noqa: ANN401 - any YAML value
    """The value of a key; MISSING if it is not written."""
    value: Any = values
    for part in key:
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def with_keys(values: Mapping[str, Any], changes: list[Change]) -> dict[str, Any]:
    """Copy of a parameter file's contents with keys set."""
    changed = dict(values)
    for change in changes:
        section = changed
        for part in change.path[:-1]:
            section[part] = dict(section.get(part, {}))  # a copy, as another key may share it by an anchor
            section = section[part]
        section[change.path[-1]] = change.after
    return changed
