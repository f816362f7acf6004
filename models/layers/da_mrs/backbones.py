"""Backbones that a plug-in such as DA-MRS stands on: what gives users and items their collaborative embeddings."""

import torch
from torch import Tensor, nn

from mmprep.models.layers.features import FeatureProjection, ItemFeatures
from mmprep.models.layers.propagation import SparseOperator, lightgcn


class FreeBackbone(nn.Module):
    """Matrix factorisation: free embeddings as they are (Rendle et al., BPR, UAI 2009)."""

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
        """The embeddings of users [n_users, d'] and items [n_items, d'], and what graphs of items pass on.

        The last is [n_items, d'], the embeddings of items before they are propagated over the user-item graph.
        """
        return self.users, self.items, self.items


class LightGCNBackbone(FreeBackbone):
    """Free embeddings, propagated over the user-item graph (He et al., LightGCN, SIGIR 2020)."""

    def __init__(self, users: nn.Parameter, items: nn.Parameter, adjacency: SparseOperator, layers: int) -> None:
        """Take the tables, the normalised graph of users and items [n_users + n_items] squared, and the hops."""
        super().__init__(users, items)
        self.adjacency = adjacency
        self.layers = layers

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """The propagated embeddings of users [n_users, d] and items [n_items, d], and the items' free ones."""
        nodes = lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.layers)
        users, items = torch.split(nodes, [len(self.users), len(self.items)])
        return users, items, self.items


class VBPRBackbone(FreeBackbone):
    """Free embeddings of items beside projected features (He and McAuley, VBPR, AAAI 2016)."""

    def __init__(self, users: nn.Parameter, items: nn.Parameter, features: ItemFeatures) -> None:
        """Take the tables, the users' of both halves, [n_users, 2 d], and the raw features."""
        super().__init__(users, items)
        self.features = features
        self.projection = FeatureProjection(features, items.shape[1])

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Both halves of users [n_users, 2 d] and items [n_items, 2 d], and the latter again."""
        every = torch.arange(len(self.items), device=self.items.device)
        items = torch.cat([self.items, self.projection(self.features, every)], dim=1)
        return self.users, items, items
