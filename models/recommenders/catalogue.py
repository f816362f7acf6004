"""The recommenders that mmprep knows, one row each. Imports none of them: each takes seconds of torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import suggestion

if TYPE_CHECKING:
    from mmprep.models.recommenders.base import Recommender

ITEM_GRAPHS = {"knn", "mixed", "consistent", "cooccurrence"}


@dataclass(frozen=True)
class RecommenderDescription:
    """A recommender and what it reads.

    Attributes:
        name: as params.yaml names it, and its module in mmprep.models.recommenders.
        class_name: its class in that module.
        paper: where it was published.
        multimodal: whether it reads item features.
        graphs: the kinds of graph that it reads, see mmprep.pipeline.graphs.catalogue.
        tokens: whether it reads items' patches and tokens, and the graphs among them.
    """

    name: str
    class_name: str
    paper: str
    multimodal: bool
    graphs: tuple[str, ...] = ()
    tokens: bool = False

    @property
    def reads(self) -> str:
        """What it reads beside graphs."""
        return "interactions" + ", features" * self.multimodal + ", patches and tokens" * self.tokens

    @property
    def module(self) -> str:
        """The module that holds its class."""
        return f"mmprep.models.recommenders.{self.name}"

    @property
    def group(self) -> str:
        """The list in section `train` under which it belongs."""
        if self.tokens:
            return "token_based"
        if not self.multimodal:
            return "collaborative"
        return "item_graphs" if ITEM_GRAPHS & set(self.graphs) else "multimodal"

    def load(self) -> "type[Recommender]":
        """Import the recommender's class."""
        found: type[Recommender] = getattr(import_module(self.module), self.class_name)
        return found


DESCRIPTIONS = (
    RecommenderDescription("bpr", "BPR", "Rendle et al., BPR, UAI 2009", multimodal=False),
    RecommenderDescription("ngcf", "NGCF", "Wang et al., NGCF, SIGIR 2019", multimodal=False, graphs=("interaction",)),
    RecommenderDescription(
        "lightgcn", "LightGCN", "He et al., LightGCN, SIGIR 2020", multimodal=False, graphs=("interaction",)
    ),
    RecommenderDescription("sgl", "SGL", "Wu et al., SGL, SIGIR 2021", multimodal=False, graphs=("interaction",)),
    RecommenderDescription(
        "simgcl", "SimGCL", "Yu et al., SimGCL, SIGIR 2022", multimodal=False, graphs=("interaction",)
    ),
    RecommenderDescription("vbpr", "VBPR", "He and McAuley, VBPR, AAAI 2016", multimodal=True),
    RecommenderDescription(
        "lattice", "LATTICE", "Zhang et al., LATTICE, MM 2021", multimodal=True, graphs=("interaction", "knn")
    ),
    RecommenderDescription("bm3", "BM3", "Zhou et al., BM3, WWW 2023", multimodal=True, graphs=("interaction",)),
    RecommenderDescription(
        "freedom", "FREEDOM", "Zhou and Shen, FREEDOM, MM 2023", multimodal=True, graphs=("interaction", "mixed")
    ),
    RecommenderDescription("mgcn", "MGCN", "Yu et al., MGCN, MM 2023", multimodal=True, graphs=("interaction", "knn")),
    RecommenderDescription(
        "lgmrec", "LGMRec", "Guo et al., LGMRec, AAAI 2024", multimodal=True, graphs=("interaction",)
    ),
    RecommenderDescription(
        "camgr", "CAmgr", "Li et al., CAmgr, Mathematics 2024", multimodal=True, graphs=("interaction", "knn")
    ),
    RecommenderDescription(
        "am2hrec",
        "AM2HRec",
        "Yu et al., AM2HRec, Engineering Letters",
        multimodal=True,
        graphs=("interaction", "knn"),
    ),
    RecommenderDescription(
        "da_mrs",
        "DAMRS",
        "Xv et al., DA-MRS, KDD 2024",
        multimodal=True,
        graphs=("interaction", "knn", "consistent", "cooccurrence"),
    ),
    RecommenderDescription(
        "mdr_chca",
        "MDRCHCA",
        "Multimodal Denoising Recommendation Based on Confidence and Hierarchical Cross-Modal Alignment",
        multimodal=False,
        graphs=("interaction", "intra_item"),
        tokens=True,
    ),
    RecommenderDescription("mgnm", "MGNM", "Mo et al., MGNM", multimodal=True, graphs=("interaction",)),
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
