"""Load params.yaml: parse, override and check."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmprep.models.encoders.params import FileParams, parse_encoder
from mmprep.models.recommenders.catalogue import describe as describe_recommender
from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import parse_section, read_yaml
from mmprep.stages.config.parameters import Parameters, Sections

DEFAULT_FILE = Path("params.yaml")
# Keys that dvc.yaml takes from params.yaml itself, to list stages and the paths that they read.
PIPELINE_KEYS = (
    *("dataset", "overlays", "extract.encoders", "graphs.encoders", "graphs.intra_item.encoders"),
    *("train.collaborative", "train.multimodal", "train.item_graphs", "train.token_based"),
    *("train.image", "train.text", "train.audio", "train.patches", "train.text_tokens"),
)


def load(path: Path, dataset: str | None = None) -> Parameters:
    """Read and check a parameter file.

    Keys of single recommenders are left to `Parameters.recommender`, since their classes import torch.

    Args:
        path: the file.
        dataset: the dataset to use in the place of the file's.

    Raises:
        MissingInputError: there is no such file.
        ParamsError: one line per mistake.
    """
    return parse(read_yaml(path), str(path), dataset)


def parse(values: Mapping[str, Any], source: str, dataset: str | None = None) -> Parameters:
    """Validate the contents of a parameter file and apply the dataset's overlay.

    Args:
        values: the file's sections.
        source: the file's name, for messages.
        dataset: the dataset to use in the place of the file's.

    Raises:
        ParamsError: one line per mistake.
    """
    written = parse_section(Sections, values, "", source)
    applied = {name: check_overlay(values, name, overlay, source) for name, overlay in written.overlays.items()}
    chosen = written.dataset if dataset is None else dataset
    sections = applied.get(chosen, written)
    encoders = {name: parse_encoder(name, values, source) for name, values in sections.encoders.items()}
    layers: tuple[tuple[str, Mapping[str, Any]], ...] = ((source, written.recommenders),)
    if chosen in applied:
        layers += ((f"{source}: overlays.{chosen}", written.overlays[chosen].get("recommenders", {})),)
    parameters = Parameters(source, chosen, sections, encoders, layers)
    check_names(parameters)
    return parameters


def check_overlay(values: Mapping[str, Any], name: str, overlay: Mapping[str, Any], source: str) -> Sections:
    """Apply a dataset's overlay to the file's sections.

    Raises:
        ParamsError: one line per mistake in the overlay.
    """
    place = f"overlays.{name}"
    for key in PIPELINE_KEYS:
        if look_up(overlay, key) is not None:
            raise ParamsError(f"{source}: {place}.{key}: found here, expected outside overlays, as dvc.yaml reads it")
    return parse_section(Sections, merge(values, overlay), place, source)


def look_up(values: Mapping[str, Any], key: str) -> object:
    """The value of a dotted key; None if it is not written."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def merge(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of nested sections in which the keys of `narrow` go before those of `wide`."""
    merged = dict(wide)
    for key, value in narrow.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def overridden(values: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Copy a parameter file's contents with some dotted keys overridden, as `dvc exp run -S` does.

    Raises:
        ParamsError: the parent of a key is not a section.
    """
    changed = deepcopy(dict(values))
    for key, value in overrides.items():
        *sections, last = key.split(".")
        parent = changed
        for section in sections:
            parent = parent.setdefault(section, {})
            if not isinstance(parent, dict):
                raise ParamsError(f"{source}: {key}: no such key, as {section} is no section")
        parent[last] = value
    return changed


def check_names(parameters: Parameters) -> None:
    """Check that the encoders and recommenders named in sections exist and fit.

    Raises:
        ParamsError: the first one that does not.
    """
    sections, source = parameters.sections, parameters.source
    for name in sections.extract.encoders:
        parameters.describe_encoder(name, f"{source}: extract.encoders")
    check_distinct("extract.encoders", sections.extract.encoders, source)
    check_graphs(parameters)
    for key in ("recommenders", "search"):
        for name in getattr(sections, key):
            describe_recommender(name, f"{source}: {key}")
    check_training(parameters)


def check_training(parameters: Parameters) -> None:
    """Check that recommenders are listed in their own group, and that the features they read are extracted.

    Raises:
        ParamsError: the first one that is misplaced, or that reads features that are not extracted.
    """
    train, source = parameters.sections.train, parameters.source
    for key in ("collaborative", "multimodal", "item_graphs", "token_based"):
        for name in getattr(train, key):
            group = describe_recommender(name, f"{source}: train.{key}").group
            if group != key:
                raise ParamsError(f"{source}: train.{key}: found {name!r}, which belongs under train.{group}")
    check_distinct("train", train.recommenders, source)
    if train.multimodal or train.item_graphs:
        check_modalities(parameters, graphs=bool(train.item_graphs))
    if (train.multimodal or train.item_graphs) and not train.modalities:
        raise ParamsError(
            f"{source}: train.image, train.text and train.audio are all empty; multimodal recommenders need features"
        )
    if train.token_based:
        check_tokens(parameters)


def check_distinct(key: str, names: tuple[str, ...], source: str) -> None:
    """Check that no name is listed twice, as each makes a stage of its own.

    Raises:
        ParamsError: a name is repeated.
    """
    for name in names:
        if names.count(name) > 1:
            raise ParamsError(f"{source}: {key}: found {name!r} twice, expected each once")


def check_graphs(parameters: Parameters) -> None:
    """Check that graphs are built from encoders that are extracted and give the form that they need.

    Raises:
        ParamsError: the first one that does not.
    """
    graphs = parameters.sections.graphs
    for key, names, check in (
        ("graphs.encoders", graphs.encoders, check_vector),
        ("graphs.intra_item.encoders", graphs.intra_item.encoders, check_not_vector),
    ):
        check_distinct(key, names, parameters.source)
        for name in names:
            check_extracted(name, f"{parameters.source}: {key}", parameters)
            check(name, f"{parameters.source}: {key}", parameters)


def check_modalities(parameters: Parameters, *, graphs: bool) -> None:
    """Check that the encoders of train.image, train.text and train.audio are extracted and fit.

    Args:
        parameters: of the project.
        graphs: also check that each has a graph of nearest neighbours, which other graphs of items are made of.

    Raises:
        ParamsError: the first one that does not.
    """
    modalities, joined = parameters.sections.train.modalities, parameters.sections.graphs.encoders
    for modality, name in modalities.items():
        check_modality(name, modality, parameters)
    for modality, name in modalities.items():
        if graphs and name not in joined:
            raise ParamsError(
                f"{parameters.source}: train.{modality}: found {name!r}, expected one of graphs.encoders "
                f"({', '.join(joined) or 'empty'})"
            )


def check_external_files(parameters: Parameters, layout: Layout) -> None:
    """Check that the files of external features exist, if the dataset's raw folder does.

    Raises:
        MissingInputError: the first one that does not.
    """
    for name in parameters.sections.extract.encoders:
        encoder = parameters.encoder(name)
        if isinstance(encoder, FileParams) and layout.raw.is_dir() and not (layout.raw / encoder.path).exists():
            raise MissingInputError(
                f"{layout.raw / encoder.path}: not found, expected the features of {name} in extract.encoders; put the "
                f"file there, or take {name} out of the list"
            )


def check_modality(name: str, modality: str, parameters: Parameters) -> None:
    """Check that an encoder is extracted and gives one vector per item of a modality.

    Raises:
        ParamsError: it does not, or is not.
    """
    place = f"{parameters.source}: train.{modality}"
    found = parameters.describe_encoder(name, place).modality
    if found != modality:
        raise ParamsError(f"{place}: found {name!r}, an encoder of {found}, expected one of {modality}")
    check_extracted(name, place, parameters)
    check_vector(name, place, parameters)


def check_tokens(parameters: Parameters) -> None:
    """Check that the encoders of patches and words are extracted and have an intra-item graph each.

    Raises:
        ParamsError: the first encoder that does not fit.
    """
    joined = parameters.sections.graphs.intra_item.encoders
    for key, name in parameters.sections.train.token_encoders.items():
        parameter, modality = {"patches": ("patches", "image"), "words": ("text_tokens", "text")}[key]
        place = f"{parameters.source}: train.{parameter}"
        found = parameters.describe_encoder(name, place).modality
        if found != modality:
            raise ParamsError(f"{place}: found {name!r}, an encoder of {found}, expected one of {modality}")
        check_extracted(name, place, parameters)
        check_not_vector(name, place, parameters)
        if name not in joined:
            raise ParamsError(
                f"{place}: found {name!r}, expected one of graphs.intra_item.encoders ({', '.join(joined) or 'empty'})"
            )


def check_vector(name: str, place: str, parameters: Parameters) -> None:
    """Check that an encoder gives one vector per item.

    Raises:
        ParamsError: it gives patches or tokens.
    """
    form = parameters.describe_encoder(name, place).form
    if form != "vector":
        raise ParamsError(f"{place}: found {name!r}, which gives {form}; expected an encoder of one vector per item")


def check_not_vector(name: str, place: str, parameters: Parameters) -> None:
    """Check that an encoder gives patches or tokens, or that its vector may be cut into pseudo-tokens.

    Raises:
        ParamsError: it gives one vector per item, and pseudo-tokens are off.
    """
    pseudo_tokens = parameters.sections.graphs.intra_item.pseudo_tokens
    if parameters.describe_encoder(name, place).form == "vector" and not pseudo_tokens:
        raise ParamsError(
            f"{place}: found {name!r}, which gives one vector per item; expected an encoder of patches or tokens"
        )


def check_extracted(name: str, place: str, parameters: Parameters) -> None:
    """Check that extract.encoders lists an encoder.

    Raises:
        ParamsError: it does not.
    """
    extracted = parameters.sections.extract.encoders
    if name not in extracted:
        raise ParamsError(f"{place}: found {name!r}, expected one of extract.encoders ({', '.join(extracted)})")
