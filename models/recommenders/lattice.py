"""LATTICE: LightGCN with items smoothed over a graph learned from their features (Zhang et al., MM 2021)."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from scipy.sparse import csr_array, eye_array
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.learned_graph import LearnedGraph, cosine_graph, mixture
from mmprep.models.layers.losses import bpr, l2_batch
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, inner, look_up
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.edges import normalised, weighted


class LATTICEParams(MultimodalParams):
    """Section `recommenders.lattice`.

    Attributes:
        layers: hops of the free embeddings over the user-item graph.
        item_layers: hops over the latent item graph.
        k: neighbours per item and modality in the learned part of that graph, including the item itself.
        feature_size: dimension of the projected features that determine the learned neighbours.
        raw_share: lambda, weight of the raw features' graph in the latent one; the learned part has 1 - lambda.
        regularisation: weight of the squared final embeddings in the loss; 0 to 0.001 in the authors' own search.
    """

    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.96
    layers: Annotated[int, Field(ge=0)] = 2
    item_layers: Annotated[int, Field(ge=1)] = 1
    k: Annotated[int, Field(ge=1)] = 10
    feature_size: Annotated[int, Field(ge=1)] = 64
    raw_share: Annotated[float, Field(ge=0, le=1)] = 0.9
    regularisation: Annotated[float, Field(ge=0)] = 1e-4


class LATTICE(Recommender):
    """An item is LightGCN's embedding plus its L2-normalised smoothed embedding over a latent item graph.

    The latent graph is lambda times the fixed graph of raw features plus 1 - lambda times the graph of projected
    features; in both, modalities are weighted by a softmax. It is built in the first step of an epoch, the only one
    that trains projections and weights, and kept for the other steps, as in the authors' code. Ranking rebuilds it.

    Details that the paper omits follow that code too: the learned graphs are normalised after they are summed, and
    users and items average over their neighbours and themselves, (D + I)^-1 (A + I), where LightGCN has
    D^-1/2 A D^-1/2. Negative similarities count as 0 here, so that no row sum can vanish
    (docs/papers/conventions.md#negative-weights).
    """

    params_type = LATTICEParams

    def __init__(self, data: TrainingData, params: LATTICEParams) -> None:
        super().__init__(data, params)
        if params.k > data.n_items:
            raise DataError(f"recommenders.lattice.k: found {params.k}, expected at most {data.n_items}, the items")
        self.params = params
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        self.modalities = self.features.modalities
        self.adjacency = SparseOperator(with_self_loops(data.graphs["interaction/symmetric"]))
        self.raw_graphs = {m: normalised_cosines(data.graphs[f"knn/{m}"]) for m in self.modalities}
        self.raw = nn.ModuleDict({m: SparseOperator(graph) for m, graph in self.raw_graphs.items()})
        self.epoch_graph: SparseOperator | None = None
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)
        self.importance = nn.Parameter(torch.zeros(len(self.modalities)))
        self.projections = nn.ModuleDict(
            {m: nn.Linear(self.features.size(m), params.feature_size) for m in self.modalities}
        )
        for projection in self.projections.values():
            nn.init.xavier_uniform_(projection.get_parameter("weight"))

    def begin_epoch(self) -> None:
        """Discard the last epoch's graph; the first step builds a new one."""
        self.epoch_graph = None

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss and the squares of the batch's final embeddings."""
        all_users, all_items = self.embeddings()
        user = look_up(all_users, users)
        positive, negative = look_up(all_items, positives), look_up(all_items, negatives)
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.params.regularisation * l2_batch(user, positive, negative),
        }

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """LightGCN's embeddings, plus the normalised smoothed ones for items."""
        nodes = lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)
        users, items = torch.split(nodes, [self.n_users, self.n_items])
        graph = self.latent_graph()
        smoothed: Tensor = self.items
        for _ in range(self.params.item_layers):
            smoothed = graph(smoothed)
        return users, items + normalize(smoothed, dim=1)

    def latent_graph(self) -> Callable[[Tensor], Tensor]:
        """The item graph as a product with [n_items, d]: the epoch's, or one built from the current parameters."""
        if self.training and self.epoch_graph is not None:
            return self.epoch_graph
        shares = torch.softmax(self.importance, dim=0)
        learned = self.learned_graph(shares)
        if self.training:
            self.epoch_graph = SparseOperator(self.mixed_matrix(shares, learned)).to(self.items)
        raw_share = self.params.raw_share

        def product(dense: Tensor) -> Tensor:
            raw = [share * self.raw[m](dense) for m, share in zip(self.modalities, shares.unbind(), strict=True)]
            return (1 - raw_share) * learned(dense) + raw_share * torch.stack(raw).sum(dim=0)

        return product

    def learned_graph(self, shares: Tensor) -> LearnedGraph:
        """Mixture of the modalities' nearest-neighbour graphs by projected features, normalised."""
        graphs = [cosine_graph(self.projections[m](self.features[m]), self.params.k) for m in self.modalities]
        return mixture(graphs, shares).normalised()

    def mixed_matrix(self, shares: Tensor, learned: LearnedGraph) -> csr_array:
        """The item graph as one matrix without gradient, which takes one product instead of three."""
        raw_share = self.params.raw_share
        matrix = (1 - raw_share) * learned.to_matrix()
        for modality, share in zip(self.modalities, shares.tolist(), strict=True):
            matrix = matrix + raw_share * share * self.raw_graphs[modality]
        return csr_array(matrix)


def with_self_loops(graph: csr_array) -> csr_array:
    """Row-normalised binary graph of all nodes with self loops."""
    return normalised(csr_array(weighted(graph, "binary") + eye_array(graph.shape[0], dtype=graph.dtype)), "row")


def normalised_cosines(graph: csr_array) -> csr_array:
    """A modality's raw graph, each weight divided by the root of both nodes' row sums."""
    return normalised(weighted(graph, "cosine"), "sym_out")
