"""FREEDOM: LightGCN on a denoised graph, with items smoothed over a frozen item graph (Zhou and Shen, MM 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.losses import bpr
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, inner, look_up
from mmprep.pipeline.graphs.edges import bipartite, normalised


class FREEDOMParams(MultimodalParams):
    """Section `recommenders.freedom`.

    Attributes:
        layers: hops over the user-item graph.
        item_layers: hops over the item graph.
        dropout: share of interactions dropped from an epoch's graph, rho; 0.8 or 0.9 in the authors' own search.
        regularisation: weight of the ranking loss by each modality's projected features; 0 to 0.001 in that search.
            With 0, features enter only through the item graph.
    """

    layers: Annotated[int, Field(ge=0)] = 2
    item_layers: Annotated[int, Field(ge=1)] = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.8
    regularisation: Annotated[float, Field(ge=0)] = 1e-3


class FREEDOM(Recommender):
    """An item is LightGCN's embedding plus the sum of its neighbours' free embeddings in the graph `mixed`.

    Each epoch trains on a sample of the interactions, in which those of popular users and items are less likely. Before
    the first epoch, and outside training, the graph is complete. Features affect scores only through the item graph.
    Their projections have no bias, which would cancel in the difference of two items' scores.
    """

    params_type = FREEDOMParams

    def __init__(self, data: TrainingData, params: FREEDOMParams) -> None:
        super().__init__(data, params)
        self.params = params
        whole = data.graphs["interaction/symmetric"]
        self.interaction_weights = csr_array(whole[: self.n_users, self.n_users :])
        self.adjacency = SparseOperator(whole)
        self.epoch_adjacency = self.adjacency
        self.neighbours = SparseOperator(data.graphs["mixed"])
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)
        self.projections = nn.ModuleDict(
            {
                m: xavier_linear(self.features.size(m), params.embedding_size, bias=False)
                for m in self.features.modalities
            }
        )

    def begin_epoch(self) -> None:
        """Draw the interactions that the epoch propagates over."""
        kept = round(self.interaction_weights.nnz * (1 - self.params.dropout))
        drawn = draw_interactions(self.interaction_weights, kept)
        self.epoch_adjacency = SparseOperator(normalised(bipartite(drawn), "sym_out")).to(self.users)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking losses by embeddings and by each modality's projected features."""
        all_users, all_items = self.propagated(self.epoch_adjacency if self.training else self.adjacency)
        user = look_up(all_users, users)
        positive, negative = look_up(all_items, positives), look_up(all_items, negatives)
        terms = {"bpr": bpr(inner(user, positive), inner(user, negative))}
        if self.params.regularisation:
            # Each item of the batch is projected once, since that is most of a step's work.
            batch = BatchNodes.of(users, positives, negatives)
            rows = batch.positive_rows - len(batch.users), batch.negative_rows - len(batch.users)
            for modality, projection in self.projections.items():
                projected = projection(look_up(self.features[modality], batch.items))
                positive, negative = (look_up(projected, each) for each in rows)
                ranking = bpr(inner(user, positive), inner(user, negative))
                terms[f"bpr_{modality}"] = self.params.regularisation * ranking
        return terms

    def propagated(self, adjacency: SparseOperator) -> tuple[Tensor, Tensor]:
        """Embeddings of users and items, propagated over a user-item graph and over the item graph."""
        nodes = lightgcn(adjacency, torch.cat([self.users, self.items]), self.params.layers)
        users, items = torch.split(nodes, [self.n_users, self.n_items])
        smoothed: Tensor = self.items
        for _ in range(self.params.item_layers):
            smoothed = self.neighbours(smoothed)
        return users, items + smoothed

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The embeddings propagated over the complete user-item graph."""
        return self.propagated(self.adjacency)


def draw_interactions(weights: csr_array, kept: int) -> csr_array:
    """Sample interactions without replacement, in proportion to their weights (degree-sensitive).

    Args:
        weights: positive, [n_users, n_items].
        kept: number of interactions to draw.

    Returns:
        1 for each drawn interaction, [n_users, n_items].
    """
    # The order of exponential arrivals at rates w is that of such draws, without torch.multinomial's size limit.
    arrivals = torch.empty(weights.nnz, dtype=torch.float64).exponential_() / torch.from_numpy(weights.data)
    chosen = torch.topk(arrivals, kept, largest=False).indices.numpy()
    drawn: csr_array = weights.copy()
    drawn.data[:] = 0
    drawn.data[chosen] = 1
    drawn.eliminate_zeros()
    return drawn
