"""The recommenders that mmprep knows, one row each. Imports none of them: each takes seconds of torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import ParamsError
from pipeline.params import suggestion

if TYPE_CHECKING:
    from models.recommenders.base import Recommender


@dataclass(frozen=True)
class RecommenderDescription:
    """A recommender and what it reads.

    Attributes:
        name: as params.yaml names it, and its module in models.recommenders.
        class_name: its class in that module.
        paper: where it was published.
        multimodal: whether it reads item features.
    """

    name: str
    class_name: str
    paper: str
    multimodal: bool

    def load(self) -> "type[Recommender]":
        """Import the recommender's class."""
        found: type[Recommender] = getattr(import_module(f"models.recommenders.{self.name}"), self.class_name)
        return found


DESCRIPTIONS = (
    RecommenderDescription("bpr", "BPR", "Rendle et al., BPR, UAI 2009", multimodal=False),
    RecommenderDescription("lightgcn", "LightGCN", "He et al., LightGCN, SIGIR 2020", multimodal=False),
    RecommenderDescription("vbpr", "VBPR", "He and McAuley, VBPR, AAAI 2016", multimodal=True),
)

CATALOGUE = {description.name: description for description in DESCRIPTIONS}


def describe(name: str, place: str = "recommender") -> RecommenderDescription:
    """The description of a recommender.

    Args:
        name: its name.
        place: where the name was given, for the message.

    Raises:
        ParamsError: there is no such recommender.
    """
    if name not in CATALOGUE:
        raise ParamsError(f"{place}: found {name!r}, expected a recommender{suggestion(name, CATALOGUE)}")
    return CATALOGUE[name]
