"""MGNM: LGMRec with purified features in its hypergraphs and penalties on redundant layers (Mo et al.)."""

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
from mmprep.models.layers.propagation import SparseOperator, hops
from mmprep.models.layers.purifier import purified
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, look_up
from mmprep.models.recommenders.lgmrec import ranking_terms


class MGNMParams(MultimodalParams):
    """Section `recommenders.mgnm`. The paper leaves alpha, omega and regularisation open: LGMRec's stand here.

    Source: docs/papers/mgnm.md#training.

    Attributes:
        layers: hops of the free embeddings over the user-item graph; their mean counts, with that of 0 hops
            (docs/papers/mgnm.md#local-branch).
        modality_layers: hops of a modality's embeddings over it; the last one counts.
        norm_place: whether the sum of the modalities gets length 1, as in eq 8, or each, as in LGMRec
            (docs/papers/mgnm.md#local-branch).
        use_global: whether there are hypergraphs, and so the global embeddings and the contrast, at all.
        alpha: weight of the global embeddings, which have length 1 before; at 0 the contrast remains.
        hyper_layers: times that embeddings go from nodes to hyperedges and back, F.
        hyperedges: of each modality, n_h.
        keep_rate: the share of a hypergraph's incidences that dropout keeps in training.
        gumbel_temperature: tau of the softmax over hyperedges.
        incidence_from: whether incidences come from purified features, or from raw ones as in LGMRec
            (docs/papers/mgnm.md#incidence).
        purifier: whether IDs gate the features that incidences come from; raw ones are never gated.
        purifier_act: what lies between the purifier's two maps; the paper has nothing there
            (docs/papers/mgnm.md#purifier).
        multiplier: the length between the maps over d, a.
        gate_id_layer: the IDs that are gated: items' free embeddings (0), or those after propagation
            (docs/papers/mgnm.md#purifier).
        user_incidence: whether a user's logits are the sum or the mean of those of the user's items
            (docs/papers/mgnm.md#incidence).
        global_user_prop: whether users' hyperedges gather from users, or from items as in LGMRec
            (docs/papers/mgnm.md#hypergraph).
        hcl: whether the modalities' hypergraphs are contrasted, which takes two modalities.
        hcl_reduction: whether that contrast is a sum over the batch, as in LGMRec, or a mean
            (docs/papers/mgnm.md#contrast).
        omega: its weight.
        temperature: its tau.
        beta: weight of the penalty on redundancy of the free embeddings' layers.
        delta: weight of that on the modalities' layers.
        ddr_layers: whether both penalties are on propagated layers alone, or on layer 0 as well
            (docs/papers/mgnm.md#de-redundancy).
        regularisation: weight of the final embeddings' norms in the loss, lambda.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {
            "incidence_from": "purified",
            "purifier": True,
            "global_user_prop": "user_user",
            "norm_place": "sum",
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
    regularisation: Annotated[float, Field(ge=0)] = 1e-6


@dataclass(frozen=True)
class Branches:
    """What the final embeddings and the losses are made of. Rows are users, then items.

    Attributes:
        free: the free embeddings' layers, from 0 hops on, [n, d] each.
        local: the modalities' layers, side by side, from 0 hops on, [n, modalities d] each.
        of_users: a hypergraph a modality; none without the global part.
        of_items: the same for items.
    """

    free: list[Tensor]
    local: list[Tensor]
    of_users: list[HyperEmbeddings]
    of_items: list[HyperEmbeddings]


class MGNM(Recommender):
    """Free and modality embeddings over the user-item graph, and hyperedges found by purified features.

    Equations as docs/papers/mgnm.md reads them. There is noise in training alone (docs/papers/mgnm.md#incidence).
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
        """Make the maps from features to incidences (docs/papers/mgnm.md#incidence)."""
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
        """A map without bias."""
        return xavier_linear(inputs, outputs, bias=False)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the final embeddings' norms, and whichever of contrast and penalties have a weight."""
        params, batch = self.params, BatchNodes.of(users, positives, negatives)
        branches = self.branches()
        terms = ranking_terms(self.final(branches, batch), batch, params.regularisation)
        if params.hcl and params.omega and len(branches.of_users) > 1:
            terms["contrast"] = params.omega * self.contrast(branches, users, positives)
        if params.beta:
            terms["redundancy"] = params.beta * self.redundancy(branches.free)
        if params.delta:
            terms["modality_redundancy"] = params.delta * self.redundancy(branches.local)
        return terms

    def contrast(self, branches: Branches, users: Tensor, positives: Tensor) -> Tensor:
        """HCL_u + HCL_i: each modality's hypergraph against those after it (docs/papers/mgnm.md#contrast)."""
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
        """Both branches' embeddings (docs/papers/mgnm.md#local-branch, docs/papers/mgnm.md#hypergraph)."""
        tables = torch.cat([self.users, self.items])
        free = [tables, *hops(self.adjacency, tables, self.params.layers)]
        projected, mapped = self.mapped_features()
        pooled = torch.cat([self.user_mean(projected), projected])
        local = [pooled, *hops(self.adjacency, pooled, self.params.modality_layers)]
        if not self.params.use_global:
            return Branches(free, local, [], [])
        return Branches(free, local, *self.hypergraphs(mean(free), mapped))

    def mapped_features(self) -> tuple[Tensor, list[Tensor]]:
        """What is made of raw features: Z side by side, [n_items, modalities d], and the first map to incidences."""
        embeddings, mapped = [], []
        for modality in self.features.modalities:
            # One pass over the features, which are far wider than what they are mapped to.
            weights = [self.projections[modality].get_parameter("weight"), *self.first_maps(modality)]
            embedding, *rest = torch.split(self.features[modality] @ torch.cat(weights).T, list(map(len, weights)), 1)
            embeddings.append(embedding)
            mapped += rest
        return torch.cat(embeddings, dim=1), mapped

    def first_maps(self, modality: str) -> list[Tensor]:
        """The weights [outputs, dimension] of the map from a modality's raw features to incidences, if there is one."""
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
            mapped: of each modality, what its first map makes of the features.
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
        """A modality's logits [n_items, n_h] of incidence (docs/papers/mgnm.md#incidence).

        Args:
            modality: its name.
            mapped: what the first map makes of the features.
            ids: the items' embeddings that features gate, [n_items, d].
        """
        if self.params.incidence_from == "raw":
            return mapped
        moderate = self.pair(modality).rest(mapped)
        found: Tensor = self.hyperedges[modality](purified(ids, moderate) if self.params.purifier else moderate)
        return found

    def incidence(self, logits: Tensor) -> Tensor:
        """The incidence [n, n_h] of logits; in training with noise and dropout."""
        params = self.params
        return drawn_incidence(logits, params.gumbel_temperature, params.keep_rate, training=self.training)

    def final(self, branches: Branches, batch: BatchNodes | None = None) -> Tensor:
        """The final embeddings of all nodes [n, d], or of a batch's [a + b, d].

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
        users, items = total(branches.of_users), total(branches.of_items)
        if batch is None:
            sides = [users.embeddings(), items.embeddings()]
        else:
            sides = [users.rows(batch.users), items.rows(batch.items)]
        return final + self.params.alpha * normalize(torch.cat(sides), dim=1)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The final embeddings of all nodes."""
        users, items = torch.split(self.final(self.branches()), [self.n_users, self.n_items])
        return users, items


def mean(layers: list[Tensor]) -> Tensor:
    """The mean [n, d] of layers [n, d] each."""
    return torch.stack(layers).mean(dim=0)
