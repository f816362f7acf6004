"""The whole of params.yaml, parsed once into typed, frozen objects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mmprep.models.encoders.catalogue import CATALOGUE, EncoderDescription, Modality
from mmprep.models.encoders.params import EncoderParams, ExtractParams, describe, no_such_encoder, parse_encoder
from mmprep.models.recommenders.catalogue import describe as describe_recommender
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.download.outcomes import DownloadParams
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.params import Params, parse_section, suggestion
from mmprep.stages.ingest.ingest import IngestParams
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.noise import NoiseParams
from mmprep.stages.prepare.split import SplitParams

if TYPE_CHECKING:
    from mmprep.models.recommenders.base import RecommenderParams


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
        """Those of train.patches and train.text_tokens that give one vector an item, pieces of which are read."""
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
