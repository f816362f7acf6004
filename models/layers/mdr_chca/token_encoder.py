"""Encoder of one modality's patches or tokens (docs/papers/mdr_chca.md#intra-item-graphs)."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmprep.models.layers.mdr_chca.token_attention import SelfAttentionMix
from mmprep.models.layers.mdr_chca.token_graph import IntraItemConvolution
from mmprep.models.layers.mdr_chca.token_input import TokenInput
from mmprep.models.layers.mdr_chca.token_store import TokenStore
from mmprep.models.layers.propagation import SparseOperator
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import normalised, weighted
from mmprep.pipeline.graphs.knn import nearest


class TokenEncoder(nn.Module):
    """Projects vectors, convolves them over each item's own graph, and mixes them with their self-attention.

    With `item_neighbours` the graph connects items instead, by the means of their raw vectors: the projected mean of an
    item's neighbours is added to each of its vectors (docs/papers/mdr_chca.md#intra-item-graphs).
    """

    def __init__(
        self, store: TokenStore, size: int, layers: int, *, attention: bool, item_neighbours: int | None
    ) -> None:
        """Create the layers.

        Args:
            store: store of the raw vectors.
            size: length of encoded vectors, d.
            layers: number of convolution layers.
            attention: whether there is self-attention.
            item_neighbours: number of neighbours in a graph of items; None for graphs within items.

        Raises:
            DataError: there are fewer items than neighbours.
        """
        super().__init__()
        self.input = TokenInput(store, size)
        self.convolution = IntraItemConvolution(size, layers)
        self.denoising = SelfAttentionMix() if attention else None
        self.neighbours = None
        if item_neighbours is not None:
            means = self.input.means()
            cosines = Cosines.of(means.numpy(), np.arange(len(means), dtype=np.int32), Path("means of tokens"))
            graph = nearest(cosines, item_neighbours, include_self=True).edges.to_matrix(len(means))
            self.neighbours = SparseOperator(normalised(weighted(graph, "cosine"), "sym_out"))
            self.register_buffer("means", means, persistent=False)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The encoded vectors of items [n] and their mask: [n, length, d] and [n, length]."""
        vectors, there = self.input(items)
        if self.neighbours is None:
            vectors = self.convolution(vectors, self.input.neighbours(items, vectors.shape[1]))
        else:
            common = self.neighbours(self.input.projection(self.get_buffer("means")))
            vectors = vectors + embedding(items, common)[:, None] * there[..., None]
            vectors = self.convolution(vectors, None)
        return vectors if self.denoising is None else self.denoising(vectors, there), there
