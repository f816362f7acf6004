"""Denoised BPR: reliability of observed interactions, and probability of false-positive feedback.

DA-MRS (Xv et al., KDD 2024, eq 5-8; docs/papers/da_mrs.md#reliabilities), in two forms: as printed in the paper, and as
in the authors' code, which weights both directions of the ranking instead of mixing their probabilities
(docs/papers/da_mrs.md#denoised-bpr).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid, normalize

Form = Literal["official", "paper"]


@dataclass(frozen=True)
class Evidence:
    """Inputs of the reliability estimates: embeddings, and views of items.

    Attributes:
        users: [n_users, d].
        items: final item embeddings, [n_items, d].
        views: [n_items, d] each, L2-normalised in the authors' code.
        form: the paper's equations or the authors' code.
    """

    users: Tensor
    items: Tensor
    views: Sequence[Tensor]
    form: Form

    @classmethod
    def of(cls, users: Tensor, items: Tensor, views: Sequence[Tensor], form: Form) -> "Evidence":
        """Evidence from the recommender's embeddings."""
        return cls(users, items, [normalize(v, dim=1) for v in views] if form == "official" else views, form)

    def by_view(self, users: Tensor, items: Tensor) -> Tensor:
        """y_m, the scores of user-item pairs, [pairs] indices each, by each view, [views, pairs]."""
        user = embedding(users, self.users)
        return torch.stack([(user * embedding(items, view)).sum(dim=1) for view in self.views])

    def unobserved(self, users: Tensor, items: Tensor) -> Tensor:
        """Probabilities [pairs] of unobserved pairs, [pairs] indices each, whose mean is yn."""
        if self.form == "official":
            return self.by_view(users, items).sigmoid().mean(dim=0)
        return (embedding(users, self.users) * embedding(items, self.items)).sum(dim=1).sigmoid()


@dataclass(frozen=True)
class FeedbackDenoising:
    """Estimator of reliabilities.

    Attributes:
        form: the paper's equations or the authors' code.
        alpha: exponent of the mean preference in f.
        beta: exponent of exp(-variance) in f.
        gamma: exponent of g.
        use_f: whether f is estimated; else it is 1.
        use_g: whether g is estimated; else it is 0.
    """

    form: Form = "official"
    alpha: float = 1.0
    beta: float = 2.0
    gamma: float = 1.0
    use_f: bool = True
    use_g: bool = True

    def reliabilities(self, scores: Tensor, unobserved: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of observation for liked pairs, f, and for disliked pairs, g, [pairs] each.

        Args:
            scores: scores of observed user-item pairs by each view, [views, pairs]; at least two views.
            unobserved: yn, mean probability of unobserved pairs, a scalar.
        """
        liked = scores.sigmoid()
        mean = liked.mean(dim=0)
        f, g = torch.ones_like(mean), torch.zeros_like(mean)
        if self.use_f:
            variance = liked.var(dim=0, correction=1 if self.form == "official" else 0)
            f = mean**self.alpha * (-self.beta * variance).exp()
        if self.use_g:
            doubtful = (unobserved > mean).to(mean.dtype)
            g = doubtful * self.excess(scores, unobserved) ** self.gamma
        return f, g

    def excess(self, scores: Tensor, unobserved: Tensor) -> Tensor:
        """Excess of the highest preference among views over unobserved pairs, [pairs], 0 to 1."""
        if self.form == "paper":
            return (scores.amax(dim=0) - unobserved).sigmoid()
        return (scores.sigmoid().amax(dim=0) - unobserved).clamp_min(0)


def denoised_bpr(lead: Tensor, f: Tensor, g: Tensor, form: Form) -> Tensor:
    """Mean ranking loss of observed pairs that may be false positives, a scalar.

    `official` is -(f ln sigmoid(x) + g ln sigmoid(-x)), `paper` -ln(f sigmoid(x) + g sigmoid(-x)), minimised
    (docs/papers/da_mrs.md#loss-signs).

    Args:
        lead: x, score of the observed item minus that of the negative, [pairs].
        f: reliabilities, [pairs].
        g: probabilities that the observed item is not liked, [pairs].
        form: the paper's equation or the authors' code.
    """
    right, wrong = logsigmoid(lead), logsigmoid(-lead)
    if form == "official":
        return -(f * right + g * wrong).mean()
    return -torch.logaddexp(logarithm(f) + right, logarithm(g) + wrong).mean()


def logarithm(chance: Tensor) -> Tensor:
    """Logarithm of probabilities; -inf without gradient for 0, where autograd gives an infinite or NaN gradient."""
    never = chance == 0
    return chance.masked_fill(never, 1).log().masked_fill(never, -torch.inf)
