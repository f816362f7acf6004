"""MDR-CHCA: hierarchical alignment of words and image regions via phrases, with confidence-weighted contrast.

Source: docs/papers/mdr_chca.md.

Multimodal Denoising Recommendation Based on Confidence and Hierarchical Cross-Modal Alignment.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.fusion import Mixture
from mmprep.models.layers.losses import bpr, l2_batch
from mmprep.models.layers.mdr_chca.alignment import Aligned, AlignmentSettings, HierarchicalAlignment
from mmprep.models.layers.mdr_chca.confidence import Confidences
from mmprep.models.layers.mdr_chca.token_contrast import ContrastParams, ContrastResult, TokenContrast
from mmprep.models.layers.mdr_chca.token_encoder import TokenEncoder
from mmprep.models.layers.mdr_chca.token_store import TokenStore
from mmprep.models.layers.propagation import SparseOperator, lightgcn
from mmprep.models.recommenders.base import (
    Recommender,
    RecommenderParams,
    TrainingData,
    embedding_table,
    inner,
    look_up,
)

CHUNK_ITEMS = 1024  # number of items encoded at once for ranking
LEAST_POSITIVE_SHARE = 0.01  # mean share of an epoch below which the contrast has too few positives to train anything


class MDRCHCAParams(RecommenderParams, ContrastParams):
    """Section `recommenders.mdr_chca`; the keys of the contrast are those of `ContrastParams`.

    Attributes:
        layers: hops of the free embeddings over the user-item graph.
        n_patches: patches per photo; fewer than the encoder's are pooled as means of squares. None keeps all.
        n_tokens: maximum number of tokens per text, L.
        token_layers: number of layers of the convolution among an item's patches or tokens, Lg.
        graph_level: graph of that convolution: each item's own (`intra`), or one of items (`item`)
            (docs/papers/mdr_chca.md#intra-item-graphs).
        item_k: neighbours per item in the graph of items, including the item itself.
        self_attention: whether patches and tokens are mixed with their self-attention.
        n_phrases: number of phrases per text, Kp.
        k_r: number of regions per phrase.
        k_p: number of phrases per region.
        k_s: number of connections per word or region.
        heads: number of heads of the attention between words and regions; must divide `embedding_size`.
        align: `full` is the variant MDR-CHCA-A: every word attends to every region.
        renormalise: whether the k_s connections sum to 1 again (docs/papers/mdr_chca.md#token-alignment).
        residual: whether attention has a residual connection to the words' and regions' own vectors.
        pool: plain mean of an item's words and regions (`mean`), or mean weighted by confidence (`conf`)
            (docs/papers/mdr_chca.md#pooling).
        fusion_w: weights of text and photo: one number, one per dimension, or a gate.
        use_item_id: whether an item's free embedding is added to its content; `false` is the paper as printed
            (docs/papers/mdr_chca.md#item-vector).
        lambda_cc: weight of the contrast; 0 disables it. 0.01, 0.05 and 0.1 are worth trying.
        pretrain_epochs: epochs in which only the contrast trains the content, which is then frozen while embeddings are
            trained, for diagnosis (docs/papers/mdr_chca.md#pretraining). They count for `patience`.
        regularisation: lambda2, weight of the squared final embeddings in the loss.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"learning_rate": 0.001, "k_r": 10, "k_s": 5, "tau_conf": 0.5, "tau_cl": 0.5},
        "cpu_small": {"n_patches": 49, "n_tokens": 16, "n_phrases": 4, "self_attention": False},
    }

    layers: Annotated[int, Field(ge=0)] = 2
    n_patches: Annotated[int, Field(ge=1)] | None = None
    n_tokens: Annotated[int, Field(ge=1)] = 32
    token_layers: Annotated[int, Field(ge=0)] = 1
    graph_level: Literal["intra", "item"] = "intra"
    item_k: Annotated[int, Field(ge=1)] = 10
    self_attention: bool = True
    n_phrases: Annotated[int, Field(ge=1)] = 8
    k_r: Annotated[int, Field(ge=1)] = 10
    k_p: Annotated[int, Field(ge=1)] = 2
    k_s: Annotated[int, Field(ge=1)] = 5
    heads: Annotated[int, Field(ge=1, validate_default=True)] = 4
    align: Literal["hierarchical", "full"] = "hierarchical"
    renormalise: bool = True
    residual: bool = False
    pool: Literal["mean", "conf"] = "mean"
    fusion_w: Literal["scalar", "vector", "gate"] = "scalar"
    use_item_id: bool = True
    lambda_cc: Annotated[float, Field(ge=0)] = 0.05
    pretrain_epochs: Annotated[int, Field(ge=0)] = 0
    regularisation: Annotated[float, Field(ge=0)] = 1e-4

    @field_validator("heads")
    @classmethod
    def dividing(cls, heads: int, others: ValidationInfo) -> int:
        """Check that the heads divide the embedding size; raises ValueError."""
        size = others.data.get("embedding_size", heads)
        if size % heads:
            raise ValueError(f"a divisor of embedding_size, {size}")
        return heads

    @field_validator("pretrain_epochs")
    @classmethod
    def trained_by_something(cls, pretrain_epochs: int, others: ValidationInfo) -> int:
        """Check that pretraining has a contrast with a weight other than 0; raises ValueError."""
        if pretrain_epochs and not others.data.get("lambda_cc", 1):
            raise ValueError("0, as lambda_cc is")
        return pretrain_epochs

    @property
    def alignment(self) -> AlignmentSettings:
        """Settings of the alignment of words and regions."""
        return AlignmentSettings(
            phrases=self.n_phrases,
            regions_of_phrase=self.k_r,
            phrases_of_region=self.k_p,
            connections=self.k_s,
            heads=self.heads,
            full=self.align == "full",
            renormalise=self.renormalise,
            residual=self.residual,
        )


class MDRCHCA(Recommender):
    """LightGCN's embeddings; an item's also has the cross-attention of its words and its photo's regions.

    The available text of the paper lacks its equations; docs/papers/mdr_chca.md states the assumptions. In training
    only the batch's items are encoded. Ranking is deterministic, and needs confidences only with `pool: conf`.
    """

    params_type = MDRCHCAParams

    def __init__(self, data: TrainingData, params: MDRCHCAParams) -> None:
        super().__init__(data, params)
        self.params = params
        size = params.embedding_size
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.users = embedding_table(data.n_users, size)
        self.items = embedding_table(data.n_items, size)
        stores = (
            TokenStore.first_tokens(data.tokens["words"], data.n_items, params.n_tokens),
            TokenStore.patches_of(data.tokens["patches"], data.n_items, params.n_patches),
        )
        neighbours = params.item_k if params.graph_level == "item" else None
        self.words, self.patches = (
            TokenEncoder(store, size, params.token_layers, attention=params.self_attention, item_neighbours=neighbours)
            for store in stores
        )
        self.alignment = HierarchicalAlignment(size, params.alignment)
        self.fusion = Mixture(size, params.fusion_w)
        self.contrast = TokenContrast(params)
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.pretrained: Tensor | None = None

    def begin_epoch(self) -> None:
        """Count the epoch; after `pretrain_epochs`, freeze the content."""
        epochs = self.get_buffer("epochs")
        epochs += 1
        if self.pretrained is None and 0 < self.params.pretrain_epochs < epochs:
            with torch.no_grad():
                self.pretrained = self.contents()

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss, the contrast of words and regions, and the final embeddings' squares."""
        batch = BatchNodes.of(users, positives, negatives)
        if self.params.pretrain_epochs:
            return self.terms_of_stage(batch)
        aligned = self.aligned(batch.items)
        self.watch(aligned)
        terms = self.ranking_terms(batch, self.content(aligned))
        return terms | self.contrast_term(aligned) if self.params.lambda_cc else terms

    def terms_of_stage(self, batch: BatchNodes) -> dict[str, Tensor]:
        """The contrast while pretraining, then the other terms; unused terms are 0, to keep the history's columns."""
        nothing = self.users.new_zeros(())
        if self.pretrained is None:
            aligned = self.aligned(batch.items)
            self.watch(aligned)
            return {"bpr": nothing, "norm": nothing} | self.contrast_term(aligned)
        return self.ranking_terms(batch, look_up(self.pretrained, batch.items)) | {"contrast": nothing}

    def watch(self, aligned: Aligned) -> None:
        """Record the sharpness of the words' attention, which alone can lower the contrast.

        Source: docs/papers/mdr_chca.md#contrast.
        """
        largest = aligned.weights.detach().amax(dim=2) * aligned.words_there
        self.observe("largest_attention", largest.sum() / aligned.words_there.sum())
        for name, threshold in self.contrast.thresholds.named_buffers():
            self.observe(f"theta_{name}", threshold.clone())

    def contrast_term(self, aligned: Aligned) -> dict[str, Tensor]:
        """The weighted contrast of the batch's items; the shares of its pairs are recorded."""
        contrast: ContrastResult = self.contrast(aligned)
        for name, share in contrast.shares.items():
            self.observe(name, share)
        return {"contrast": self.params.lambda_cc * contrast.loss}

    def epoch_warning(self, means: Mapping[str, float]) -> str | None:
        """Warning of an epoch in which the contrast had hardly any positive pairs; None otherwise."""
        share = means.get("positive_share", 1.0)
        if share >= LEAST_POSITIVE_SHARE:
            return None
        expected = f"expected at least {LEAST_POSITIVE_SHARE:.0%}, or the contrast trains nothing"
        remedy = "set threshold_mode: quantile in recommenders.mdr_chca, or lower theta_plus"
        return f"found {share:.2%} of the pairs of words and regions positive, {expected}; {remedy}"

    def ranking_terms(self, batch: BatchNodes, content: Tensor) -> dict[str, Tensor]:
        """The ranking loss and the final embeddings' squares, from the content [b, d] of the batch's items."""
        behaviour = look_up(self.behaviour(), batch.nodes(self.n_users))
        of_users, of_items = torch.split(behaviour, [len(batch.users), len(batch.items)])
        final = torch.cat([of_users, self.final(of_items, content)])
        user, positive, negative = (
            look_up(final, rows) for rows in (batch.user_rows, batch.positive_rows, batch.negative_rows)
        )
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.params.regularisation * l2_batch(user, positive, negative),
        }

    def behaviour(self) -> Tensor:
        """The propagated free embeddings of users, then items, [n_users + n_items, d]."""
        return lightgcn(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)

    def aligned(self, items: Tensor) -> Aligned:
        """The aligned words and regions of items [n] (docs/papers/mdr_chca.md#token-alignment)."""
        return self.alignment(*self.words(items), *self.patches(items))  # type: ignore[no-any-return]

    def content(self, aligned: Aligned) -> Tensor:
        """Pooled and fused words and regions of items, [n, d] (docs/papers/mdr_chca.md#pooling)."""
        shares = Confidences(aligned.words_there.to(aligned.words), aligned.patches_there.to(aligned.words))
        if self.params.pool == "conf":
            shares = self.contrast.pooling_confidences(aligned)
        text = weighted_mean(aligned.seen_by_words, shares.words)
        photo = weighted_mean(aligned.seen_by_patches, shares.regions)
        fused: Tensor = self.fusion(text, photo)
        return fused

    def contents(self) -> Tensor:
        """The content of all items, encoded in chunks, [n_items, d]."""
        chunks = torch.split(torch.arange(self.n_items, device=self.items.device), CHUNK_ITEMS)
        return torch.cat([self.content(self.aligned(items)) for items in chunks])

    def final(self, behaviour: Tensor, content: Tensor) -> Tensor:
        """The final embeddings of items from their behaviour and content, [n, d] each.

        Source: docs/papers/mdr_chca.md#item-vector.
        """
        return behaviour + content if self.params.use_item_id else content

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The users' propagated embeddings, and the items' final ones."""
        users, items = torch.split(self.behaviour(), [self.n_users, self.n_items])
        return users, self.final(items, self.contents())


def weighted_mean(vectors: Tensor, weights: Tensor) -> Tensor:
    """The mean [n, d] of vectors [n, length, d] with weights [n, length], not all 0."""
    return torch.bmm(weights[:, None], vectors)[:, 0] / weights.sum(dim=1, keepdim=True)
