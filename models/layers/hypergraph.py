"""Soft hypergraphs with few hyperedges and fractional membership of nodes.

The embeddings of nodes are incidence [n, n_h] @ hyperedges [n_h, d], of rank n_h, typically 4. They are kept as these
two factors, since most computations then cost n_h where the product would cost d.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import dropout, embedding, gumbel_softmax

from mmprep.models.layers.full_contrast import contrast_with_all

SHORTEST = 1e-12
"""Lower bound of the norm by which rows are divided."""


def soft_incidence(logits: Tensor, temperature: float, *, noise: bool) -> Tensor:
    """Memberships [n, n_h] of nodes in hyperedges; each row sums to 1 (docs/papers/mgnm.md#incidence).

    Args:
        logits: [n, n_h].
        temperature: tau; with a lower one, a node concentrates on one hyperedge.
        noise: whether Gumbel noise is added, for training.
    """
    return gumbel_softmax(logits, temperature, dim=1) if noise else (logits / temperature).softmax(dim=1)


def drawn_incidence(logits: Tensor, temperature: float, keep_rate: float, *, training: bool) -> Tensor:
    """Incidence [n, n_h] from logits [n, n_h]; in training with Gumbel noise, and dropout that keeps `keep_rate`."""
    return dropout(soft_incidence(logits, temperature, noise=training), 1 - keep_rate, training)


def gather(incidence: Tensor, nodes: Tensor, layers: int) -> Tensor:
    """Hyperedge embeddings, aggregated from nodes, in the last layer, [n_h, d].

    A layer is nodes -> hyperedges -> nodes: J = H (H^T J) (docs/papers/mgnm.md#hypergraph). All layers but the first
    need only H^T H.

    Args:
        incidence: H, [n, n_h].
        nodes: J before the first layer, [n, d].
        layers: number of layers F, at least 1.
    """
    hyperedges = incidence.T @ nodes
    if layers > 1:
        overlap = incidence.T @ incidence
        for _ in range(layers - 1):
            hyperedges = overlap @ hyperedges
    return hyperedges


@dataclass(frozen=True)
class HyperEmbeddings:
    """Embeddings of nodes, incidence @ hyperedges, [n, d], kept as two factors.

    Attributes:
        incidence: [n, n_h].
        hyperedges: [n_h, d].
    """

    incidence: Tensor
    hyperedges: Tensor

    def rows(self, nodes: Tensor) -> Tensor:
        """The embeddings [batch, d] of nodes, given by their indices [batch]."""
        return embedding(nodes, self.incidence) @ self.hyperedges

    def embeddings(self) -> Tensor:
        """The embeddings [n, d] of all nodes."""
        return self.incidence @ self.hyperedges

    def directions(self) -> Tensor:
        """Incidence [n, n_h], scaled so that each node's embedding is L2-normalised; zero embeddings stay zero."""
        squares = (self.incidence @ (self.hyperedges @ self.hyperedges.T) * self.incidence).sum(dim=1, keepdim=True)
        return self.incidence / squares.clamp_min(SHORTEST**2).sqrt()


def total(parts: list[HyperEmbeddings]) -> HyperEmbeddings:
    """Sum of several hypergraphs' embeddings of the same nodes."""
    incidence = torch.cat([part.incidence for part in parts], dim=1)
    return HyperEmbeddings(incidence, torch.cat([part.hyperedges for part in parts]))


def hypergraph_contrast(
    first: HyperEmbeddings, second: HyperEmbeddings, nodes: Tensor, temperature: float, counts: Tensor
) -> Tensor:
    """Contrast of two views by cosine: each node of a batch in the first against all in the second.

    Source: docs/papers/mgnm.md#contrast.

    The sum over the batch, not the mean, and with gradients for both views, as in LGMRec.

    Args:
        first: embeddings of n nodes.
        second: embeddings of the same nodes.
        nodes: [batch] distinct indices.
        temperature: tau.
        counts: [batch] multiplicity of each node.
    """
    across = first.hyperedges @ second.hyperedges.T / temperature
    anchors = embedding(nodes, first.directions()) @ across
    return contrast_with_all(anchors, second.directions(), nodes, counts)


def pairwise_contrast(hypergraphs: list[HyperEmbeddings], batch: Tensor, temperature: float) -> Tensor:
    """Contrast of each pair of hypergraphs, summed over a batch and the pairs.

    Source: docs/papers/mgnm.md#contrast.

    Args:
        hypergraphs: two or more hypergraphs of the same nodes.
        batch: [batch] indices of nodes, repeated by multiplicity.
        temperature: tau.
    """
    nodes, counts = torch.unique(batch, return_counts=True)
    pairs = combinations(hypergraphs, 2)
    return torch.stack([hypergraph_contrast(a, b, nodes, temperature, counts.to(a.incidence)) for a, b in pairs]).sum()
