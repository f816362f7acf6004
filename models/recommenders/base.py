"""Base class of recommenders: loss terms of a batch for training, embeddings for ranking."""

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
    """Input of training; holds no test split.

    Attributes:
        train: binary [n_users, n_items]; the only interactions that a recommender may read.
        val: binary [n_users, n_items]; for the trainer's early stopping.
        features: feature matrix of each modality, [n_items, dimension].
        graphs: the graphs in the recommender's description, weights [sources, targets] each: `interaction/symmetric`,
            `interaction/user_mean` and `interaction/item_mean` (mmprep.pipeline.graphs.edges.interaction_graphs),
            `knn/MODALITY` with cosines as weights, `mixed`, `consistent/MODALITY`, `cooccurrence` with counts as
            weights.
        tokens: the items' patches (`patches`) and tokens (`words`) with their graphs, if the description lists them.
        graph_k: number of neighbours per node with which a graph was built, where its file records it.
    """

    train: csr_array
    val: csr_array
    features: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    graphs: Mapping[str, csr_array] = field(default_factory=dict)
    tokens: Mapping[str, "TokenSource"] = field(default_factory=dict)
    graph_k: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return int(self.train.shape[0])

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.train.shape[1])


class RecommenderParams(Params):
    """Keys common to all sections under `recommenders` in params.yaml.

    Attributes:
        embedding_size: d, the length of user and item embeddings.
        learning_rate: Adam's learning rate in the first epoch.
        lr_decay: factor by which the learning rate falls over `lr_decay_epochs`; 1 keeps it constant.
        lr_decay_epochs: number of epochs over which it falls by that factor, a step after each.
        presets: named values of several keys at once, selected by `preset: NAME` in the section.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    renamed: ClassVar[Mapping[str, str]] = {"decay": "lr_decay", "decay_epochs": "lr_decay_epochs"}

    embedding_size: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    lr_decay_epochs: Annotated[int, Field(ge=1)] = 50


class MultimodalParams(RecommenderParams):
    """Keys common to the sections of recommenders that read features.

    Attributes:
        finetune_features: whether the raw features are trained too, as in MMRec's BM3, FREEDOM, LATTICE and MGCN;
            else they are frozen.
    """

    finetune_features: bool = False


class Recommender(nn.Module, ABC):
    """Base class of recommenders, trained by mmprep.models.training.trainer.

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
        """Record a diagnostic of a batch; the history holds its mean over an epoch's batches. Called by `losses`.

        Args:
            name: column of the history.
            value: the batch's value, a scalar.
        """
        self.observed[name] = value.detach()

    def begin_epoch(self) -> None:
        """Draw or compute what is fixed for a training epoch, such as a sampled graph.

        Called before the epoch's first batch. torch's generator is seeded by the epoch's number, so that random draws
        do not depend on earlier epochs.
        """

    def epoch_warning(self, means: Mapping[str, float]) -> str | None:  # noqa: ARG002
        """One line about an epoch in which a part of the recommender was idle; None, as by default, otherwise.

        The trainer logs that of the first such epoch, and none after it.

        Args:
            means: the epoch's row of the history: means of loss terms and diagnostics, and metrics if it was validated.
        """
        return None

    @abstractmethod
    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The named, weighted loss terms of a batch; training minimises their sum.

        Args:
            users: [batch] indices.
            positives: [batch] an item that the user interacted with.
            negatives: [batch] an item that the user did not interact with.
        """

    @abstractmethod
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The embeddings for ranking: users [n_users, d'] and items [n_items, d']."""

    def item_views(self) -> dict[str, Tensor]:
        """Item embeddings by modality, [n_items, d] each, for `mmprep tsne`; empty by default."""
        return {}


def embedding_table(rows: int, size: int, init: str = "xavier_uniform_") -> nn.Parameter:
    """A trainable [rows, size] table, initialised by one of torch.nn.init's functions."""
    table = torch.empty(rows, size)
    getattr(nn.init, init)(table)
    return nn.Parameter(table)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """The rows [batch, d] of a [n, d] table.

    `table[index]` gives the same values, but threads sum its gradient in any order, so that two runs would differ.
    """
    return embedding(index, table)


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each row of two [batch, d] tensors, [batch]."""
    return (left * right).sum(dim=1)
