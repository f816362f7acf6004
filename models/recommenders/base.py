"""What every recommender is: a module that gives loss terms for a batch, and embeddings for ranking."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmprep.pipeline.params import Params

if TYPE_CHECKING:
    from mmprep.pipeline.graphs.token_source import TokenSource


@dataclass(frozen=True)
class TrainingData:
    """All that training may see: there is no test split in it.

    Attributes:
        train: binary [n_users, n_items]; all that a recommender may read of the interactions.
        val: binary [n_users, n_items]; for the trainer's early stopping.
        features: a modality's features, [n_items, dimension] each.
        graphs: what the recommender's description asks for, weights [sources, targets] each: `interaction/symmetric`,
            `interaction/user_mean` and `interaction/item_mean` (mmprep.pipeline.graphs.edges.interaction_graphs),
            `knn/MODALITY` with cosines as weights, `mixed`, `consistent/MODALITY`, `cooccurrence` with counts as
            weights.
        tokens: the patches (`patches`) and tokens (`words`) of items, with their graphs, if the description asks.
    """

    train: csr_array
    val: csr_array
    features: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    graphs: Mapping[str, csr_array] = field(default_factory=dict)
    tokens: Mapping[str, "TokenSource"] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return int(self.train.shape[0])

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return int(self.train.shape[1])


class RecommenderParams(Params):
    """What every recommender's section under `recommenders` in params.yaml has.

    Attributes:
        embedding_size: d, the length of a user's and an item's embedding.
        learning_rate: Adam's, in the first epoch.
        lr_decay: the factor by which the learning rate falls in `lr_decay_epochs`; 1 leaves it as it is.
        lr_decay_epochs: how many epochs it takes to fall by that factor, a little after each.
        presets: named values of several keys at once, which `preset: NAME` in the section stands for.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    renamed: ClassVar[Mapping[str, str]] = {"decay": "lr_decay", "decay_epochs": "lr_decay_epochs"}

    embedding_size: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    lr_decay_epochs: Annotated[int, Field(ge=1)] = 50


class MultimodalParams(RecommenderParams):
    """What the section of every recommender has that reads features.

    Attributes:
        finetune_features: whether the raw features are trained too, as in MMRec's BM3, FREEDOM, LATTICE and MGCN;
            else they stay as they are.
    """

    finetune_features: bool = False


class Recommender(nn.Module, ABC):
    """Built from `TrainingData` and its own parameters; trained by mmprep.models.training.trainer.

    A score is the inner product of a user's and an item's embedding.
    """

    params_type: ClassVar[type[RecommenderParams]]

    def __init__(self, data: TrainingData, params: RecommenderParams) -> None:
        super().__init__()
        self.n_users = data.n_users
        self.n_items = data.n_items
        self.embedding_size = params.embedding_size
        self.observed: dict[str, Tensor] = {}

    def observe(self, name: str, value: Tensor) -> None:
        """Tell how training fares, beside its losses: the history has the mean over an epoch's batches.

        Args:
            name: the history's column.
            value: that of a batch, a scalar; called by `losses`.
        """
        self.observed[name] = value.detach()

    def begin_epoch(self) -> None:
        """Draw or compute what stays as it is for a training epoch, such as a sampled graph.

        Called before the epoch's first batch. torch's generator is seeded by the epoch's number, so that what is drawn
        does not depend on the epochs before.
        """

    @abstractmethod
    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The named, weighted loss terms of a batch; training minimises their sum.

        Args:
            users: [batch] indices.
            positives: [batch] an item that the user has.
            negatives: [batch] an item that the user has not.
        """

    @abstractmethod
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The embeddings for ranking: users [n_users, d'] and items [n_items, d']."""

    def item_views(self) -> dict[str, Tensor]:
        """What is made of each modality's features alone, [n_items, d] each, for `mmprep tsne`; nothing by default."""
        return {}


def embedding_table(rows: int, size: int, init: str = "xavier_uniform_") -> nn.Parameter:
    """A trainable [rows, size] table, by one of torch.nn.init's functions."""
    table = torch.empty(rows, size)
    getattr(nn.init, init)(table)
    return nn.Parameter(table)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """The rows [batch, d] of a [n, d] table.

    `table[index]` gives the same, but its gradient is summed by threads in any order, so that two runs would differ.
    """
    return embedding(index, table)


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each row of two [batch, d] tensors, [batch]."""
    return (left * right).sum(dim=1)
