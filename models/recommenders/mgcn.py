"""MGCN: behaviour-guided purifier of modality views, fused into shared and exclusive parts (Yu et al., MM 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mmprep.models.layers.fusion import SharedExclusiveFusion, combined
from mmprep.models.layers.purifier import Purifier
from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.fused_views import BehaviourPlusModalities, FusedViewsParams


class MGCNParams(FusedViewsParams):
    """Section `recommenders.mgcn`; the defaults are the authors' code (docs/papers/baselines.md#mgcn)."""

    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.96


class MGCN(BehaviourPlusModalities):
    """Behaviour plus fused views; a modality's view of items is their free embeddings, purified by its features.

    The mean of the shared part and of each modality's exclusive part is added to behaviour: (shared + sum) / 3 for two
    modalities, as in MGCN's own code (docs/papers/baselines.md#mgcn).
    """

    params_type = MGCNParams

    def __init__(self, data: TrainingData, params: MGCNParams) -> None:
        super().__init__(data, params)
        modalities, size = self.features.modalities, params.embedding_size
        self.purifiers = nn.ModuleDict({m: Purifier(size, size) for m in modalities})
        self.fusion = SharedExclusiveFusion(modalities, size)

    def item_views(self) -> dict[str, Tensor]:
        """Items' free embeddings, purified by each modality's features, [n_items, d] each."""
        return {m: self.purifiers[m](self.items, view) for m, view in self.projected().items()}

    def encode_views(self) -> tuple[Tensor, Tensor]:
        """The items' smoothed views, and the behaviour of all nodes."""
        return self.smoothed(self.item_views()), self.behaviour()

    def fuse(self, views: Tensor, behaviour: Tensor) -> Tensor:
        """The mean of shared and exclusive parts."""
        shared, exclusive = self.fusion(torch.split(views, self.embedding_size, dim=1), behaviour)
        return combined(shared, exclusive, len(self.features.modalities), "ancestor")
