"""DA-MRS: denoised item graphs, feedback and alignment for any backbone (Xv et al., KDD 2024)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import normalize

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.da_mrs.backbones import FreeBackbone, LightGCNBackbone, VBPRBackbone
from mmprep.models.layers.da_mrs.denoised_bpr import Evidence, FeedbackDenoising, Form, denoised_bpr
from mmprep.models.layers.da_mrs.graded_contrast import Grades, Mode, graded_contrast
from mmprep.models.layers.da_mrs.item_views import ItemViews, behaviour_graph, content_graph
from mmprep.models.layers.da_mrs.preference_alignment import preference_divergence
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.losses import bpr, embedding_norm
from mmprep.models.layers.propagation import SparseOperator
from mmprep.models.recommenders.base import MultimodalParams, Recommender, TrainingData, embedding_table, inner, look_up
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.params import Count, Weight

BEHAVIOUR = "behaviour"
"""Name of the view by the item co-occurrence graph."""

BLOCK_TRIPLES = 2**16
"""Number of interactions per block when reliabilities are estimated."""

NORM_WEIGHTS = {"bpr": 0.1, "lightgcn": 0.0, "vbpr": 0.1}
"""Weights in the authors' runs, by backbone."""


class DAMRSParams(MultimodalParams):
    """Section `recommenders.da_mrs`. Preset `official` is the authors' code, `paper` the paper as printed.

    The defaults are the authors' code but for `behaviour_k` and `norm_of`.

    Attributes:
        backbone: model of users' and items' embeddings: `bpr` (matrix factorisation), `lightgcn`, or `vbpr`, the only
            one that reads features in addition to their graphs, and may train them.
        layers: hops of `lightgcn` over the user-item graph.
        item_layers: hops over the item graphs.
        denoise_graph: whether modalities' graphs are the consistent ones; else those of plain nearest neighbours.
        behaviour_k: number of an item's neighbours in the behaviour graph, those with most common users, at most
            graphs.cooccurrence.k; null takes all that graph `cooccurrence` has. 2 in the authors' README, 10 in the
            paper.
        iib_weights: weights of the behaviour graph: all 1 (`binary`), or the numbers of common users (`count`).
        ti_scale: whether an item is the `sum` of its own embedding and the mean of its views, or the `mean` of the two.
        regularisation: weight of the embeddings' norms; null is 0.1 for `bpr` and `vbpr`, and 0 for `lightgcn`.
        norm_of: items with norms, beside the backbone's users: the `backbone`'s, or the `final` ones with their views,
            as in the authors' code.
        dbpr: whether feedback is denoised; else the ranking loss is BPR.
        dbpr_form: denoised loss as in the authors' code (`official`) or as printed (`paper`).
        alpha: exponent of the mean preference in f, the reliability of observed feedback.
        beta: exponent in f of exp(-variance) of the preferences by the views.
        gamma: exponent of g, the probability that feedback is observed although the item is not liked.
        use_f: whether f is estimated; else it is 1.
        use_g: whether g is estimated; else it is 0.
        fg_grad: whether f and g get gradients.
        lambda1: weight of the alignment by user preference.
        au_form: preferences as probabilities of pairs (`official`) or distributions over all items (`paper`).
        au_stopgrad: `id` aligns only the views to behaviour, `none` each to the other.
        lambda2: weight of the alignment by graded item relations. 0.1 and more ruined the authors' training on Baby; on
            TikTok 0.05, which is 0.1 in their code for three modalities, trained well.
        ai_mode: positive items: those similar by several modalities and, in a second contrast, by one (`both`); all of
            them equally (`sp`); only the former (`mp`).
        ai_neg: negatives: `all` items, or those of the `batch`, which is faster and as in the paper.
        ai_multi: number of items similar by several modalities.
        ai_single: number of further items similar by one modality.
        ai_exclude_self: whether an item is excluded from its own relations.
        temperature: tau of the alignment by item relations; below 0.05 exponentials overflow f32.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "official": {
            "behaviour_k": 2,
            "ti_scale": "sum",
            "norm_of": "final",
            "dbpr_form": "official",
            "au_form": "official",
            "ai_neg": "all",
        },
        "paper": {
            "behaviour_k": 10,
            "iib_weights": "count",
            "ti_scale": "mean",
            "dbpr_form": "paper",
            "alpha": 1.5,
            "beta": 1.5,
            "gamma": 2.0,
            "au_form": "paper",
            "ai_neg": "batch",
        },
        "cpu_small": {"embedding_size": 32, "ai_neg": "batch"},
    }

    backbone: Literal["bpr", "lightgcn", "vbpr"] = "lightgcn"
    layers: Annotated[int, Field(ge=0)] = 2
    item_layers: Annotated[int, Field(ge=1)] = 1
    denoise_graph: bool = True
    behaviour_k: Count | None = None
    iib_weights: Literal["binary", "count"] = "binary"
    ti_scale: Literal["sum", "mean"] = "sum"
    regularisation: Annotated[float, Field(ge=0)] | None = None
    norm_of: Literal["backbone", "final"] = "backbone"
    dbpr: bool = True
    dbpr_form: Form = "official"
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 2.0
    gamma: Annotated[float, Field(ge=1)] = 1.0
    use_f: bool = True
    use_g: bool = True
    fg_grad: bool = False
    lambda1: Annotated[float, Field(ge=0)] = 1.0
    au_form: Form = "official"
    au_stopgrad: Literal["none", "id"] = "none"
    lambda2: Annotated[float, Field(ge=0)] = 1e-3
    ai_mode: Mode = "both"
    ai_neg: Literal["all", "batch"] = "all"
    ai_multi: Annotated[int, Field(ge=1)] = 10
    ai_single: Annotated[int, Field(ge=1)] = 10
    ai_exclude_self: bool = False
    temperature: Annotated[float, Field(ge=0.05)] = 0.2

    @model_validator(mode="after")
    def features_are_trained_where_they_are_read(self) -> Self:
        """Refuse to train features that the backbone does not read; raises ValueError."""
        if self.finetune_features and self.backbone != "vbpr":
            raise ValueError(f"finetune_features: backbone {self.backbone} reads no features, vbpr alone does")
        return self

    @property
    def norm_weight(self) -> float:
        """The weight of the norms."""
        return NORM_WEIGHTS[self.backbone] if self.regularisation is None else self.regularisation

    @property
    def denoising(self) -> FeedbackDenoising:
        """Estimator of f and g."""
        return FeedbackDenoising(self.dbpr_form, self.alpha, self.beta, self.gamma, self.use_f, self.use_g)


class DAMRS(Recommender):
    """A backbone whose items also have views by their neighbours in each modality's graph and in the behaviour graph.

    A user is the backbone's embedding, an item the sum of the backbone's and the mean of its views. Views determine how
    reliable feedback is (eq 6-8; docs/papers/da_mrs.md#reliabilities), are aligned with the backbone's items by user
    preference (eq 9-10), and are contrasted by item similarity. Losses are minimised, and all are means
    (docs/papers/da_mrs.md#loss-signs); the paper prints log-likelihoods and sums. With `vbpr` views are of both halves
    of an item, which no published code shows (docs/papers/da_mrs.md#backbones).
    """

    params_type = DAMRSParams

    def __init__(self, data: TrainingData, params: DAMRSParams) -> None:
        super().__init__(data, params)
        self.params = params
        self.denoising = params.denoising
        self.grades = grades(params, data.n_items)
        self.backbone = make_backbone(data, params)
        self.views = ItemViews(view_graphs(data, params), params.item_layers)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The (denoised) ranking loss, and the alignments and norms with a weight other than 0."""
        params, batch = self.params, BatchNodes.of(users, positives, negatives)
        all_users, all_items, sources = self.backbone()
        all_views = self.views(sources)
        of_users, of_items = look_up(all_users, batch.users), look_up(all_items, batch.items)
        views = [look_up(view, batch.items) for view in all_views]
        rows = batch.user_rows, *(rows - len(batch.users) for rows in (batch.positive_rows, batch.negative_rows))
        final = self.final_items(of_items, views)
        terms = {"bpr": self.ranking_loss(of_users, final, views, *rows)}
        if params.lambda1:
            first, second = (all_items, all_views) if params.au_form == "paper" else (of_items, views)
            terms["user_alignment"] = params.lambda1 * self.user_alignment(of_users, first, second)
        if params.lambda2:
            contrast = graded_contrast(all_views, batch.items, self.grades, within=params.ai_neg == "batch")
            terms["item_alignment"] = params.lambda2 * contrast
        if params.norm_weight:
            items = final if params.norm_of == "final" else of_items
            tables = zip((of_users, items, items), rows, strict=True)
            terms["norm"] = params.norm_weight * embedding_norm(*(look_up(table, row) for table, row in tables))
        return terms

    def final_items(self, items: Tensor, views: Sequence[Tensor]) -> Tensor:
        """t_i of items [n, d] and their views, [n, d] each."""
        total = items + mean(views)
        return total if self.params.ti_scale == "sum" else total / 2

    def ranking_loss(
        self, users: Tensor, items: Tensor, views: Sequence[Tensor], user: Tensor, positive: Tensor, negative: Tensor
    ) -> Tensor:
        """The ranking loss of triples.

        Args:
            users: [a, d].
            items: the final ones, [b, d].
            views: [b, d] each.
            user: [batch] rows of the users.
            positive: [batch] rows of the items.
            negative: [batch] rows of the items.
        """
        of_user = look_up(users, user)
        scores = [inner(of_user, look_up(items, rows)) for rows in (positive, negative)]
        if not self.params.dbpr:
            return bpr(*scores)
        evidence = Evidence.of(users, items, views, self.params.dbpr_form)
        with torch.set_grad_enabled(self.params.fg_grad and torch.is_grad_enabled()):
            unobserved = evidence.unobserved(user, negative).mean()
            f, g = self.denoising.reliabilities(evidence.by_view(user, positive), unobserved)
        # With the paper's loss a pair with g > f trains the reverse ranking (docs/papers/da_mrs.md#denoised-bpr).
        for name, value in {"mean_f": f, "mean_g": g, "share_g_above_f": (g > f).to(g)}.items():
            self.observe(name, value.mean())
        return denoised_bpr(scores[0] - scores[1], f, g, self.params.dbpr_form)

    def user_alignment(self, users: Tensor, items: Tensor, views: Sequence[Tensor]) -> Tensor:
        """Divergence of users' preferences by behaviour and by the mean of views [n, d] each."""
        official = self.params.au_form == "official"
        sides = [normalize(side, dim=1) if official else side for side in (items, mean(views))]
        return preference_divergence(users, *sides, softmax=not official, fixed=self.params.au_stopgrad == "id")

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The backbone's users, and its items combined with their views."""
        users, items, sources = self.backbone()
        return users, self.final_items(items, self.views(sources))

    @torch.inference_mode()
    def reliabilities(self, users: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """The f and g of observed interactions as estimated in training, [interactions] each; yn is over all of them.

        Args:
            users: [interactions] indices.
            positives: [interactions] an item that the user interacted with.
            negatives: [interactions] an item that the user did not interact with.
        """
        all_users, items, sources = self.backbone()
        views = self.views(sources)
        evidence = Evidence.of(all_users, self.final_items(items, views), views, self.params.dbpr_form)
        blocks = [torch.split(each, BLOCK_TRIPLES) for each in (users, positives, negatives)]
        unobserved = torch.cat([evidence.unobserved(*pairs) for pairs in zip(blocks[0], blocks[2], strict=True)])
        observed = torch.cat([evidence.by_view(*pairs) for pairs in zip(*blocks[:2], strict=True)], dim=1)
        return self.denoising.reliabilities(observed, unobserved.mean())


def mean(views: Sequence[Tensor]) -> Tensor:
    """The mean of views [n, d] each, [n, d]."""
    return torch.stack(list(views)).mean(dim=0)


def make_backbone(data: TrainingData, params: DAMRSParams) -> FreeBackbone:
    """The backbone with its trainable tables."""
    wide = 2 if params.backbone == "vbpr" else 1
    users = embedding_table(data.n_users, wide * params.embedding_size)
    items = embedding_table(data.n_items, params.embedding_size)
    if params.backbone == "lightgcn":
        return LightGCNBackbone(users, items, SparseOperator(data.graphs["interaction/symmetric"]), params.layers)
    if params.backbone == "vbpr":
        return VBPRBackbone(users, items, ItemFeatures(data.features, finetune=params.finetune_features))
    return FreeBackbone(users, items)


def view_graphs(data: TrainingData, params: DAMRSParams) -> dict[str, csr_array]:
    """Each modality's graph, in the order of their names, and the behaviour graph.

    Raises:
        DataError: graph `cooccurrence` was built with fewer neighbours per item than `behaviour_k`.
    """
    kind = "consistent" if params.denoise_graph else "knn"
    content = {m: content_graph(data.graphs[f"{kind}/{m}"]) for m in sorted(data.features)}
    weight: Weight = "cosine" if params.iib_weights == "count" else "binary"
    k, stored = params.behaviour_k, data.graph_k.get("cooccurrence")
    if k is not None and stored is not None and k > stored:
        raise DataError(
            f"recommenders.da_mrs.behaviour_k: found {k}, expected at most {stored}, the k of graph cooccurrence; "
            "lower it, or raise graphs.cooccurrence.k and run `mmprep graph --graph cooccurrence`"
        )
    return content | {BEHAVIOUR: behaviour_graph(data.graphs["cooccurrence"], weight, k)}


def grades(params: DAMRSParams, n_items: int) -> Grades:
    """Numbers of similar items in the contrast; with few items, fewer are similar by one view.

    Raises:
        DataError: no items are left to be similar by one view.
    """
    left = n_items - params.ai_multi - params.ai_exclude_self
    if left < 1:
        most = n_items - 1 - params.ai_exclude_self
        raise DataError(f"recommenders.da_mrs.ai_multi: found {params.ai_multi}, expected at most {most} of the items")
    single = min(params.ai_single, left)
    return Grades(params.ai_multi, single, params.temperature, params.ai_mode, params.ai_exclude_self)
