"""The whole of params.yaml, parsed once into typed, frozen objects."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mmprep.models.encoders.catalogue import CATALOGUE, EncoderDescription, Modality
from mmprep.models.encoders.params import EncoderParams, ExtractParams, describe, no_such_encoder, parse_encoder
from mmprep.models.recommenders.catalogue import describe as describe_recommender
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.download.outcomes import DownloadParams
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.params import Params, parse_section, read_yaml, suggestion
from mmprep.stages.ingest.ingest import IngestParams
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.noise import NoiseParams
from mmprep.stages.prepare.split import SplitParams

if TYPE_CHECKING:
    from mmprep.models.recommenders.base import RecommenderParams

DEFAULT_FILE = Path("params.yaml")


class Sections(Params):
    """The file as it is written. Encoders and recommenders have a section each, checked by their own class."""

    dataset: str
    download: DownloadParams = DownloadParams()
    ingest: IngestParams = IngestParams()
    filter: FilterParams = FilterParams()
    split: SplitParams = SplitParams()
    noise: NoiseParams = NoiseParams()
    extract: ExtractParams = ExtractParams()
    encoders: dict[str, dict[str, Any]] = Field(default_factory=dict)
    graphs: GraphsParams = GraphsParams()
    train: TrainParams = TrainParams()
    recommenders: dict[str, dict[str, Any]] = Field(default_factory=dict)
    search: dict[str, dict[str, list[Any]]] = Field(default_factory=dict)
    evaluate: EvaluateParams = EvaluateParams()


@dataclass(frozen=True)
class Parameters:
    """All parameters.

    Attributes:
        source: the file's name, for messages.
        dataset: a folder's name under data/raw.
        sections: the file's sections.
        encoders: the parameters of each encoder that the file names.
    """

    source: str
    dataset: str
    sections: Sections
    encoders: Mapping[str, EncoderParams]

    def describe_encoder(self, name: str, place: str = "encoder") -> EncoderDescription:
        """The description of an encoder that mmprep knows or the file names.

        Args:
            name: the encoder's name.
            place: where it was given, for the message.

        Raises:
            ParamsError: there is no such encoder.
        """
        if name not in self.encoders and name not in CATALOGUE:
            raise ParamsError(f"{place}: {no_such_encoder(name)}")
        return describe(name, self.encoder(name))

    def encoder(self, name: str) -> EncoderParams:
        """The parameters of an encoder, its defaults if the file does not name it.

        Raises:
            ParamsError: there is no such encoder.
        """
        return self.encoders.get(name) or parse_encoder(name, {}, self.source)

    def recommender(self, name: str) -> "RecommenderParams":
        """The parameters of a recommender, its defaults if the file does not name it. Imports torch.

        Raises:
            ParamsError: there is no such recommender, or its section is wrong.
        """
        key = f"recommenders.{name}"
        kind = describe_recommender(name, f"{self.source}: {key}").load().params_type
        values = dict(self.sections.recommenders.get(name, {}))
        preset = values.pop("preset", None)
        if preset is not None and (not isinstance(preset, str) or preset not in kind.presets):
            known = suggestion(str(preset), kind.presets) or " (it has none)"
            raise ParamsError(f"{self.source}: {key}.preset: found {preset!r}, expected a preset{known}")
        return parse_section(kind, {**kind.presets.get(preset or "", {}), **values}, key, self.source)

    @property
    def pseudo_tokens(self) -> list[str]:
        """Those of train.patches and train.words that give one vector an item, pieces of which are read."""
        names = self.sections.train.token_encoders.values()
        return [name for name in names if self.describe_encoder(name).form == "vector"]

    def ranges(self, name: str) -> dict[str, list[Any]]:
        """The values that `mmprep search` tries for a recommender's parameters.

        Raises:
            ParamsError: the file names none.
        """
        if not self.sections.search.get(name):
            raise ParamsError(f"{self.source}: search.{name}: missing; name the values there, or give --over KEY=A,B")
        return self.sections.search[name]

    def check_recommenders(self) -> None:
        """Check every recommender's section. Imports torch.

        Raises:
            ParamsError: one of them is wrong.
        """
        for name in self.sections.recommenders:
            self.recommender(name)

    def with_dataset(self, dataset: str | None) -> "Parameters":
        """The same parameters for another dataset; for None, the same."""
        return self if dataset is None else replace(self, dataset=dataset)

    def encoders_of(self, modality: Modality | None) -> list[str]:
        """The encoders of `extract.encoders` of one modality, or all."""
        names = self.sections.extract.encoders
        return [name for name in names if modality in (None, self.describe_encoder(name).modality)]


def load(path: Path) -> Parameters:
    """Read and check a parameter file.

    Recommenders' own keys are left to `Parameters.recommender`, since they live with the networks.

    Raises:
        MissingInputError: there is no such file.
        ParamsError: a line for each mistake.
    """
    return parse(read_yaml(path), str(path))


def parse(values: Mapping[str, Any], source: str) -> Parameters:
    """Check what a parameter file holds.

    Args:
        values: its sections.
        source: the file's name, for messages.

    Raises:
        ParamsError: a line for each mistake.
    """
    sections = parse_section(Sections, values, "", source)
    encoders = {name: parse_encoder(name, values, source) for name, values in sections.encoders.items()}
    parameters = Parameters(source, sections.dataset, sections, encoders)
    check_names(parameters)
    return parameters


def overridden(values: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What a parameter file would hold with other values of some dotted keys, as `dvc exp run -S` sets them.

    Raises:
        ParamsError: a key is below one that is no section.
    """
    changed = deepcopy(dict(values))
    for key, value in overrides.items():
        *sections, last = key.split(".")
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ParamsError(f"{source}: {key}: no such key, as {section} is no section")
        place[last] = value
    return changed


def check_names(parameters: Parameters) -> None:
    """Check that encoders and recommenders that sections refer to exist and fit.

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
    """Check that recommenders stand in their lists, and that what they read is extracted.

    Raises:
        ParamsError: the first one that does not, or is not.
    """
    train, source = parameters.sections.train, parameters.source
    for key in ("collaborative", "multimodal", "item_graphs", "tokens"):
        for name in getattr(train, key):
            group = describe_recommender(name, f"{source}: train.{key}").group
            if group != key:
                raise ParamsError(f"{source}: train.{key}: found {name!r}, which belongs under train.{group}")
    check_distinct("train", train.recommenders, source)
    reading_features = (*train.multimodal, *train.item_graphs)
    for modality, name in train.modalities.items():
        if reading_features:
            check_modality(name, modality, parameters)
    if reading_features and not train.modalities:
        raise ParamsError(
            f"{source}: train.image, train.text and train.audio are all empty; multimodal recommenders need features"
        )
    if train.tokens:
        check_tokens(parameters)


def check_distinct(key: str, names: tuple[str, ...], source: str) -> None:
    """Check that no name is given twice: each makes a stage of its own.

    Raises:
        ParamsError: one is.
    """
    for name in names:
        if names.count(name) > 1:
            raise ParamsError(f"{source}: {key}: found {name!r} twice, expected each once")


def check_graphs(parameters: Parameters) -> None:
    """Check that graphs are drawn of encoders that are extracted and give what they are drawn of.

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


def check_modality(name: str, modality: str, parameters: Parameters) -> None:
    """Check that an encoder is extracted and gives a vector an item of a modality.

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
    """Check that patches and words are extracted, and have a graph each.

    Raises:
        ParamsError: the first encoder that does not fit.
    """
    joined = parameters.sections.graphs.intra_item.encoders
    for key, name in parameters.sections.train.token_encoders.items():
        place, modality = f"{parameters.source}: train.{key}", {"patches": "image", "words": "text"}[key]
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
    """Check that an encoder gives a vector an item.

    Raises:
        ParamsError: it does not.
    """
    form = parameters.describe_encoder(name, place).form
    if form != "vector":
        raise ParamsError(f"{place}: found {name!r}, which gives {form}; expected an encoder of one vector an item")


def check_not_vector(name: str, place: str, parameters: Parameters) -> None:
    """Check that an encoder gives patches or tokens, or that pieces of a vector may stand for them.

    Raises:
        ParamsError: it does not, and they may not.
    """
    pseudo_tokens = parameters.sections.graphs.intra_item.pseudo_tokens
    if parameters.describe_encoder(name, place).form == "vector" and not pseudo_tokens:
        raise ParamsError(
            f"{place}: found {name!r}, which gives one vector an item; expected an encoder of patches or tokens"
        )


def check_extracted(name: str, place: str, parameters: Parameters) -> None:
    """Check that an encoder is among those that run.

    Raises:
        ParamsError: it is not.
    """
    extracted = parameters.sections.extract.encoders
    if name not in extracted:
        raise ParamsError(f"{place}: found {name!r}, expected one of extract.encoders ({', '.join(extracted)})")
