"""Soft hypergraphs: a few hyperedges, to each of which every node belongs to some degree.

What a hypergraph gives its nodes is incidence [n, n_h] @ hyperedges [n_h, d], of rank n_h, which is 4 more often than
not. It is kept in these two factors: most of what is computed with it costs n_h where the product would cost d.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import dropout, embedding, gumbel_softmax

from mmprep.models.layers.full_contrast import contrast_with_all

SHORTEST = 1e-12
"""Rows are divided by their length, or by this if they are shorter."""


def soft_incidence(logits: Tensor, temperature: float, *, noise: bool) -> Tensor:
    """The degrees [n, n_h] to which nodes belong to hyperedges; a node's sum is 1 (docs/papers/mgnm.md#incidence).

    Args:
        logits: [n, n_h].
        temperature: tau; the lower, the nearer a node is to one hyperedge alone.
        noise: whether Gumbel noise is added, for training.
    """
    return gumbel_softmax(logits, temperature, dim=1) if noise else (logits / temperature).softmax(dim=1)


def drawn_incidence(logits: Tensor, temperature: float, keep_rate: float, *, training: bool) -> Tensor:
    """The incidence [n, n_h] of logits [n, n_h]; in training with noise, and dropout that keeps `keep_rate` of it."""
    return dropout(soft_incidence(logits, temperature, noise=training), 1 - keep_rate, training)


def gather(incidence: Tensor, nodes: Tensor, layers: int) -> Tensor:
    """What hyperedges have gathered from nodes in the last of some layers, [n_h, d].

    A layer is nodes -> hyperedges -> nodes: J = H (H^T J) (docs/papers/mgnm.md#hypergraph). All but the first work on
    H^T H alone.

    Args:
        incidence: H, [n, n_h].
        nodes: J before the first layer, [n, d].
        layers: F, at least 1.
    """
    hyperedges = incidence.T @ nodes
    if layers > 1:
        overlap = incidence.T @ incidence
        for _ in range(layers - 1):
            hyperedges = overlap @ hyperedges
    return hyperedges


@dataclass(frozen=True)
class HyperEmbeddings:
    """The embeddings incidence @ hyperedges, [n, d], of nodes.

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
        """The incidence [n, n_h], scaled so that each node's embedding has length 1, or is 0 as it was."""
        squares = (self.incidence @ (self.hyperedges @ self.hyperedges.T) * self.incidence).sum(dim=1, keepdim=True)
        return self.incidence / squares.clamp_min(SHORTEST**2).sqrt()


def total(parts: list[HyperEmbeddings]) -> HyperEmbeddings:
    """The sum of the embeddings that several hypergraphs give the same nodes."""
    incidence = torch.cat([part.incidence for part in parts], dim=1)
    return HyperEmbeddings(incidence, torch.cat([part.hyperedges for part in parts]))


def hypergraph_contrast(
    first: HyperEmbeddings, second: HyperEmbeddings, nodes: Tensor, temperature: float, counts: Tensor
) -> Tensor:
    """Contrast of two views by cosine: each node of a batch in the first against all in the second.

    Source: docs/papers/mgnm.md#contrast.

    The sum over the batch, not the mean, and with gradients for both views, as LGMRec has it.

    Args:
        first: of n nodes.
        second: of the same.
        nodes: [batch] indices, each once.
        temperature: tau.
        counts: [batch] how often each counts.
    """
    across = first.hyperedges @ second.hyperedges.T / temperature
    anchors = embedding(nodes, first.directions()) @ across
    return contrast_with_all(anchors, second.directions(), nodes, counts)


def pairwise_contrast(hypergraphs: list[HyperEmbeddings], batch: Tensor, temperature: float) -> Tensor:
    """Each modality's hypergraph against those after it, summed over a batch and the pairs.

    Source: docs/papers/mgnm.md#contrast.

    Args:
        hypergraphs: of the same nodes, two or more.
        batch: [batch] indices of nodes, each as often as it counts.
        temperature: tau.
    """
    nodes, counts = torch.unique(batch, return_counts=True)
    pairs = combinations(hypergraphs, 2)
    return torch.stack([hypergraph_contrast(a, b, nodes, temperature, counts.to(a.incidence)) for a, b in pairs]).sum()
