"""Base class of MGCN and its descendant AM2HRec: behaviour embeddings plus fused modality views."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.fused_losses import fused_losses
from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.losses import Similarity
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, look_up
from mmprep.pipeline.graphs.edges import normalised, weighted


class FusedViewsParams(MultimodalParams):
    """Keys common to the sections of these recommenders.

    Attributes:
        layers: hops of the free embeddings over the user-item graph.
        item_layers: hops of a modality's embeddings over its item graph.
        cl_weight: weight of the contrast of fused and behaviour embeddings; 0.001, 0.01 or 0.1 in the papers' search.
        cl_unique_ids: whether each user and item of a batch occurs only once in the contrast. If not, they occur as
            often as in the batch, so that some are their own negatives, as in MGCN's own code.
        temperature: tau of the contrast.
        cl_similarity: similarity of two nodes in the contrast: their `cosine`, as in MGCN's code, or their `inner`
            product, as the papers print it.
        regularisation: weight of the squared final embeddings in the loss.
    """

    layers: Annotated[int, Field(ge=0)] = 2
    item_layers: Annotated[int, Field(ge=0)] = 1
    cl_weight: Annotated[float, Field(ge=0)] = 1e-2
    cl_unique_ids: bool = False
    temperature: Annotated[float, Field(gt=0)] = 0.2
    cl_similarity: Similarity = "cosine"
    regularisation: Annotated[float, Field(ge=0)] = 1e-4


class BehaviourPlusModalities(Recommender):
    """LightGCN's behaviour embeddings plus each node's fused views, one view per modality.

    Items' views are propagated over each modality's item graph, then to users over the user-item graph (AM2HRec,
    eq 14-19 and 22-24; the same in MGCN).
    """

    def __init__(self, data: TrainingData, params: FusedViewsParams) -> None:
        super().__init__(data, params)
        self.params = params
        size = params.embedding_size
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        modalities = self.features.modalities
        adjacency = data.graphs["interaction/symmetric"]
        self.adjacency = SparseOperator(adjacency)
        self.of_users = SparseOperator(adjacency[: self.n_users, self.n_users :])
        self.neighbours = nn.ModuleDict({m: SparseOperator(smoothing(data.graphs[f"knn/{m}"])) for m in modalities})
        self.users = embedding_table(data.n_users, size)
        self.items = embedding_table(data.n_items, size)
        self.projections = nn.ModuleDict({m: xavier_linear(self.features.size(m), size) for m in modalities})

    @property
    def item_hops(self) -> int:
        """Number of hops over the item graphs."""
        return self.params.item_layers

    @abstractmethod
    def encode_views(self) -> tuple[Tensor, Tensor]:
        """The items' smoothed views [n_items, modalities d], and the behaviour of all nodes [n_users + n_items, d]."""

    @abstractmethod
    def fuse(self, views: Tensor, behaviour: Tensor) -> Tensor:
        """Fuse the views [n, modalities d] of nodes with behaviour [n, d] into [n, d]."""

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the contrast of fused and behaviour embeddings, and the final ones' squares."""
        batch = BatchNodes.of(users, positives, negatives)
        # Fusion is independent for each node, so only the batch's nodes are fused.
        of_items, behaviour = self.encode_views()
        views = torch.cat([look_up(self.views_of_users(of_items), batch.users), look_up(of_items, batch.items)])
        behaviour = look_up(behaviour, batch.nodes(self.n_users))
        return fused_losses(
            batch,
            behaviour,
            self.fuse(views, behaviour),
            contrast=self.params.cl_weight,
            temperature=self.params.temperature,
            similarity=self.params.cl_similarity,
            unique_ids=self.params.cl_unique_ids,
            norm=self.params.regularisation,
        )

    def behaviour(self) -> Tensor:
        """The propagated free embeddings of users, then items, [n_users + n_items, d]."""
        return lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)

    def projected(self) -> dict[str, Tensor]:
        """Each modality's projected features, [n_items, d]."""
        return {m: self.projections[m](self.features[m]) for m in self.features.modalities}

    def smoothed(self, views: Mapping[str, Tensor]) -> Tensor:
        """Views of items smoothed over each modality's item graph, concatenated, [n_items, modalities d]."""
        smoothed = []
        for modality, view in views.items():
            for _ in range(self.item_hops):
                view = self.neighbours[modality](view)
            smoothed.append(view)
        return torch.cat(smoothed, dim=1)

    def views_of_users(self, of_items: Tensor) -> Tensor:
        """The users' views from the items' views [n_items, modalities d], [n_users, modalities d]."""
        views: Tensor = self.of_users(of_items)
        return views

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Sum of behaviour and fused modalities."""
        of_items, behaviour = self.encode_views()
        final = behaviour + self.fuse(torch.cat([self.views_of_users(of_items), of_items]), behaviour)
        users, items = torch.split(final, [self.n_users, self.n_items])
        return users, items


def smoothing(neighbours: csr_array) -> csr_array:
    """The normalised item graph [n_items, n_items] over which views are smoothed.

    Source: docs/papers/am2hrec.md#item-graphs.
    """
    return normalised(weighted(neighbours, "cosine"), "sym_out")
