"""LightGCN: mean of embeddings propagated over the user-item graph (He et al., SIGIR 2020)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

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


class LightGCNParams(RecommenderParams):
    """Section `recommenders.lightgcn`.

    Attributes:
        layers: hops of propagation, L.
        regularisation: weight of the layer-0 embeddings' norms in the loss.
    """

    layers: Annotated[int, Field(ge=0)] = 2
    regularisation: Annotated[float, Field(ge=0)] = 1e-4


class LightGCN(Recommender):
    """Free embeddings propagated over the normalised user-item graph without weights or activations (eq 3-4, 8)."""

    params_type = LightGCNParams

    def __init__(self, data: TrainingData, params: LightGCNParams) -> None:
        super().__init__(data, params)
        self.layers = params.layers
        self.regularisation = params.regularisation
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss on propagated embeddings and the norms of the free ones (eq 15)."""
        all_users, all_items = self.embeddings()
        user = look_up(all_users, users)
        positive, negative = look_up(all_items, positives), look_up(all_items, negatives)
        free = (look_up(self.users, users), look_up(self.items, positives), look_up(self.items, negatives))
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.regularisation * embedding_norm(*free),
        }

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The propagated embeddings (eq 4)."""
        nodes = lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.layers)
        users, items = torch.split(nodes, [self.n_users, self.n_items])
        return users, items
