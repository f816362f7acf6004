"""MDR-CHCA: words and regions aligned by way of phrases, and a contrast weighted by confidence (specs 5).

Multimodal Denoising Recommendation Based on Confidence and Hierarchical Cross-Modal Alignment.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor
from torch.nn.functional import normalize

from models.layers.alignment import Aligned, AlignmentSettings, HierarchicalAlignment
from models.layers.batch import BatchNodes
from models.layers.confidence import (
    SHARPEST,
    Confidences,
    Pairs,
    Thresholds,
    confidences,
    confident_contrast,
    other_regions,
    powers,
)
from models.layers.fusion import Mixture
from models.layers.losses import bpr, l2_batch
from models.layers.propagation import SparseOperator, lightgcn
from models.layers.token_encoder import TokenEncoder
from models.recommenders.base import Recommender, RecommenderParams, TrainingData, embedding_table, inner, look_up
from pipeline.token_store import TokenStore

CHUNK_ITEMS = 1024  # encoded at once for ranking

Threshold = Annotated[float, Field(ge=0.05, le=0.95)]
Rate = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=SHARPEST)]


class MDRCHCAParams(RecommenderParams):
    """Section `recommenders.mdr_chca`.

    Attributes:
        layers: hops of the free embeddings over the user-item graph.
        n_patches: patches a photo; fewer than the encoder gives are means of squares of them. None takes all.
        n_tokens: tokens of a text that are read, L.
        token_layers: of the convolution among an item's patches or tokens, Lg.
        graph_level: whether that goes over each item's own graph, or `item`: items over one of items (E3).
        item_k: neighbours an item in the latter, itself among them.
        self_attention: whether patches and tokens are mixed with their self-attention.
        n_phrases: of a text, Kp.
        k_r: regions a phrase.
        k_p: phrases a region.
        k_s: connections a word or region.
        heads: of the attention between words and regions; they divide `embedding_size`.
        align: `full` is the variant MDR-CHCA-A: every word sees every region.
        renormalise: whether the k_s connections sum to 1 again (E6).
        residual: whether words and regions keep their own vectors beside what they see.
        pool: whether an item's words and regions are averaged alike, or by confidence (E4).
        fusion_w: what weights text and photo.
        use_item_id: whether an item's free embedding is added to its content; `false` is the paper's letter (E2).
        lambda_cc: weight of the contrast; 0 leaves it out. 0.01, 0.05 and 0.1 are worth trying.
        confidence: `none` is the variant MDR-CHCA-B: all connections are positive and alike, none is hard.
        threshold_mode: what the confidences are that thresholds are compared with, see `confidences`.
        theta_plus: the threshold of positive pairs, in the first step.
        theta_minus: that of hard pairs, at most the other.
        eta_plus: how far the first moves a step, eta1.
        eta_minus: how far the second does, eta2.
        n_r: random negatives a word.
        rand_scope: whether they are regions of the same photo, or of others of the batch.
        cl_on_aligned: whether regions are compared with what words see, so that the contrast trains the attention;
            else with the words themselves (E13).
        weights_inside_log: whether weights stand inside the contrast's logarithm.
        tau_conf: the temperature of the regions' confidence.
        tau_cl: that of the contrast (E10).
        cc_items_per_step: items of a batch that a step contrasts, drawn at random. None takes all.
        pretrain_epochs: in which the contrast alone trains the content, which then stays as it is while embeddings are
            trained (specs 5.7, for finding faults). They count for `patience`.
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
    confidence: Literal["weighted", "none"] = "weighted"
    threshold_mode: Literal["rescaled", "quantile", "raw"] = "rescaled"
    theta_plus: Threshold = 0.5
    theta_minus: Annotated[Threshold, Field(validate_default=True)] = 0.2
    eta_plus: Rate = 0.01
    eta_minus: Rate = 0.01
    n_r: Annotated[int, Field(ge=0)] = 8
    rand_scope: Literal["item", "batch"] = "item"
    cl_on_aligned: bool = True
    weights_inside_log: bool = False
    tau_conf: Temperature = 0.5
    tau_cl: Temperature = 0.5
    cc_items_per_step: Annotated[int, Field(ge=1)] | None = 512
    pretrain_epochs: Annotated[int, Field(ge=0)] = 0
    regularisation: Annotated[float, Field(ge=0)] = 1e-4

    @field_validator("heads")
    @classmethod
    def dividing(cls, heads: int, others: ValidationInfo) -> int:
        """Check that heads share the dimensions out; raises ValueError."""
        size = others.data.get("embedding_size", heads)
        if size % heads:
            raise ValueError(f"a divisor of embedding_size, {size}")
        return heads

    @field_validator("theta_minus")
    @classmethod
    def below(cls, theta_minus: float, others: ValidationInfo) -> float:
        """Check that no pair can be both positive and hard; raises ValueError."""
        theta_plus = others.data.get("theta_plus", theta_minus)
        if theta_minus > theta_plus:
            raise ValueError(f"at most theta_plus, {theta_plus}")
        return theta_minus

    @field_validator("pretrain_epochs")
    @classmethod
    def trained_by_something(cls, pretrain_epochs: int, others: ValidationInfo) -> int:
        """Check that there is a contrast to train by alone; raises ValueError."""
        if pretrain_epochs and not others.data.get("lambda_cc", 1):
            raise ValueError("0, as lambda_cc is")
        return pretrain_epochs

    @property
    def alignment(self) -> AlignmentSettings:
        """How words and regions are aligned."""
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
    """LightGCN's embeddings and, added to an item's, what its words see of its photo and the photo's regions of them.

    The paper's equations are lost in the text that we have; what it leaves open is decided in specs 5.6. In training
    only the batch's items are encoded. Ranking draws nothing, and needs no confidences but by `pool: conf`.
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
        self.thresholds = Thresholds(params.theta_plus, params.theta_minus)
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.pretrained: Tensor | None = None

    def begin_epoch(self) -> None:
        """Count the epoch; after those of `pretrain_epochs`, keep the content as it is then."""
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
        terms = self.ranking_terms(batch, self.content(aligned))
        return terms | self.contrast_term(aligned) if self.params.lambda_cc else terms

    def terms_of_stage(self, batch: BatchNodes) -> dict[str, Tensor]:
        """The contrast, or the other terms once content is trained; those that do not count as 0, for the history."""
        nothing = self.users.new_zeros(())
        if self.pretrained is None:
            return {"bpr": nothing, "norm": nothing} | self.contrast_term(self.aligned(batch.items))
        return self.ranking_terms(batch, look_up(self.pretrained, batch.items)) | {"contrast": nothing}

    def contrast_term(self, aligned: Aligned) -> dict[str, Tensor]:
        """The weighted contrast of a batch's items."""
        return {"contrast": self.params.lambda_cc * self.contrast(self.contrasted(aligned))}

    def ranking_terms(self, batch: BatchNodes, content: Tensor) -> dict[str, Tensor]:
        """The ranking loss and the final embeddings' squares; the content [b, d] is that of the batch's items."""
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
        """The aligned words and regions of items [n] (specs 5.3 steps 2-8)."""
        return self.alignment(*self.words(items), *self.patches(items))  # type: ignore[no-any-return]

    def content(self, aligned: Aligned) -> Tensor:
        """The fused words and regions of items, [n, d] (specs 5.3 step 9)."""
        shares = Confidences(aligned.words_there.to(aligned.words), aligned.patches_there.to(aligned.words))
        if self.params.pool == "conf":
            shares = self.confidences(aligned)
        text = weighted_mean(aligned.seen_by_words, shares.words)
        photo = weighted_mean(aligned.seen_by_patches, shares.regions)
        fused: Tensor = self.fusion(text, photo)
        return fused

    def contents(self) -> Tensor:
        """The content of all items, encoded in chunks, [n_items, d]."""
        chunks = torch.arange(self.n_items, device=self.items.device).split(CHUNK_ITEMS)
        return torch.cat([self.content(self.aligned(items)) for items in chunks])

    def final(self, behaviour: Tensor, content: Tensor) -> Tensor:
        """The final embeddings of items with such behaviour and content, [n, d] each (specs 5.3 step 10)."""
        return behaviour + content if self.params.use_item_id else content

    def confidences(self, aligned: Aligned) -> Confidences:
        """How sure the alignment of items is."""
        return confidences(
            aligned.weights.detach().amax(dim=2),
            aligned.best,
            aligned.words_there,
            aligned.patches_there,
            self.params.tau_conf,
            self.params.threshold_mode,
        )

    def contrasted(self, aligned: Aligned) -> Aligned:
        """The items that a step contrasts: without training all, else as many as `cc_items_per_step`."""
        most, found = self.params.cc_items_per_step, len(aligned.words)
        if not self.training or most is None or found <= most:
            return aligned
        return aligned.take(torch.randperm(found, device=aligned.words.device)[:most])

    def contrast(self, aligned: Aligned) -> Tensor:
        """The contrast of items' words and regions (specs 5.4); in training, thresholds follow."""
        pairs = self.pairs(aligned)
        words = normalize(aligned.seen_by_words if self.params.cl_on_aligned else aligned.words, dim=2)
        regions = normalize(aligned.patches, dim=2)
        cosines = words @ regions.mT
        if self.params.rand_scope == "batch":
            others = self.powers_of_other_items(words, regions, aligned.patches_there)
        else:
            drawn = other_regions(aligned.related, aligned.patches_there, self.params.n_r, random=self.training)
            others = (powers(cosines, self.params.tau_cl) * drawn).sum(dim=2, keepdim=True)
        return confident_contrast(
            cosines, pairs, others, self.params.tau_cl, weights_inside_log=self.params.weights_inside_log
        )

    @torch.no_grad()
    def pairs(self, aligned: Aligned) -> Pairs:
        """Which words and regions are positive and which hard negatives; in training, thresholds follow."""
        considered = (aligned.dense_weights > 0) & aligned.words_there[:, :, None]
        if self.params.confidence == "none":
            return Pairs(considered, torch.zeros_like(considered), considered.to(aligned.weights))
        sure = self.confidences(aligned)
        weights, least = sure.weights, sure.least
        above, below = (self.thresholds.get_buffer(name) for name in ("positive", "negative"))
        pairs = Pairs(considered & (least > above), considered & (least < below), weights)
        if self.training:
            self.thresholds.follow(
                weights[considered], pairs.hard[considered], self.params.eta_plus, self.params.eta_minus
            )
        return pairs

    def powers_of_other_items(self, words: Tensor, regions: Tensor, there: Tensor) -> Tensor:
        """The sum of the powers of `n_r` regions of other items for each word, [c, W, 1].

        Args:
            words: of length 1, [c, W, d].
            regions: of length 1, [c, P, d].
            there: whether there is a region, [c, P].
        """
        count, length = there.shape
        if count == 1:
            return words.new_zeros(1, words.shape[1], 1)
        drawn = torch.rand(2, count, self.params.n_r, device=words.device)
        item = torch.arange(count, device=words.device)[:, None] + 1 + (drawn[0] * (count - 1)).long()
        item = item % count
        place = (drawn[1] * there.sum(dim=1)[item]).long()
        negatives = look_up(regions.flatten(0, 1), item * length + place)
        return powers(words @ negatives.mT, self.params.tau_cl).sum(dim=2, keepdim=True)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The users' propagated embeddings, and the items' final ones."""
        users, items = torch.split(self.behaviour(), [self.n_users, self.n_items])
        return users, self.final(items, self.contents())


def weighted_mean(vectors: Tensor, weights: Tensor) -> Tensor:
    """The mean [n, d] of vectors [n, length, d] with weights [n, length], not all 0."""
    return torch.bmm(weights[:, None], vectors)[:, 0] / weights.sum(dim=1, keepdim=True)
