"""BPR that doubts the data: how reliable an observed interaction is, and how likely an unobserved one was missed.

DA-MRS (Xv et al., KDD 2024, eq 5-8; docs/papers/da_mrs.md#reliabilities), in two forms: as the paper prints it, and as
the authors' code has it, which weights both directions of the ranking instead of mixing their probabilities
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
    """What reliabilities are estimated from: embeddings, and views of the items.

    Attributes:
        users: [n_users, d].
        items: the final ones, [n_items, d].
        views: [n_items, d] each, of length 1 in the authors' code.
        form: whose equations.
    """

    users: Tensor
    items: Tensor
    views: Sequence[Tensor]
    form: Form

    @classmethod
    def of(cls, users: Tensor, items: Tensor, views: Sequence[Tensor], form: Form) -> "Evidence":
        """That of embeddings as the recommender has them."""
        return cls(users, items, [normalize(v, dim=1) for v in views] if form == "official" else views, form)

    def by_view(self, users: Tensor, items: Tensor) -> Tensor:
        """y_m, the scores of pairs of user and item, [pairs] indices each, by each view, [views, pairs]."""
        user = embedding(users, self.users)
        return torch.stack([(user * embedding(items, view)).sum(dim=1) for view in self.views])

    def unobserved(self, users: Tensor, items: Tensor) -> Tensor:
        """What pairs that are not observed, [pairs] indices each, add to the mean yn: a probability each, [pairs]."""
        if self.form == "official":
            return self.by_view(users, items).sigmoid().mean(dim=0)
        return (embedding(users, self.users) * embedding(items, self.items)).sum(dim=1).sigmoid()


@dataclass(frozen=True)
class FeedbackDenoising:
    """How reliabilities are estimated.

    Attributes:
        form: whose equations.
        alpha: power of the mean preference in f.
        beta: power of exp(-variance) in f.
        gamma: power of g.
        use_f: else f is 1.
        use_g: else g is 0.
    """

    form: Form = "official"
    alpha: float = 1.0
    beta: float = 2.0
    gamma: float = 1.0
    use_f: bool = True
    use_g: bool = True

    def reliabilities(self, scores: Tensor, unobserved: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities f that pairs are observed if liked, and g that they are observed if not, [pairs] each.

        Args:
            scores: of observed pairs of user and item by each view of items, [views, pairs]; at least two views.
            unobserved: yn, the mean probability of pairs that are not observed, a scalar.
        """
        liked = scores.sigmoid()
        mean = liked.mean(dim=0)
        f, g = torch.ones_like(mean), torch.zeros_like(mean)
        if self.use_f:
            variance = liked.var(dim=0, correction=1 if self.form == "official" else 0)
            f = mean**self.alpha * (-self.beta * variance).exp()
        if self.use_g:
            doubted = (unobserved > mean).to(mean.dtype)
            g = doubted * self.excess(scores, unobserved) ** self.gamma
        return f, g

    def excess(self, scores: Tensor, unobserved: Tensor) -> Tensor:
        """How far the view that likes a pair most is above unobserved pairs, [pairs], 0 to 1."""
        if self.form == "paper":
            return (scores.amax(dim=0) - unobserved).sigmoid()
        return (scores.sigmoid().amax(dim=0) - unobserved).clamp_min(0)


def denoised_bpr(lead: Tensor, f: Tensor, g: Tensor, form: Form) -> Tensor:
    """The mean ranking loss of observed pairs that may be wrong, a scalar.

    `official` is -(f ln sigmoid(x) + g ln sigmoid(-x)), `paper` -ln(f sigmoid(x) + g sigmoid(-x)), minimised
    (docs/papers/da_mrs.md#loss-signs).

    Args:
        lead: x, by how much an observed item's score exceeds that of another, [pairs].
        f: reliabilities, [pairs].
        g: probabilities that the observed item is not liked, [pairs].
        form: whose equation.
    """
    right, wrong = logsigmoid(lead), logsigmoid(-lead)
    if form == "official":
        return -(f * right + g * wrong).mean()
    return -torch.logaddexp(logarithm(f) + right, logarithm(g) + wrong).mean()


def logarithm(chance: Tensor) -> Tensor:
    """Ln of probabilities, -infinity without a gradient for those that are 0, where autograd would find none or NaN."""
    never = chance == 0
    return chance.masked_fill(never, 1).log().masked_fill(never, -torch.inf)
