"""SGL: LightGCN with a contrast of two edge-dropout views of the user-item graph (Wu et al., SIGIR 2021)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.layers.contrast import distinct_nodes, two_view_contrast
from mmprep.models.layers.losses import bpr, embedding_norm
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import (
    Recommender,
    RecommenderParams,
    TrainingData,
    embedding_table,
    inner,
    look_up,
)
from mmprep.pipeline.graphs.edges import bipartite, normalised


class SGLParams(RecommenderParams):
    """Section `recommenders.sgl`.

    Attributes:
        layers: hops of propagation, L.
        edge_dropout: share of interactions dropped from a view, rho.
        contrast: weight of the contrast in the loss, lambda_1.
        temperature: tau of the contrast.
        regularisation: weight of the layer-0 embeddings' norms in the loss, lambda_2.
    """

    renamed: ClassVar[Mapping[str, str]] = {**RecommenderParams.renamed, "drop": "edge_dropout"}

    layers: Annotated[int, Field(ge=1)] = 2
    edge_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    contrast: Annotated[float, Field(ge=0)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.2
    regularisation: Annotated[float, Field(ge=0)] = 1e-4


class SGL(Recommender):
    """LightGCN whose training also discriminates each node from the others across two views of the graph.

    This is the paper's variant SGL-ED: two views per epoch, each with its own random interactions dropped and
    normalised by the remaining degrees. Before the first epoch, and outside training, nothing is dropped.
    """

    params_type = SGLParams

    def __init__(self, data: TrainingData, params: SGLParams) -> None:
        super().__init__(data, params)
        self.params = params
        self.train_interactions = data.train
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.first_view = self.second_view = self.adjacency
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)

    def begin_epoch(self) -> None:
        """Draw the epoch's two views."""
        self.first_view, self.second_view = self.drawn_view(), self.drawn_view()

    def drawn_view(self) -> SparseOperator:
        """The normalised graph after random edge dropout."""
        kept = drop_interactions(self.train_interactions, self.params.edge_dropout)
        return SparseOperator(normalised(bipartite(kept), "sym_out")).to(self.users)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """LightGCN's two terms on the whole graph, and the contrast of the batch's users and positives (eq 10-11)."""
        all_users, all_items = self.embeddings()
        user = look_up(all_users, users)
        positive, negative = look_up(all_items, positives), look_up(all_items, negatives)
        free = (look_up(self.users, users), look_up(self.items, positives), look_up(self.items, negatives))
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "contrast": self.params.contrast * self.view_contrast(users, positives),
            "norm": self.params.regularisation * embedding_norm(*free),
        }

    def view_contrast(self, users: Tensor, positives: Tensor) -> Tensor:
        """InfoNCE between the two views of a batch's distinct users and positives."""
        nodes, sides = distinct_nodes(users, positives, self.n_users)
        graphs = (self.first_view, self.second_view) if self.training else (self.adjacency, self.adjacency)
        first, second = (look_up(self.propagated(graph), nodes) for graph in graphs)
        return two_view_contrast(first, second, sides, self.params.temperature)

    def propagated(self, graph: SparseOperator) -> Tensor:
        """The embeddings of all nodes after L hops over a graph, [n_users + n_items, d]."""
        return lightgcn(graph, torch.cat([self.users, self.items]), self.params.layers)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The embeddings propagated over the complete graph."""
        users, items = torch.split(self.propagated(self.adjacency), [self.n_users, self.n_items])
        return users, items


def drop_interactions(interactions: csr_array, share: float) -> csr_array:
    """Drop each interaction with probability `share`."""
    kept: csr_array = interactions.copy()
    kept.data *= (torch.rand(kept.nnz) >= share).numpy()
    kept.eliminate_zeros()
    return kept
