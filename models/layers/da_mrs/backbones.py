"""Backbones of DA-MRS: models of users' and items' collaborative embeddings."""

import torch
from torch import Tensor, nn

from mmprep.models.layers.features import FeatureProjection, ItemFeatures
from mmprep.models.layers.propagation import SparseOperator, lightgcn


class FreeBackbone(nn.Module):
    """Matrix factorisation: free embeddings without propagation (Rendle et al., BPR, UAI 2009)."""

    def __init__(self, users: nn.Parameter, items: nn.Parameter) -> None:
        """Take the trainable tables.

        Args:
            users: [n_users, d].
            items: [n_items, d].
        """
        super().__init__()
        self.users = users
        self.items = items

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of users [n_users, d'] and items [n_items, d'], and the inputs of item graphs.

        The last are [n_items, d'], the items' embeddings before propagation over the user-item graph.
        """
        return self.users, self.items, self.items


class LightGCNBackbone(FreeBackbone):
    """Free embeddings, propagated over the user-item graph (He et al., LightGCN, SIGIR 2020)."""

    def __init__(self, users: nn.Parameter, items: nn.Parameter, adjacency: SparseOperator, layers: int) -> None:
        """Take the tables, the normalised user-item graph, [n_users + n_items] squared, and the number of hops."""
        super().__init__(users, items)
        self.adjacency = adjacency
        self.layers = layers

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """The propagated embeddings of users [n_users, d] and items [n_items, d], and the items' free ones."""
        nodes = lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.layers)
        users, items = torch.split(nodes, [len(self.users), len(self.items)])
        return users, items, self.items


class VBPRBackbone(FreeBackbone):
    """Items' free embeddings concatenated with projected features (He and McAuley, VBPR, AAAI 2016)."""

    def __init__(self, users: nn.Parameter, items: nn.Parameter, features: ItemFeatures) -> None:
        """Take the tables, with both halves for users, [n_users, 2 d], and the raw features."""
        super().__init__(users, items)
        self.features = features
        self.projection = FeatureProjection(features, items.shape[1])

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Both halves of users [n_users, 2 d] and of items [n_items, 2 d], which are also the inputs of item graphs."""
        all_items = torch.arange(len(self.items), device=self.items.device)
        items = torch.cat([self.items, self.projection(self.features, all_items)], dim=1)
        return self.users, items, items
