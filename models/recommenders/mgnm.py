"""MGNM: LGMRec with purified features in its hypergraphs and penalties on redundant dimensions (Mo et al.)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.decorrelation import sided_penalty
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.hypergraph import HyperEmbeddings, drawn_incidence, gather, pairwise_contrast, total
from mmprep.models.layers.linear import LinearPair, xavier_linear
from mmprep.models.layers.losses import weight_decay
from mmprep.models.layers.propagation import SparseOperator, hops
from mmprep.models.layers.purifier import purified
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, look_up
from mmprep.models.recommenders.lgmrec import ranking_terms


class MGNMParams(MultimodalParams):
    """Section `recommenders.mgnm`. alpha, omega and regularisation, which the paper does not state, are LGMRec's.

    Source: docs/papers/mgnm.md#training.

    Attributes:
        layers: hops of the free embeddings over the user-item graph; their mean, including 0 hops, is used
            (docs/papers/mgnm.md#local-branch).
        modality_layers: hops of a modality's embeddings over it, of which the last is used.
        norm_place: L2 normalisation of the modalities' `sum`, as in eq 8, or of `each`, as in LGMRec
            (docs/papers/mgnm.md#local-branch).
        use_global: whether to use hypergraphs; without them there are no global embeddings and no contrast.
        alpha: weight of the global embeddings, after L2 normalisation; at 0 the contrast remains.
        global_norm: L2 normalisation of the global embeddings' `sum` over modalities, as in LGMRec, or of `each`
            modality's inside the sum, as in eq 17 (docs/papers/mgnm.md#final-embeddings).
        hyper_layers: number of passes from nodes to hyperedges and back, F.
        hyperedges: number of hyperedges per modality, n_h.
        keep_rate: share of a hypergraph's incidences that dropout keeps in training.
        gumbel_temperature: tau of the softmax over hyperedges.
        incidence_from: features that incidences come from: `purified`, or `raw` as in LGMRec
            (docs/papers/mgnm.md#incidence).
        purifier: whether the purified features gate the items' ID embeddings; `raw` has no gate.
        purifier_act: activation between the purifier's two linear maps; none in the paper
            (docs/papers/mgnm.md#purifier).
        multiplier: hidden size of the purifier as a multiple of d, a.
        gate_id_layer: ID embeddings that are gated: items' free embeddings (0), or those after propagation
            (docs/papers/mgnm.md#purifier).
        user_incidence: a user's logits as the `sum` or the `mean` of those of the user's items
            (docs/papers/mgnm.md#incidence).
        global_user_prop: whether users' hyperedges aggregate users, or items as in LGMRec
            (docs/papers/mgnm.md#hypergraph).
        hcl: whether the modalities' hypergraphs are contrasted; needs two modalities.
        hcl_reduction: reduction of that contrast over the batch: `sum`, as in LGMRec, or `mean`
            (docs/papers/mgnm.md#contrast).
        omega: weight of that contrast.
        temperature: tau of that contrast.
        beta: weight of the redundancy penalty on the free embeddings' layers.
        delta: weight of the redundancy penalty on the modalities' layers.
        ddr_layers: layers with penalties: only `propagated` ones, as in AFDGCF's code, or `all` with layer 0, as in eq
            23-25 (docs/papers/mgnm.md#de-redundancy).
        regulariser: target of regularisation: the norms of the batch's final embeddings, as in LGMRec (`emb_norm`), or
            the squares of all parameters, as in eq 19, whose gradient is an optimiser's weight decay (`decay`).
        regularisation: weight of that term in the loss, lambda.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {
            "incidence_from": "purified",
            "purifier": True,
            "global_user_prop": "user_user",
            "norm_place": "sum",
            "global_norm": "each",
            "ddr_layers": "all",
            "regulariser": "decay",
            "beta": 1e-4,
            "delta": 1e-4,
        },
        "ancestor": {
            "incidence_from": "raw",
            "purifier": False,
            "global_user_prop": "item_user",
            "norm_place": "each",
            "beta": 0.0,
            "delta": 0.0,
            "omega": 1e-4,
        },
    }

    layers: Annotated[int, Field(ge=1)] = 2
    modality_layers: Annotated[int, Field(ge=1)] = 2
    norm_place: Literal["sum", "each"] = "sum"
    use_global: bool = True
    alpha: Annotated[float, Field(ge=0)] = 0.3
    global_norm: Literal["sum", "each"] = "sum"
    hyper_layers: Annotated[int, Field(ge=1)] = 1
    hyperedges: Annotated[int, Field(ge=1)] = 4
    keep_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    gumbel_temperature: Annotated[float, Field(gt=0)] = 0.2
    incidence_from: Literal["purified", "raw"] = "purified"
    purifier: bool = True
    purifier_act: Literal["none", "relu"] = "none"
    multiplier: Annotated[int, Field(ge=1)] = 4
    gate_id_layer: Literal[0, "combined"] = 0
    user_incidence: Literal["sum", "mean"] = "sum"
    global_user_prop: Literal["user_user", "item_user"] = "user_user"
    hcl: bool = True
    hcl_reduction: Literal["sum", "mean"] = "sum"
    omega: Annotated[float, Field(ge=0)] = 1e-4
    temperature: Annotated[float, Field(gt=0)] = 0.2
    beta: Annotated[float, Field(ge=0)] = 1e-4
    delta: Annotated[float, Field(ge=0)] = 1e-4
    ddr_layers: Literal["propagated", "all"] = "propagated"
    regulariser: Literal["emb_norm", "decay"] = "emb_norm"
    regularisation: Annotated[float, Field(ge=0)] = 1e-6


@dataclass(frozen=True)
class Branches:
    """Components of the final embeddings and the losses. Rows are users, then items.

    Attributes:
        free: layers of the free embeddings, from 0 hops on, [n, d] each.
        local: layers of the modalities, concatenated, from 0 hops on, [n, modalities d] each.
        of_users: one hypergraph per modality for users; empty without the global part.
        of_items: one hypergraph per modality for items; empty without the global part.
    """

    free: list[Tensor]
    local: list[Tensor]
    of_users: list[HyperEmbeddings]
    of_items: list[HyperEmbeddings]


class MGNM(Recommender):
    """Free and modality embeddings propagated over the user-item graph, plus hypergraphs from purified features.

    Equations as interpreted in docs/papers/mgnm.md. Noise only in training (docs/papers/mgnm.md#incidence).
    """

    params_type = MGNMParams

    def __init__(self, data: TrainingData, params: MGNMParams) -> None:
        super().__init__(data, params)
        self.params = params
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.user_mean = SparseOperator(data.graphs["interaction/user_mean"])
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)
        modalities = self.features.modalities
        self.projections = nn.ModuleDict(
            {m: self.linear(self.features.size(m), self.embedding_size) for m in modalities}
        )
        if params.use_global:
            self.add_hypergraphs(data)

    def add_hypergraphs(self, data: TrainingData) -> None:
        """Create the maps from features to incidences (docs/papers/mgnm.md#incidence)."""
        params, size = self.params, self.embedding_size
        self.pooling = SparseOperator(data.train) if params.user_incidence == "sum" else self.user_mean
        inputs = {m: self.features.size(m) for m in self.features.modalities}
        if params.incidence_from == "purified":
            hidden, relu = params.multiplier * size, params.purifier_act == "relu"
            self.purifiers = nn.ModuleDict({m: LinearPair(n, hidden, size, relu=relu) for m, n in inputs.items()})
            inputs = dict.fromkeys(inputs, size)
        self.hyperedges = nn.ModuleDict({m: self.linear(n, params.hyperedges) for m, n in inputs.items()})

    @staticmethod
    def linear(inputs: int, outputs: int) -> nn.Linear:
        """A linear map without bias."""
        return xavier_linear(inputs, outputs, bias=False)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the regulariser, and the contrast and penalties with a weight other than 0."""
        params, batch = self.params, BatchNodes.of(users, positives, negatives)
        branches = self.branches()
        terms = ranking_terms(self.final(branches, batch), batch, params.regularisation)
        if params.regulariser == "decay":
            terms["norm"] = params.regularisation * weight_decay(self.parameters())
        if params.hcl and params.omega and len(branches.of_users) > 1:
            terms["contrast"] = params.omega * self.contrast(branches, users, positives)
        if params.beta:
            terms["redundancy"] = params.beta * self.redundancy(branches.free)
        if params.delta:
            terms["modality_redundancy"] = params.delta * self.redundancy(branches.local)
        return terms

    def contrast(self, branches: Branches, users: Tensor, positives: Tensor) -> Tensor:
        """HCL_u + HCL_i: contrast of each pair of modalities' hypergraphs (docs/papers/mgnm.md#contrast)."""
        sides = ((branches.of_users, users), (branches.of_items, positives))
        both = torch.stack([pairwise_contrast(side, batch, self.params.temperature) for side, batch in sides]).sum()
        return both / len(users) if self.params.hcl_reduction == "mean" else both

    def redundancy(self, layers: list[Tensor]) -> Tensor:
        """DDR of layers [n, views d]: the penalties of users and items, summed over views.

        Source: docs/papers/mgnm.md#de-redundancy.
        """
        chosen = layers if self.params.ddr_layers == "all" else layers[1:]
        views = zip(*(torch.split(layer, self.embedding_size, dim=1) for layer in chosen), strict=True)
        return torch.stack([sided_penalty(view, self.n_users) for view in views]).sum()

    def branches(self) -> Branches:
        """The local and the global branch (docs/papers/mgnm.md#local-branch, docs/papers/mgnm.md#hypergraph)."""
        tables = torch.cat([self.users, self.items])
        free = [tables, *hops(self.adjacency, tables, self.params.layers)]
        projected, mapped = self.mapped_features()
        pooled = torch.cat([self.user_mean(projected), projected])
        local = [pooled, *hops(self.adjacency, pooled, self.params.modality_layers)]
        if not self.params.use_global:
            return Branches(free, local, [], [])
        return Branches(free, local, *self.hypergraphs(mean(free), mapped))

    def mapped_features(self) -> tuple[Tensor, list[Tensor]]:
        """Products with raw features: Z, concatenated, [n_items, modalities d], and the first maps to incidences."""
        embeddings, mapped = [], []
        for modality in self.features.modalities:
            # One product with the features, which are far wider than the outputs.
            weights = [self.projections[modality].get_parameter("weight"), *self.first_maps(modality)]
            embedding, *rest = torch.split(self.features[modality] @ torch.cat(weights).T, list(map(len, weights)), 1)
            embeddings.append(embedding)
            mapped += rest
        return torch.cat(embeddings, dim=1), mapped

    def first_maps(self, modality: str) -> list[Tensor]:
        """The weights [outputs, dimension] of the first map from a modality's raw features to incidences, if any."""
        if not self.params.use_global:
            return []
        if self.params.incidence_from == "raw":
            return [self.hyperedges[modality].get_parameter("weight")]
        return [self.pair(modality).first()]

    def pair(self, modality: str) -> LinearPair:
        """A modality's purifier."""
        return cast("LinearPair", self.purifiers[modality])

    def hypergraphs(
        self, combined: Tensor, mapped: list[Tensor]
    ) -> tuple[list[HyperEmbeddings], list[HyperEmbeddings]]:
        """Each modality's hypergraph for users and for items (docs/papers/mgnm.md#hypergraph).

        Args:
            combined: Eid, [n, d].
            mapped: output of each modality's first map.
        """
        params, (users, items) = self.params, torch.split(combined, [self.n_users, self.n_items])
        ids = items if params.gate_id_layer == "combined" else self.items
        logits = [self.logits(m, each, ids) for m, each in zip(self.features.modalities, mapped, strict=True)]
        pooled = torch.split(self.pooling(torch.cat(logits, dim=1)), params.hyperedges, dim=1)
        of_users, of_items = [], []
        for user_logits, item_logits in zip(pooled, logits, strict=True):
            user_incidence, item_incidence = self.incidence(user_logits), self.incidence(item_logits)
            edges = gather(item_incidence, items, params.hyper_layers)
            of_items.append(HyperEmbeddings(item_incidence, edges))
            if params.global_user_prop == "user_user":
                edges = gather(user_incidence, users, params.hyper_layers)
            of_users.append(HyperEmbeddings(user_incidence, edges))
        return of_users, of_items

    def logits(self, modality: str, mapped: Tensor, ids: Tensor) -> Tensor:
        """A modality's incidence logits [n_items, n_h] (docs/papers/mgnm.md#incidence).

        Args:
            modality: its name.
            mapped: output of its first map.
            ids: the items' ID embeddings, gated by the features, [n_items, d].
        """
        if self.params.incidence_from == "raw":
            return mapped
        moderate = self.pair(modality).rest(mapped)
        logits: Tensor = self.hyperedges[modality](purified(ids, moderate) if self.params.purifier else moderate)
        return logits

    def incidence(self, logits: Tensor) -> Tensor:
        """The incidence [n, n_h] from logits; in training with noise and dropout."""
        params = self.params
        return drawn_incidence(logits, params.gumbel_temperature, params.keep_rate, training=self.training)

    def final(self, branches: Branches, batch: BatchNodes | None = None) -> Tensor:
        """The final embeddings of all nodes [n, d], or of a batch's nodes [a + b, d].

        Source: docs/papers/mgnm.md#final-embeddings.
        """
        free, local = mean(branches.free), branches.local[-1]
        if batch is not None:
            free, local = (look_up(table, batch.nodes(self.n_users)) for table in (free, local))
        views = torch.split(local, self.embedding_size, dim=1)
        if self.params.norm_place == "each":
            final = free + torch.stack([normalize(view, dim=1) for view in views]).sum(dim=0)
        else:
            final = free + normalize(torch.stack(views).sum(dim=0), dim=1)
        if not self.params.use_global:
            return final
        pairs = list(zip(branches.of_users, branches.of_items, strict=True))
        if self.params.global_norm == "sum":
            pairs = [(total(branches.of_users), total(branches.of_items))]
        parts = [normalize(global_part(users, items, batch), dim=1) for users, items in pairs]
        return final + self.params.alpha * torch.stack(parts).sum(dim=0)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The final embeddings of all nodes."""
        users, items = torch.split(self.final(self.branches()), [self.n_users, self.n_items])
        return users, items


def global_part(users: HyperEmbeddings, items: HyperEmbeddings, batch: BatchNodes | None) -> Tensor:
    """A hypergraph's embeddings of all nodes, users before items, [n, d], or of a batch's nodes, [a + b, d]."""
    if batch is None:
        return torch.cat([users.embeddings(), items.embeddings()])
    return torch.cat([users.rows(batch.users), items.rows(batch.items)])


def mean(layers: list[Tensor]) -> Tensor:
    """The mean [n, d] of layers [n, d] each."""
    return torch.stack(layers).mean(dim=0)
