"""Features that papers use, as keys of params.yaml: `mmprep features NAME` writes them there, with comments kept.

Written keys, rather than a key that stands for others, as DVC reads the lists of encoders from the file itself, and as
nothing then depends on a value that the file does not show.
"""

import io
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.features.external import MAPPING
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import read_yaml, suggestion
from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.config.load import overridden, parse

MISSING = object()
RELEASED = "image_features_*.b*"  # one a category; .b or .b.gz
MODALITIES = ("image", "text", "audio")
EXTERNAL = {"library": "file"}


@dataclass(frozen=True)
class FeaturePreset:
    """Features of one kind of publication.

    Attributes:
        name: as `mmprep features` takes it.
        what: the features, in a line.
        used_by: papers that use them.
        modalities: encoder of each modality; None leaves train.image, train.text and train.audio.
        tokens: encoder of patches and of tokens (`patches`, `text_tokens`); None leaves them.
        sections: keys of each encoder's section.
        others: other keys, dotted, that data published in this form need.
    """

    name: str
    what: str
    used_by: str
    modalities: Mapping[str, str] | None = None
    tokens: Mapping[str, str] | None = None
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)


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
            others={"split.rule": "given", "filter.k_core": 1},
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
        key: dotted.
        before: the value in the file; MISSING for none.
        after: the preset's value.
    """

    key: str
    before: Any
    after: Any

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
    parse(values, str(path))
    wanted = keys_of(PRESETS[name], values, layout)
    changes = [Change(key, before, after) for key, after in wanted.items() if (before := look_up(values, key)) != after]
    expected = overridden(values, {change.key: change.after for change in changes}, str(path))
    parse(expected, str(path))
    if write and changes:
        save(path, changes, expected)
    return changes


def keys_of(preset: FeaturePreset, values: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """All keys that a preset sets, dotted; raises as `apply` does."""
    keys: dict[str, Any] = {}
    joined = tuple(look_up(values, "graphs.intra_item.encoders", ()))
    extracted = tuple(look_up(values, "extract.encoders", ("vgg16", "minilm")))
    if preset.modalities is not None:
        used = tuple(encoder for encoder in preset.modalities.values() if encoder)
        keys["extract.encoders"] = [*used, *(encoder for encoder in extracted if encoder in joined)]
        keys["graphs.encoders"] = list(used)
        keys |= {f"train.{modality}": encoder for modality, encoder in preset.modalities.items()}
    if preset.tokens is not None:
        used = tuple(preset.tokens.values())
        keys["extract.encoders"] = list(dict.fromkeys((*extracted, *used)))
        keys["graphs.intra_item.encoders"] = list(used)
        keys |= {f"train.{part}": encoder for part, encoder in preset.tokens.items()}
    for encoder, section in preset.sections.items():
        located = dict(located_section(section, layout))
        if "library" in located or look_up(values, f"encoders.{encoder}") is MISSING:
            keys[f"encoders.{encoder}"] = located
        else:
            keys |= {f"encoders.{encoder}.{key}": value for key, value in located.items()}
    return keys | dict(preset.others)


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


def look_up(values: Mapping[str, Any], key: str, default: object = MISSING) -> Any:  # noqa: ANN401 - any YAML value
    """The value of a dotted key, or the default."""
    value: Any = values
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value


class Representer(RoundTripRepresenter):
    """Writes null as params.yaml has it."""

    def represent_none(self, data: None) -> ScalarNode:
        """Write `null` and not an empty value."""
        del data
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:null", "null")
        return node


Representer.add_representer(type(None), Representer.represent_none)


def round_trip() -> YAML:
    """A YAML reader and writer that keeps comments, quotes and lines."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes, yaml.Representer = 4096, True, Representer
    return yaml


def save(path: Path, changes: list[Change], expected: Mapping[str, Any]) -> None:
    """Write changed keys into a parameter file.

    Raises:
        ParamsError: the file would say something else than expected, as with anchors; it is left as it is.
    """
    yaml = round_trip()
    document = yaml.load(path.read_text(encoding="utf-8"))
    for change in changes:
        *sections, last = change.key.split(".")
        section = document
        for name in sections:
            if not isinstance(section.get(name), dict):
                section[name] = CommentedMap()
            section = section[name]
        if last in section:
            section[last] = flow(change.after)
        else:  # first, as a comment that precedes the next section belongs to the last key of this one
            section.insert(0, last, flow(change.after))
    text = io.StringIO()
    yaml.dump(document, text)
    if YAML(typ="safe", pure=True).load(text.getvalue()) != deepcopy(dict(expected)):
        lines = "; ".join(f"{change.key}: {in_yaml(change.after)}" for change in changes)
        raise ParamsError(f"{path}: cannot be changed without changing other keys, as with anchors; write {lines}")
    with atomic_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def flow(value: object) -> object:
    """A value that is written on one line."""
    if isinstance(value, dict):
        mapping = CommentedMap((key, flow(inner)) for key, inner in value.items())
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq(map(flow, value))
        sequence.fa.set_flow_style()
        return sequence
    return value


def in_yaml(value: object) -> str:
    """A value as YAML on one line."""
    text = io.StringIO()
    round_trip().dump(flow(value), text)
    return text.getvalue().removesuffix("...\n").strip() or '""'
