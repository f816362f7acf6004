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

SLOPE = 0.2  # negative slope of LeakyReLU, from the authors' code; not stated in the paper


class NGCFParams(RecommenderParams):
    """Section `recommenders.ngcf`.

    Attributes:
        layers: hops of propagation, L; embeddings for ranking have 1 + L times the free embeddings' length.
        dropout: dropout rate of each hop's output (the paper's message dropout).
        regularisation: weight of the embeddings' squares in the loss, lambda.
    """

    layers: Annotated[int, Field(ge=1)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    regularisation: Annotated[float, Field(ge=0)] = 1e-5


class NGCF(Recommender):
    """Concatenation of free embeddings and each hop's output.

    The graph is the paper's, 1 / sqrt(|N_u| |N_i|) with a self-connection of 1 (eq 3-4, 8). As in the authors' code,
    outputs are L2-normalised before concatenation, but not before further propagation.
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
        """The ranking loss and the squares of the final embeddings (eq 11, without the hops' weights)."""
        # Each node of the batch is computed once, since the last hop's weights are a good part of a step's work.
        batch = torch.cat([users, self.n_users + positives, self.n_users + negatives])
        nodes, rows = torch.unique(batch, return_inverse=True)
        user, positive, negative = torch.split(look_up(self.joined(nodes), rows), len(users))
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.regularisation * l2_batch(user, positive, negative),
        }

    def joined(self, chosen: Tensor) -> Tensor:
        """The free embeddings and the hops' normalised outputs (eq 9) of chosen nodes [n], [n, (1 + L) d].

        All hops but the last are computed for all nodes; the last one's output is not propagated further.
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
        """A hop's output after dropout, which is applied only in training."""
        return dropout(output, self.dropout, self.training)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The concatenated embeddings of all nodes."""
        nodes = self.joined(torch.arange(self.n_users + self.n_items, device=self.users.device))
        users, items = torch.split(nodes, [self.n_users, self.n_items])
        return users, items


class NGCFHop(nn.Module):
    """One hop: LeakyReLU((A + I) E W1 + (A E * E) W2), with * elementwise (eq 7)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.sum = nn.Linear(size, size, bias=False)
        self.product = nn.Linear(size, size, bias=False)
        for weights in (self.sum.weight, self.product.weight):
            nn.init.xavier_uniform_(weights)

    def forward(self, neighbours: Tensor, nodes: Tensor) -> Tensor:
        """The output [n, d] from A E and E, [n, d] each."""
        return leaky_relu(self.sum(neighbours + nodes) + self.product(neighbours * nodes), SLOPE)
