"""VBPR: BPR with projected item features in the item embedding (He and McAuley, AAAI 2016)."""

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
    """An item is the concatenation of its free embedding and its projected features; a user has both halves as well.

    All modalities are concatenated into one vector, as in MMRec; the paper uses only photos. Its eq 4 also has item
    biases and a visual bias, which are omitted here as in MMRec.
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
        # Each item of the batch is projected once, since that is most of a step's work.
        items, rows = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
        positive, negative = torch.split(look_up(self.item_embeddings(items), rows), len(users))
        user = look_up(self.users, users)
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.regularisation * embedding_norm(user, positive, negative),
        }

    def item_embeddings(self, items: Tensor) -> Tensor:
        """Free and projected halves of items [n], [n, 2 d]."""
        return torch.cat([look_up(self.items, items), self.projection(self.features, items)], dim=1)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Embeddings of users and items with both halves."""
        return self.users, self.item_embeddings(torch.arange(self.n_items, device=self.items.device))
