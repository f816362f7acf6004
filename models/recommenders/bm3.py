"""BM3: bootstrapped alignment of embeddings with their dropout copies, without negatives (Zhou et al., WWW 2023)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, dropout

from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.losses import embedding_norm
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, look_up


class BM3Params(MultimodalParams):
    """Section `recommenders.bm3`.

    Attributes:
        layers: hops over the user-item graph.
        dropout: dropout rate of the target embeddings.
        cl_weight: weight of the modalities' two losses.
        regularisation: weight of all embeddings' norms in the loss.
        presets: the authors' best settings on three datasets.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "baby": {"layers": 1, "dropout": 0.5, "regularisation": 0.1},
        "sports": {"layers": 1, "dropout": 0.5, "regularisation": 0.01},
        "elec": {"layers": 2, "dropout": 0.3, "regularisation": 0.1},
    }

    layers: Annotated[int, Field(ge=0)] = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    cl_weight: Annotated[float, Field(ge=0)] = 2.0
    regularisation: Annotated[float, Field(ge=0)] = 0.1


class BM3(Recommender):
    """LightGCN with a residual connection of items; ranks by a shared linear predictor of the embeddings.

    Training maximises the cosine of predictions (online) and dropout copies of embeddings (targets): a user's with the
    user's items, an item's with its users, a modality's with its item and with itself. Targets get no gradient.
    Features affect scores only through the training of the other parameters.
    """

    params_type = BM3Params

    def __init__(self, data: TrainingData, params: BM3Params) -> None:
        super().__init__(data, params)
        self.params = params
        size = params.embedding_size
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        self.users = embedding_table(data.n_users, size)
        self.items = embedding_table(data.n_items, size)
        self.projections = nn.ModuleDict({m: nn.Linear(self.features.size(m), size) for m in self.features.modalities})
        self.predictor = nn.Linear(size, size)
        # The bias keeps its random values: with zeros an item without features would have no direction.
        for linear in (*self.projections.values(), self.predictor):
            nn.init.xavier_normal_(linear.get_parameter("weight"))

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The losses of users and items, of modalities and items, and within modalities; and the norms."""
        del negatives
        all_users, all_items = self.propagated()
        # Each item of the batch is projected once, since that is most of a step's work, and has a single target.
        own_users, user_rows = torch.unique(users, return_inverse=True)
        own_items, item_rows = torch.unique(positives, return_inverse=True)
        user, user_target = self.views(look_up(all_users, own_users), user_rows)
        item, item_target = self.views(look_up(all_items, own_items), item_rows)
        alignment, masked = [], []
        for modality, projection in self.projections.items():
            projected = projection(look_up(self.features[modality], own_items))
            online, target = self.views(projected, item_rows)
            alignment.append(distance(online, item_target))
            masked.append(distance(online, target))
        return {
            "reconstruction": distance(user, item_target) + distance(item, user_target),
            "alignment": self.params.cl_weight * torch.stack(alignment).sum(),
            "masked": self.params.cl_weight * torch.stack(masked).sum(),
            "norm": self.params.regularisation * embedding_norm(all_items, all_users),
        }

    def views(self, embeddings: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets of the rows [batch] of embeddings [n, d]."""
        targets = dropout(embeddings.detach(), self.params.dropout, self.training)
        return look_up(self.predictor(embeddings), rows), look_up(targets, rows)

    def propagated(self) -> tuple[Tensor, Tensor]:
        """Embeddings of users and items before the predictor."""
        nodes = lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)
        users, items = torch.split(nodes, [self.n_users, self.n_items])
        return users, items + self.items

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The predictions of all users and items."""
        users, items = self.propagated()
        return self.predictor(users), self.predictor(items)


def distance(online: Tensor, target: Tensor) -> Tensor:
    """1 - the mean cosine of the rows of two [batch, d] tensors."""
    return 1 - cosine_similarity(online, target, dim=1).mean()
