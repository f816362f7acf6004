"""NGCF: propagation with weights, activations and an interaction term (Wang et al., SIGIR 2019)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu, normalize

from mmprep.models.layers.losses import bpr, l2_batch
from mmprep.models.layers.propagation import SparseOperator
from mmprep.models.recommenders.base import (
    Recommender,
    RecommenderParams,
    TrainingData,
    embedding_table,
    inner,
    look_up,
)

SLOPE = 0.2  # of LeakyReLU below 0; the paper gives none, this is its code's


class NGCFParams(RecommenderParams):
    """Section `recommenders.ngcf`.

    Attributes:
        layers: hops of propagation, L; an embedding for ranking is 1 + L times as long as a free one.
        dropout: share of each hop's output that is set to 0 in training (the paper's message dropout).
        regularisation: weight of the embeddings' squares in the loss, lambda.
    """

    layers: Annotated[int, Field(ge=1)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    regularisation: Annotated[float, Field(ge=0)] = 1e-5


class NGCF(Recommender):
    """Free embeddings and each hop's output side by side.

    The graph is the paper's, 1 / sqrt(|N_u| |N_i|) with a self-connection of 1 (eq 3-4, 8). As in its code, the
    outputs have length 1 where they are joined, though not where they are propagated.
    """

    params_type = NGCFParams

    def __init__(self, data: TrainingData, params: NGCFParams) -> None:
        super().__init__(data, params)
        self.dropout = params.dropout
        self.regularisation = params.regularisation
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)
        self.hops = nn.ModuleList(NGCFHop(params.embedding_size) for _ in range(params.layers))

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss and the squares of the embeddings that are ranked by (eq 11, without the hops' weights)."""
        # Each node of the batch is computed once: the last hop's weights are a good part of a step's work.
        batch = torch.cat([users, self.n_users + positives, self.n_users + negatives])
        nodes, place = torch.unique(batch, return_inverse=True)
        user, positive, negative = torch.split(look_up(self.joined(nodes), place), len(users))
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.regularisation * l2_batch(user, positive, negative),
        }

    def joined(self, chosen: Tensor) -> Tensor:
        """The free embeddings beside the hops' outputs at length 1 (eq 9), of chosen nodes [n], [n, (1 + L) d].

        All nodes take part in all hops but the last, whose output goes no further.
        """
        outputs = [torch.cat([self.users, self.items])]
        for hop in self.hops[:-1]:
            outputs.append(self.thinned(hop(self.adjacency(outputs[-1]), outputs[-1])))
        neighbours = look_up(self.adjacency(outputs[-1]), chosen)
        rows = [look_up(output, chosen) for output in outputs]
        rows.append(self.thinned(self.hops[-1](neighbours, rows[-1])))
        free, *propagated = rows
        return torch.cat([free, *(normalize(each, dim=1) for each in propagated)], dim=1)

    def thinned(self, output: Tensor) -> Tensor:
        """A hop's output after dropout, which there is in training alone."""
        return dropout(output, self.dropout, self.training)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The joined embeddings of all nodes."""
        nodes = self.joined(torch.arange(self.n_users + self.n_items, device=self.users.device))
        users, items = torch.split(nodes, [self.n_users, self.n_items])
        return users, items


class NGCFHop(nn.Module):
    """One hop: LeakyReLU((A + I) E W1 + (A E * E) W2), the star by element (eq 7)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.sum = nn.Linear(size, size, bias=False)
        self.product = nn.Linear(size, size, bias=False)
        for weights in (self.sum.weight, self.product.weight):
            nn.init.xavier_uniform_(weights)

    def forward(self, neighbours: Tensor, nodes: Tensor) -> Tensor:
        """The output [n, d] for A E and E, [n, d] each."""
        return leaky_relu(self.sum(neighbours + nodes) + self.product(neighbours * nodes), SLOPE)
