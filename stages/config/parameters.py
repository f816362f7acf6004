"""All of params.yaml, parsed once into typed, frozen objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from mmprep.models.encoders.catalogue import CATALOGUE, EncoderDescription, Modality
from mmprep.models.encoders.params import EncoderParams, ExtractParams, describe, no_such_encoder, parse_encoder
from mmprep.models.recommenders.catalogue import describe as describe_recommender
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.download.outcomes import DownloadParams
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.params import Params
from mmprep.stages.config.recommender_settings import Layer, RecommenderSettings, resolve
from mmprep.stages.ingest.ingest import IngestParams
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.noise import NoiseParams
from mmprep.stages.prepare.split import SplitParams

if TYPE_CHECKING:
    from mmprep.models.recommenders.base import RecommenderParams


def name_of_dataset(value: object) -> object:
    """The name of a dataset; YAML reads a year as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Sections(Params):
    """Sections of params.yaml. Each encoder and recommender has its own, validated by its own class.

    Attributes:
        overlays: for each dataset, sections with the keys in which it differs.
    """

    dataset: Annotated[str, BeforeValidator(name_of_dataset)]
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
    overlays: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Parameters:
    """All parameters.

    Attributes:
        source: the file's name, for messages.
        dataset: name of a folder under data/raw.
        sections: the file's sections, with the keys of the dataset's overlay.
        encoders: the parameters of each encoder that the file names.
        recommender_layers: sections `recommenders` of the file and of the dataset's overlay, each with its place.
    """

    source: str
    dataset: str
    sections: Sections
    encoders: Mapping[str, EncoderParams]
    recommender_layers: tuple[tuple[str, Mapping[str, Mapping[str, Any]]], ...] = field(default=())

    def describe_encoder(self, name: str, place: str = "encoder") -> EncoderDescription:
        """Description of an encoder from the catalogue or the file.

        Args:
            name: the encoder's name.
            place: the key that names it, for the message.

        Raises:
            ParamsError: there is no such encoder.
        """
        if name not in self.encoders and name not in CATALOGUE:
            raise ParamsError(f"{place}: {no_such_encoder(name)}")
        return describe(name, self.encoder(name))

    def encoder(self, name: str) -> EncoderParams:
        """Parameters of an encoder; the defaults if the file does not name it.

        Raises:
            ParamsError: there is no such encoder.
        """
        return self.encoders.get(name) or parse_encoder(name, {}, self.source)

    def recommender(self, name: str) -> "RecommenderParams":
        """Effective parameters of a recommender. Imports torch.

        Raises:
            ParamsError: there is no such recommender, or its section is invalid.
        """
        return self.recommender_settings(name).params

    def recommender_settings(self, name: str, *narrower: Layer) -> RecommenderSettings:
        """Effective parameters of a recommender with the origin of each. Imports torch.

        Args:
            name: the recommender.
            narrower: further layers, which go before the file and its overlay.

        Raises:
            ParamsError: there is no such recommender, or a layer is invalid.
        """
        key = f"recommenders.{name}"
        in_file = any(name in section for _, section in self.recommender_layers)
        kind = describe_recommender(name, f"{self.source}: {key}" if in_file else "recommender").load().params_type
        written = [Layer(place, section[name]) for place, section in self.recommender_layers if name in section]
        return resolve(kind, [*written, *narrower], key)

    @property
    def pseudo_tokens(self) -> list[str]:
        """Encoders of train.patches and train.text_tokens that give one vector per item, cut into pseudo-tokens."""
        names = self.sections.train.token_encoders.values()
        return [name for name in names if self.describe_encoder(name).form == "vector"]

    def ranges(self, name: str) -> dict[str, list[Any]]:
        """Values that `mmprep search` tries for a recommender's parameters.

        Raises:
            ParamsError: the file names none.
        """
        if not self.sections.search.get(name):
            raise ParamsError(f"{self.source}: search.{name}: missing; name the values there, or give --over KEY=A,B")
        return self.sections.search[name]

    def check_recommenders(self) -> None:
        """Check every recommender's section. Imports torch.

        Raises:
            ParamsError: a section is invalid.
        """
        for name in self.sections.recommenders:
            self.recommender(name)

    def encoders_of(self, modality: Modality | None) -> list[str]:
        """Encoders in `extract.encoders` of one modality; all of them for None."""
        names = self.sections.extract.encoders
        return [name for name in names if modality in (None, self.describe_encoder(name).modality)]
