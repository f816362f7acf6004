"""Catalogue of recommenders, one row each. Imports none of them, since importing torch takes seconds."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.params import suggestion

if TYPE_CHECKING:
    from mmprep.models.recommenders.base import Recommender

ITEM_GRAPHS = {"knn", "mixed", "consistent", "cooccurrence"}


@dataclass(frozen=True)
class RecommenderDescription:
    """A recommender and its inputs.

    Attributes:
        name: its name in params.yaml and of its module in mmprep.models.recommenders.
        class_name: its class in that module.
        paper: its publication.
        multimodal: whether it reads item features.
        graphs: kinds of graph that it reads, see mmprep.pipeline.graphs.catalogue.
        tokens: whether it reads items' patches and tokens with their intra-item graphs.
    """

    name: str
    class_name: str
    paper: str
    multimodal: bool
    graphs: tuple[str, ...] = ()
    tokens: bool = False

    @property
    def reads(self) -> str:
        """Its inputs other than graphs."""
        return "interactions" + ", features" * self.multimodal + ", patches and tokens" * self.tokens

    @property
    def module(self) -> str:
        """Full name of the module with its class."""
        return f"mmprep.models.recommenders.{self.name}"

    @property
    def group(self) -> str:
        """The list in section `train` that it belongs to."""
        if self.tokens:
            return "token_based"
        if not self.multimodal:
            return "collaborative"
        return "item_graphs" if ITEM_GRAPHS & set(self.graphs) else "multimodal"

    def load(self) -> "type[Recommender]":
        """Import the recommender's class.

        Raises:
            DataError: the row names a module or a class that does not exist.
        """
        try:
            recommender: type[Recommender] = getattr(import_module(self.module), self.class_name)
        except AttributeError as error:
            raise DataError(f"models/recommenders/catalogue.py: {self.name}: {error}") from error
        except ModuleNotFoundError as error:
            if error.name != self.module:
                raise
            raise DataError(f"models/recommenders/catalogue.py: {self.name}: no module {self.module}") from error
        return recommender


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
        name: the recommender's name.
        place: the parameter or option with that name, for the message.

    Raises:
        ParamsError: no recommender has that name.
    """
    if name not in CATALOGUE and name.isidentifier() and find_spec(f"{__package__}.{name}") is not None:
        raise ParamsError(
            f"{place}: found {name!r}, without a row of DESCRIPTIONS in models/recommenders/catalogue.py; add it"
        )
    if name not in CATALOGUE:
        raise ParamsError(f"{place}: found {name!r}, expected a recommender{suggestion(name, CATALOGUE)}")
    return CATALOGUE[name]
