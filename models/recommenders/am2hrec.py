"""AM2HRec: features gated by behaviour over user-item and item-item graphs (Yu et al., Engineering Letters)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmprep.models.layers.behaviour_gate import BehaviourGate
from mmprep.models.layers.fusion import Scale, SharedExclusiveFusion, combined
from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.losses import parameter_norm, weight_decay
from mmprep.models.layers.propagation import SparseOperator, gcn
from mmprep.models.layers.purifier import Purifier
from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.fused_views import BehaviourPlusModalities, FusedViewsParams


class AM2HRecParams(FusedViewsParams):
    """Section `recommenders.am2hrec`.

    Attributes:
        ui_conv: convolution over the user-item graph: with linear maps and ReLU as in eq 13 (`gcn`), or as in LightGCN.
        gate: gate of the features before propagation: opened by `behaviour`, or `none` (the paper's -A). `purifier` is
            MGCN's variant: free embeddings gated by features.
        gate_out: one gate value per item (`scalar`, as printed), or one per dimension of the projected features.
        gate_source: what opens it: the mean behaviour of the item's `users`, the `item`'s own, that of all users
            (`global`), or the item's raw `features`, for which W4 is printed.
        gate_size: hidden size of the gate, d_n.
        use_ui_graph: whether free embeddings are propagated over the user-item graph; false is the paper's -U.
        u_ablation_drops_eq19: whether use_ui_graph: false also removes the users' views, as the paper's text of -U and
            -2H has it.
        use_ii_graph: whether views are propagated over the item graphs; false is -I, and -2H without either graph.
        fusion: shared and exclusive parts by `attention`, or a linear map of the concatenated views (`concat`, -F).
        fuse_scale: scale of attention's parts, as in eq 20 (`paper`) or in MGCN's own code (`ancestor`).
        regulariser: target of regularisation: the squares of the batch's final embeddings (`l2_batch`), those of all
            parameters, whose gradient is an optimiser's weight decay (`decay`), or the `norm` of all parameters, as
            eq 26 prints it.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {
            "ui_conv": "gcn",
            "gate": "behaviour",
            "fuse_scale": "paper",
            "cl_similarity": "inner",
            "regulariser": "norm",
            "lr_decay": 1.0,
        },
        "ancestor": {
            "ui_conv": "lightgcn",
            "gate": "purifier",
            "fuse_scale": "ancestor",
            "cl_unique_ids": False,
            "lr_decay": 0.96,
        },
    }

    ui_conv: Literal["gcn", "lightgcn"] = "gcn"
    gate: Literal["behaviour", "none", "purifier"] = "behaviour"
    gate_out: Literal["scalar", "vector"] = "scalar"
    gate_source: Literal["users", "item", "global", "features"] = "users"
    gate_size: Annotated[int, Field(ge=1)] = 64
    use_ui_graph: bool = True
    u_ablation_drops_eq19: bool = False
    use_ii_graph: bool = True
    fusion: Literal["attention", "concat"] = "attention"
    fuse_scale: Scale = "paper"
    regulariser: Literal["l2_batch", "decay", "norm"] = "l2_batch"

    @model_validator(mode="after")
    def require_ablation(self) -> Self:
        """Check that eq 19 is dropped only without the user-item graph; raises ValueError."""
        if self.u_ablation_drops_eq19 and self.use_ui_graph:
            raise ValueError("use_ui_graph: false with u_ablation_drops_eq19: true")
        return self


class AM2HRec(BehaviourPlusModalities):
    """Projected features are gated, smoothed over item graphs, propagated to users, fused, and added to behaviour.

    docs/papers/am2hrec.md resolves the paper's inconsistent equations: an item's gate is opened by the mean of its
    train users, users get views by the symmetric weights of their items, the contrast is InfoNCE, and the fused
    modalities are added to the behaviour without a modality.
    """

    params_type = AM2HRecParams
    params: AM2HRecParams

    def __init__(self, data: TrainingData, params: AM2HRecParams) -> None:
        super().__init__(data, params)
        modalities, size = self.features.modalities, params.embedding_size
        self.convolutions = nn.ModuleList()
        if params.ui_conv == "gcn" and params.use_ui_graph:
            self.convolutions.extend(xavier_linear(size, size) for _ in range(params.layers))
        if params.gate == "purifier":
            self.purifiers = nn.ModuleDict({m: Purifier(size, size) for m in modalities})
        elif params.gate == "behaviour":
            self.user_mean_of_items = SparseOperator(data.graphs["interaction/item_mean"])
            outputs = 1 if params.gate_out == "scalar" else size
            inputs = {m: self.features.size(m) if params.gate_source == "features" else size for m in modalities}
            self.gates = nn.ModuleDict({m: BehaviourGate(n, params.gate_size, outputs) for m, n in inputs.items()})
        if params.fusion == "attention":
            self.fusion = SharedExclusiveFusion(modalities, size)
        else:
            self.mix = xavier_linear(len(modalities) * size, size, bias=False)

    @property
    def item_hops(self) -> int:
        """Number of hops over the item graphs."""
        return self.params.item_layers if self.params.use_ii_graph else 0

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the contrast of fused and behaviour embeddings, and the regulariser."""
        terms = super().losses(users, positives, negatives)
        if self.params.regulariser != "l2_batch":
            penalty = weight_decay if self.params.regulariser == "decay" else parameter_norm
            terms["norm"] = self.params.regularisation * penalty(self.parameters())
        return terms

    def behaviour(self) -> Tensor:
        """The propagated free embeddings of users, then items, [n_users + n_items, d] (eq 13-14)."""
        if self.params.use_ui_graph and self.params.ui_conv == "lightgcn":
            return super().behaviour()
        return gcn(self.adjacency, torch.cat([self.users, self.items]), self.convolutions)

    def encode_views(self) -> tuple[Tensor, Tensor]:
        """The items' smoothed views, and the behaviour of all nodes, on which the gates depend."""
        behaviour = self.behaviour()
        return self.smoothed(self.gated(behaviour)), behaviour

    def gated(self, behaviour: Tensor) -> dict[str, Tensor]:
        """Each modality's view of items before smoothing over the item graph, [n_items, d] (eq 9-12)."""
        views = self.projected()
        if self.params.gate == "none":
            return views
        if self.params.gate == "purifier":
            return {m: self.purifiers[m](self.items, view) for m, view in views.items()}
        if self.params.gate_source == "features":
            return {m: self.gates[m](view, self.features[m]) for m, view in views.items()}
        opening = self.opening(behaviour)
        return {m: self.gates[m](view, opening) for m, view in views.items()}

    def opening(self, behaviour: Tensor) -> Tensor:
        """Behaviour that opens the items' gates, [n_items, d], or [1, d] for all; zeros for an item without users."""
        users, items = torch.split(behaviour, [self.n_users, self.n_items])
        if self.params.gate_source == "item":
            return items
        if self.params.gate_source == "global":
            return users.mean(dim=0, keepdim=True)
        mean: Tensor = self.user_mean_of_items(users)
        return mean

    def views_of_users(self, of_items: Tensor) -> Tensor:
        """The users' views from the items' views [n_items, modalities d], [n_users, modalities d] (eq 19)."""
        if self.params.u_ablation_drops_eq19:
            return of_items.new_zeros(self.n_users, of_items.shape[1])
        return super().views_of_users(of_items)

    def fuse(self, views: Tensor, behaviour: Tensor) -> Tensor:
        """Fuse the views [n, modalities d] of nodes with behaviour [n, d] into [n, d] (eq 5-8, 20)."""
        if self.params.fusion == "concat":
            mixed: Tensor = self.mix(views)
            return mixed
        shared, exclusive = self.fusion(torch.split(views, self.embedding_size, dim=1), behaviour)
        return combined(shared, exclusive, len(self.features.modalities), self.params.fuse_scale)
