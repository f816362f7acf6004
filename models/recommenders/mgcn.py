"""MGCN: views of purified modalities, fused into shared and exclusive parts (Yu et al., MM 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor, nn

from models.layers.batch import BatchNodes
from models.layers.features import ItemFeatures
from models.layers.fused_losses import fused_losses
from models.layers.fusion import SharedExclusiveFusion
from models.layers.linear import xavier_linear
from models.layers.propagation import SparseOperator, lightgcn
from models.layers.purifier import Purifier
from models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, look_up
from pipeline.graphs import normalised, weighted


class MGCNParams(MultimodalParams):
    """Section `recommenders.mgcn`.

    Attributes:
        layers: hops of the free embeddings over the user-item graph.
        item_layers: hops of a modality's purified embeddings over its item graph.
        cl_weight: weight of the contrast of fused and behaviour embeddings; 0.001, 0.01 or 0.1 in MGCN's own search.
        cl_unique_ids: whether the contrast has each user and item of a batch once. MGCN's own code has them as often
            as they occur, so that some are their own negatives.
        temperature: tau of the contrast.
        regularisation: weight of the squared final embeddings in the loss.
    """

    decay: Annotated[float, Field(gt=0, le=1)] = 0.96
    layers: Annotated[int, Field(ge=0)] = 2
    item_layers: Annotated[int, Field(ge=0)] = 1
    cl_weight: Annotated[float, Field(ge=0)] = 1e-2
    cl_unique_ids: bool = True
    temperature: Annotated[float, Field(gt=0)] = 0.2
    regularisation: Annotated[float, Field(ge=0)] = 1e-4


class MGCN(Recommender):
    """Behaviour embeddings by LightGCN, and beside them what the modalities say of users and items.

    Purified items go over each modality's item graph, then to users over the user-item graph. AM2HRec's eq 5-8, 14-19
    and 22-24 say the same. The mean of the shared part and of each modality's exclusive one is added to behaviour:
    (shared + sum) / 3 for two modalities, as in MGCN's own code (specs 1.6, A6).
    """

    params_type = MGCNParams

    def __init__(self, data: TrainingData, params: MGCNParams) -> None:
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
        self.purifiers = nn.ModuleDict({m: Purifier(size, size) for m in modalities})
        self.fusion = SharedExclusiveFusion(modalities, size)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the contrast of fused and behaviour embeddings, and the final ones' squares."""
        batch = BatchNodes.of(users, positives, negatives)
        # Fusion is a node's own affair: only the batch's nodes are fused.
        of_items = self.views_of_items()
        views = torch.cat([look_up(self.of_users(of_items), batch.users), look_up(of_items, batch.items)])
        behaviour = look_up(self.behaviour(), batch.nodes(self.n_users))
        return fused_losses(
            batch,
            behaviour,
            self.fused(views, behaviour),
            contrast=self.params.cl_weight,
            temperature=self.params.temperature,
            unique_ids=self.params.cl_unique_ids,
            norm=self.params.regularisation,
        )

    def behaviour(self) -> Tensor:
        """The propagated free embeddings of users, then items, [n_users + n_items, d]."""
        return lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)

    def item_views(self) -> dict[str, Tensor]:
        """Each modality's purified embeddings, before they are smoothed, [n_items, d] each."""
        projected = {m: self.projections[m](self.features[m]) for m in self.features.modalities}
        return {m: self.purifiers[m](self.items, view) for m, view in projected.items()}

    def views_of_items(self) -> Tensor:
        """Each modality's purified and smoothed embeddings, side by side, [n_items, modalities d]."""
        views = []
        for modality, view in self.item_views().items():
            for _ in range(self.params.item_layers):
                view = self.neighbours[modality](view)
            views.append(view)
        return torch.cat(views, dim=1)

    def fused(self, views: Tensor, behaviour: Tensor) -> Tensor:
        """What the modalities add to the behaviour [n, d] of nodes whose views are [n, modalities d], [n, d]."""
        shared, exclusive = self.fusion(torch.split(views, self.embedding_size, dim=1), behaviour)
        mean: Tensor = (shared + exclusive) / (1 + len(self.features.modalities))
        return mean

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Behaviour and fused modalities, added."""
        of_items, behaviour = self.views_of_items(), self.behaviour()
        final = behaviour + self.fused(torch.cat([self.of_users(of_items), of_items]), behaviour)
        users, items = torch.split(final, [self.n_users, self.n_items])
        return users, items


def smoothing(neighbours: csr_array) -> csr_array:
    """The item graph [n_items, n_items] by whose weights purified embeddings are summed (specs 1.3 step 4)."""
    return normalised(weighted(neighbours, "cosine"), "sym_out")
