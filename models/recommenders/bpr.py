"""BPR: matrix factorisation under the Bayesian personalised ranking loss (Rendle et al., UAI 2009)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from mmprep.models.layers.losses import bpr, embedding_norm
from mmprep.models.recommenders.base import (
    Recommender,
    RecommenderParams,
    TrainingData,
    embedding_table,
    inner,
    look_up,
)


class BPRParams(RecommenderParams):
    """Section `recommenders.bpr`.

    Attributes:
        regularisation: weight of the embeddings' norms in the loss.
    """

    regularisation: Annotated[float, Field(ge=0)] = 1e-2


class BPR(Recommender):
    """A user and an item embedding; the score is their inner product."""

    params_type = BPRParams

    def __init__(self, data: TrainingData, params: BPRParams) -> None:
        super().__init__(data, params)
        self.regularisation = params.regularisation
        self.users = embedding_table(data.n_users, params.embedding_size, "xavier_normal_")
        self.items = embedding_table(data.n_items, params.embedding_size, "xavier_normal_")

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss and the norms of the batch's embeddings."""
        user, positive, negative = (
            look_up(self.users, users),
            look_up(self.items, positives),
            look_up(self.items, negatives),
        )
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "norm": self.regularisation * embedding_norm(user, positive, negative),
        }

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The embedding tables of users and items."""
        return self.users, self.items
