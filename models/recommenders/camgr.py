"""CAmgr: modalities purified by items and their users, fused by cross-attention (Li et al., Mathematics 2024)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array, hstack, vstack
from torch import Tensor, nn
from torch.nn.functional import elu, relu

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.camgr.attention_scopes import (
    AllNodes,
    AttentionScope,
    ChosenNodes,
    Neighbours,
    SameSide,
    WithinNode,
)
from mmprep.models.layers.camgr.cross_attention import CrossAttentionFusion
from mmprep.models.layers.camgr.edge_softmax import SparseAttention
from mmprep.models.layers.camgr.graph_attention import GraphAttention
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.fused_losses import fused_losses
from mmprep.models.layers.fusion import SharedExclusiveFusion, combined
from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.losses import Similarity, weight_decay
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.layers.purifier import Purifier
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, look_up
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.edges import bipartite, normalised, weighted
from mmprep.pipeline.graphs.params import Normalisation

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": relu, "elu": elu, "none": nn.Identity()}


class CAmgrParams(MultimodalParams):
    """Section `recommenders.camgr`.

    Attributes:
        layers: hops over the user-item graph; not stated by CAmgr.
        ui_conv: convolution over that graph: graph attention (`gat`) or as in LightGCN.
        gat_act: activation after each hop of `gat`.
        refine: the embeddings that features gate: items plus the mean of their users (`purify`), items only as in MGCN
            (`items`), or none, with projected features unchanged (`none`, the paper's w/o IUD).
        item_norm: normalisation of a modality's item graph: `row` divides by the item's own weights, `sym_out` as in
            MGCN.
        user_norm: normalisation of the users' items: the mean (`row`), or D^-1/2 R D^-1/2 (`sym_out`).
        fusion: of modalities: by cross-attention, as in MGCN (`shared`), or their mean without gates (`mean`, the
            paper's w/o CAFF).
        attn_scope: keys of a node's attention: `all` nodes, those of its `type`, those of the `batch`, its neighbours
            in the item graphs or a user's items (`neigh`), or parts of its own embedding (`node`).
        attn_chunks: number of parts for `node`; must divide the embedding size.
        query_modality: modality of the queries; keys and values are the mean of the others.
        share_qkv: whether the common and the distinct part share queries, keys and values.
        alpha1: weight of the contrast of fused and behaviour embeddings; 0.001 to 0.1 in the paper's own search.
        alpha2: weight of the regulariser in the loss; not stated in the paper.
        regulariser: target of regularisation: the squares of the batch's final embeddings, as in MGCN (`l2_batch`), or
            those of all parameters, as in eq 31, whose gradient is an optimiser's weight decay (`decay`).
        cl_unique_ids: whether each user and item of a batch occurs only once in the contrast; not in MGCN's own code.
        temperature: tau of the contrast.
        cl_similarity: similarity of two nodes in the contrast: their `cosine`, as in MGCN's code, or their `inner`
            product, as in eq 30.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {
            "ui_conv": "gat",
            "refine": "purify",
            "item_norm": "row",
            "user_norm": "row",
            "fusion": "attention",
            "cl_similarity": "inner",
            "regulariser": "decay",
        },
        "ancestor": {
            "ui_conv": "lightgcn",
            "refine": "items",
            "item_norm": "sym_out",
            "user_norm": "sym_out",
            "fusion": "shared",
            "cl_unique_ids": False,
            "lr_decay": 0.96,
        },
        "cpu_small": {"attn_scope": "neigh"},
    }

    layers: Annotated[int, Field(ge=0)] = 2
    ui_conv: Literal["gat", "lightgcn"] = "gat"
    gat_act: Literal["relu", "elu", "none"] = "relu"
    refine: Literal["purify", "items", "none"] = "purify"
    item_norm: Literal["row", "sym_out"] = "row"
    user_norm: Literal["row", "sym_out"] = "row"
    fusion: Literal["attention", "shared", "mean"] = "attention"
    attn_scope: Literal["all", "type", "batch", "neigh", "node"] = "all"
    attn_chunks: Annotated[int, Field(ge=1)] = 8
    query_modality: Literal["image", "text"] = "text"
    share_qkv: bool = True
    alpha1: Annotated[float, Field(ge=0)] = 1e-2
    alpha2: Annotated[float, Field(ge=0)] = 1e-4
    regulariser: Literal["l2_batch", "decay"] = "l2_batch"
    cl_unique_ids: bool = False
    temperature: Annotated[float, Field(gt=0)] = 0.2
    cl_similarity: Similarity = "cosine"


class CAmgr(Recommender):
    """Behaviour embeddings by graph attention, plus the common and distinct parts of two modalities.

    Modalities are purified by items and their users, smoothed over each modality's item graph, and averaged for users.
    Text gives the queries and images the keys and values of attention of each node to all
    (docs/papers/camgr.md#cross-attention). Only the rows of a batch are computed, each exactly, in blocks
    (docs/papers/camgr.md#attention-scope). docs/papers/camgr.md resolves equations that cannot be meant as printed.
    The preset `ancestor` is MGCN.
    """

    params_type = CAmgrParams

    def __init__(self, data: TrainingData, params: CAmgrParams) -> None:
        super().__init__(data, params)
        self.params = params
        size = params.embedding_size
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        modalities = self.features.modalities
        self.item_mean = SparseOperator(data.graphs["interaction/item_mean"])
        self.of_users = SparseOperator(user_weights(data, params.user_norm))
        graphs = {m: normalised(weighted(data.graphs[f"knn/{m}"], "cosine"), params.item_norm) for m in modalities}
        self.neighbours = nn.ModuleDict({m: SparseOperator(graph) for m, graph in graphs.items()})
        self.users = embedding_table(data.n_users, size)
        self.items = embedding_table(data.n_items, size)
        if params.ui_conv == "gat":
            self.joined = SparseAttention(bipartite(data.train))
            self.convolutions = nn.ModuleList(GraphAttention(size) for _ in range(params.layers))
        else:
            self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.projections = nn.ModuleDict({m: xavier_linear(self.features.size(m), size) for m in modalities})
        if params.refine != "none":
            self.purifiers = nn.ModuleDict({m: Purifier(size, size) for m in modalities})
        self.query = query_modality(modalities, params.query_modality)
        self.fusion: nn.Module
        if params.fusion == "attention":
            self.fusion = CrossAttentionFusion(size, self.scope(data), share_qkv=params.share_qkv)
        elif params.fusion == "shared":
            self.fusion = SharedExclusiveFusion(modalities, size)

    @property
    def answering(self) -> list[str]:
        """Modalities of keys and values: all except the query modality, or that one if it is the only one."""
        return [m for m in self.features.modalities if m != self.query] or [self.query]

    def scope(self, data: TrainingData) -> AttentionScope:
        """The attention scope of nodes.

        Raises:
            ParamsError: the embedding cannot be split into equal parts.
        """
        params = self.params
        if params.attn_scope == "node" and params.embedding_size % params.attn_chunks:
            expected = f"expected a divisor of embedding_size, {params.embedding_size}"
            raise ParamsError(f"recommenders.camgr.attn_chunks: found {params.attn_chunks}, {expected}")
        match params.attn_scope:
            case "all":
                return AllNodes()
            case "type":
                return SameSide(data.n_users)
            case "batch":
                return ChosenNodes()
            case "neigh":
                return Neighbours(neighbourhood(data, self.answering))
            case "node":
                return WithinNode(params.attn_chunks)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the contrast of fused and behaviour embeddings, and the regulariser."""
        params, batch = self.params, BatchNodes.of(users, positives, negatives)
        nodes = batch.nodes(self.n_users)
        behaviour = look_up(self.behaviour(), nodes)
        terms = fused_losses(
            batch,
            behaviour,
            self.fuse(nodes, behaviour),
            contrast=params.alpha1,
            temperature=params.temperature,
            similarity=params.cl_similarity,
            unique_ids=params.cl_unique_ids,
            norm=params.alpha2,
        )
        if params.regulariser == "decay":
            terms["norm"] = params.alpha2 * weight_decay(self.parameters())
        return terms

    def behaviour(self) -> Tensor:
        """The mean of the free embeddings of users, then items, and of all hops, [n, d].

        Source: docs/papers/camgr.md#graph-attention.
        """
        free = torch.cat([self.users, self.items])
        if self.params.ui_conv == "lightgcn":
            return lightgcn(self.adjacency, free, self.params.layers)
        hops, pattern, activation = [free], self.joined(), ACTIVATIONS[self.params.gat_act]
        for convolution in self.convolutions:
            hops.append(activation(convolution(pattern, hops[-1])))
        return torch.stack(hops).mean(dim=0)

    def item_views(self) -> dict[str, Tensor]:
        """Each modality's refined features before smoothing, [n_items, d] each.

        Source: docs/papers/camgr.md#purification.
        """
        views = {m: self.projections[m](self.features[m]) for m in self.features.modalities}
        if self.params.refine == "none":
            return views
        source: Tensor = self.items
        if self.params.refine == "purify":
            source = source + self.item_mean(self.users)
        return {m: self.purifiers[m](source, view) for m, view in views.items()}

    def views(self) -> dict[str, Tensor]:
        """Each modality's views of users, then items (docs/papers/camgr.md#user-views), [n, d] each."""
        views = self.item_views()
        of_items = torch.cat([self.neighbours[m](view) for m, view in views.items()], dim=1)
        both = torch.cat([self.of_users(of_items), of_items])
        return dict(zip(views, torch.split(both, self.embedding_size, dim=1), strict=True))

    def fuse(self, nodes: Tensor, behaviour: Tensor) -> Tensor:
        """Fused modalities [b, d] of nodes [b], ascending indices, with behaviour [b, d]."""
        views = self.views()
        if self.params.fusion == "attention":
            answers = torch.stack([views[m] for m in self.answering]).mean(dim=0)
            if self.training:
                fusion = cast("CrossAttentionFusion", self.fusion)
                self.observe("attention_entropy", fusion.evenness(views[self.query], answers, nodes))
            of_both: Tensor = self.fusion(views[self.query], answers, nodes, behaviour)
            return of_both
        chosen = [look_up(view, nodes) for view in views.values()]
        if self.params.fusion == "mean":
            return torch.stack(chosen).mean(dim=0)
        shared, exclusive = self.fusion(chosen, behaviour)
        return combined(shared, exclusive, len(chosen), "ancestor")

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Behaviour and fused modalities, added (docs/papers/camgr.md#final-embeddings)."""
        behaviour = self.behaviour()
        final = behaviour + self.fuse(torch.arange(len(behaviour), device=behaviour.device), behaviour)
        users, items = torch.split(final, [self.n_users, self.n_items])
        return users, items


def query_modality(modalities: Sequence[str], wanted: str) -> str:
    """The query modality.

    Raises:
        ParamsError: there are several modalities, and none has that name.
    """
    if wanted not in modalities and len(modalities) > 1:
        expected = f"expected one of those that training reads ({', '.join(modalities)})"
        raise ParamsError(f"recommenders.camgr.query_modality: found {wanted!r}, {expected}")
    return wanted if wanted in modalities else modalities[0]


def user_weights(data: TrainingData, norm: Normalisation) -> csr_array:
    """Weights of items in the users' views, [n_users, n_items] (docs/papers/camgr.md#user-views)."""
    if norm == "row":
        return data.graphs["interaction/user_mean"]
    return data.graphs["interaction/symmetric"][: data.n_users, data.n_users :]


def neighbourhood(data: TrainingData, modalities: Sequence[str]) -> csr_array:
    """Attention graph of scope `neigh`: users attend to their items, items to their neighbours in these graphs.

    [n_users + n_items] squared, users first (docs/papers/camgr.md#attention-scope).
    """
    of_items = csr_array((data.n_items, data.n_items), dtype=np.float32)
    for modality in modalities:
        of_items += weighted(data.graphs[f"knn/{modality}"], "binary")
    to_items = vstack([data.train, of_items])
    return csr_array(hstack([csr_array((to_items.shape[0], data.n_users)), to_items]))
