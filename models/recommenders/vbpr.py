"""VBPR: BPR whose item embedding is partly a projection of the item's features (He and McAuley, AAAI 2016)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mmprep.models.layers.features import FeatureProjection, ItemFeatures
from mmprep.models.layers.losses import bpr, embedding_norm
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, inner, look_up


class VBPRParams(MultimodalParams):
    """Section `recommenders.vbpr`.

    Attributes:
        regularisation: weight of the embeddings' norms in the loss.
    """

    regularisation: Annotated[float, Field(ge=0)] = 1e-2


class VBPR(Recommender):
    """An item is its free embedding beside the projection of its features; a user has an embedding for both halves.

    All modalities are read, one after the other in one vector, as MMRec has it; the paper has photos alone. Its
    eq 4 also has item biases and a bias of the photo, which are left out here as there.
    """

    params_type = VBPRParams

    def __init__(self, data: TrainingData, params: VBPRParams) -> None:
        super().__init__(data, params)
        self.regularisation = params.regularisation
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        self.users = embedding_table(data.n_users, 2 * params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)
        self.projection = FeatureProjection(self.features, params.embedding_size)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss and the norms of the batch's embeddings."""
        # Each item of the batch is projected once: that is most of a step's work.
        items, place = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
        positive, negative = torch.split(look_up(self.item_embeddings(items), place), len(users))
        user = look_up(self.users, users)
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.regularisation * embedding_norm(user, positive, negative),
        }

    def item_embeddings(self, items: Tensor) -> Tensor:
        """The free and the projected half of items [n], [n, 2 d]."""
        return torch.cat([look_up(self.items, items), self.projection(self.features, items)], dim=1)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Both halves of users and items."""
        return self.users, self.item_embeddings(torch.arange(self.n_items, device=self.items.device))
