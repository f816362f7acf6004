"""LGMRec: local interests by graph propagation, global ones by modality hypergraphs (Guo et al., AAAI 2024)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.hypergraph import HyperEmbeddings, drawn_incidence, gather, pairwise_contrast, total
from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.losses import bpr, embedding_norm
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, inner, look_up


class LGMRecParams(MultimodalParams):
    """Section `recommenders.lgmrec`. The defaults are the settings for Baby.

    Attributes:
        layers: hops of the free embeddings over the user-item graph.
        modality_layers: hops of a modality's embeddings over it, of which the last is used.
        hyper_layers: number of passes from items to hyperedges and back, F.
        hyperedges: number of hyperedges per modality, n_h.
        keep_rate: share of a hypergraph's incidences that dropout keeps in training.
        alpha: weight of the global embeddings, after L2 normalisation.
        gumbel_temperature: tau of the softmax over hyperedges.
        cl_weight: weight of the contrast of hypergraphs, a sum over the batch.
        temperature: tau of that contrast.
        regularisation: weight of the final embeddings' norms in the loss.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "baby": {"alpha": 0.3, "keep_rate": 0.5, "hyperedges": 4, "hyper_layers": 1},
        "sports": {"alpha": 0.6, "keep_rate": 0.4, "hyperedges": 4, "hyper_layers": 1},
        "clothing": {"alpha": 0.2, "keep_rate": 0.2, "hyperedges": 64, "hyper_layers": 2},
    }

    layers: Annotated[int, Field(ge=0)] = 2
    modality_layers: Annotated[int, Field(ge=0)] = 2
    hyper_layers: Annotated[int, Field(ge=1)] = 1
    hyperedges: Annotated[int, Field(ge=1)] = 4
    keep_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    alpha: Annotated[float, Field(ge=0)] = 0.3
    gumbel_temperature: Annotated[float, Field(gt=0)] = 0.2
    cl_weight: Annotated[float, Field(ge=0)] = 1e-4
    temperature: Annotated[float, Field(gt=0)] = 0.2
    regularisation: Annotated[float, Field(ge=0)] = 1e-6


class LGMRec(Recommender):
    """Free and modality embeddings propagated over the user-item graph, plus hyperedges shared by items and users.

    Incidences come from raw features (docs/papers/mgnm.md#incidence), and hyperedge embeddings, aggregated from items,
    are passed to users too (docs/papers/mgnm.md#hypergraph). LGMRec's own code draws Gumbel noise in evaluation as
    well; here embeddings outside training are deterministic (docs/papers/baselines.md#lgmrec).
    """

    params_type = LGMRecParams

    def __init__(self, data: TrainingData, params: LGMRecParams) -> None:
        super().__init__(data, params)
        self.params = params
        self.features = ItemFeatures(data.features, finetune=params.finetune_features)
        modalities = self.features.modalities
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.user_mean = SparseOperator(data.graphs["interaction/user_mean"])
        self.interactions = SparseOperator(data.train)
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)
        self.projections, self.hyperedges = (
            nn.ModuleDict({m: xavier_linear(self.features.size(m), outputs, bias=False) for m in modalities})
            for outputs in (params.embedding_size, params.hyperedges)
        )

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the final embeddings' norms, and with several modalities the contrast of hypergraphs."""
        batch = BatchNodes.of(users, positives, negatives)
        free, local, of_users, of_items = self.encode_views()
        nodes = batch.nodes(self.n_users)
        hyper = torch.cat([total(of_users).rows(batch.users), total(of_items).rows(batch.items)])
        final = self.combined(look_up(free, nodes), look_up(local, nodes), hyper)
        terms = ranking_terms(final, batch, self.params.regularisation)
        if len(self.features.modalities) > 1:
            tau = self.params.temperature
            contrasts = [pairwise_contrast(of_users, users, tau), pairwise_contrast(of_items, positives, tau)]
            terms["contrast"] = self.params.cl_weight * torch.stack(contrasts).sum()
        return terms

    def encode_views(self) -> tuple[Tensor, Tensor, list[HyperEmbeddings], list[HyperEmbeddings]]:
        """The components of the final embeddings.

        Returns:
            The propagated free embeddings, users before items, [n, d]; the modalities' propagated embeddings,
            concatenated, [n, modalities d]; one hypergraph per modality for users; the same for items.
        """
        free = lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)
        projected, logits = self.projected()
        local = torch.cat([self.user_mean(projected), projected])
        for _ in range(self.params.modality_layers):
            local = self.adjacency(local)
        of_users, of_items = self.hypergraphs(free[self.n_users :], logits)
        return free, local, of_users, of_items

    def projected(self) -> tuple[Tensor, Tensor]:
        """Each modality's item embeddings and incidence logits, concatenated.

        Source: docs/papers/baselines.md#lgmrec.

        [n_items, modalities d] and [n_items, modalities n_h].
        """
        both = []
        for modality in self.features.modalities:
            # One product with the features, which are far wider than the outputs.
            weights = torch.cat(
                [maps[modality].get_parameter("weight") for maps in (self.projections, self.hyperedges)]
            )
            sizes = [self.embedding_size, self.params.hyperedges]
            both.append(torch.split(self.features[modality] @ weights.T, sizes, dim=1))
        embeddings, logits = zip(*both, strict=True)
        return torch.cat(embeddings, dim=1), torch.cat(logits, dim=1)

    def hypergraphs(self, items: Tensor, logits: Tensor) -> tuple[list[HyperEmbeddings], list[HyperEmbeddings]]:
        """Each modality's hypergraph for users and for items (docs/papers/mgnm.md#hypergraph).

        Args:
            items: the items' propagated free embeddings, [n_items, d].
            logits: [n_items, modalities n_h]; a user's logits are the sum of those of the user's items.
        """
        of_users, of_items = [], []
        sides = (torch.split(side, self.params.hyperedges, dim=1) for side in (self.interactions(logits), logits))
        for user_logits, item_logits in zip(*sides, strict=True):
            user_incidence, item_incidence = self.incidence(user_logits), self.incidence(item_logits)
            hyperedges = gather(item_incidence, items, self.params.hyper_layers)
            of_users.append(HyperEmbeddings(user_incidence, hyperedges))
            of_items.append(HyperEmbeddings(item_incidence, hyperedges))
        return of_users, of_items

    def incidence(self, logits: Tensor) -> Tensor:
        """The incidence [n, n_h] from logits; in training with noise and dropout."""
        temperature, keep_rate = self.params.gumbel_temperature, self.params.keep_rate
        return drawn_incidence(logits, temperature, keep_rate, training=self.training)

    def combined(self, free: Tensor, local: Tensor, hyper: Tensor) -> Tensor:
        """Final embeddings [n, d]: the free ones plus the normalised ones of each modality and of the hypergraphs."""
        directions = [normalize(view, dim=1) for view in torch.split(local, self.embedding_size, dim=1)]
        return free + torch.stack(directions).sum(dim=0) + self.params.alpha * normalize(hyper, dim=1)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The final embeddings of all nodes (docs/papers/baselines.md#lgmrec)."""
        free, local, of_users, of_items = self.encode_views()
        hyper = torch.cat([total(of_users).embeddings(), total(of_items).embeddings()])
        users, items = torch.split(self.combined(free, local, hyper), [self.n_users, self.n_items])
        return users, items


def ranking_terms(final: Tensor, batch: BatchNodes, regularisation: float) -> dict[str, Tensor]:
    """The ranking loss `bpr` of a batch and the weighted norms of its embeddings, `norm`.

    Args:
        final: final embeddings [a + b, d] of the batch's distinct users and items.
        batch: the rows of `final` for each triple.
        regularisation: weight of the norms.
    """
    user, positive, negative = (
        look_up(final, rows) for rows in (batch.user_rows, batch.positive_rows, batch.negative_rows)
    )
    return {
        "bpr": bpr(inner(user, positive), inner(user, negative)),
        "norm": regularisation * embedding_norm(user, positive, negative),
    }
