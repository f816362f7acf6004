"""SimGCL: LightGCN with a contrast of two views that have random noise in each hop (Yu et al., SIGIR 2022)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from mmprep.models.layers.contrast import distinct_nodes, two_view_contrast
from mmprep.models.layers.losses import bpr, embedding_norm
from mmprep.models.layers.propagation import SparseOperator, hops
from mmprep.models.recommenders.base import (
    Recommender,
    RecommenderParams,
    TrainingData,
    embedding_table,
    inner,
    look_up,
)


class SimGCLParams(RecommenderParams):
    """Section `recommenders.simgcl`.

    Attributes:
        layers: hops of propagation, L.
        noise: norm of the noise added to a node in each hop, epsilon.
        contrast: weight of the contrast in the loss, lambda.
        temperature: tau of the contrast.
        regularisation: weight of the layer-0 embeddings' norms in the loss.
    """

    layers: Annotated[int, Field(ge=1)] = 2
    noise: Annotated[float, Field(ge=0)] = 0.1
    contrast: Annotated[float, Field(ge=0)] = 0.01
    temperature: Annotated[float, Field(gt=0)] = 0.2
    regularisation: Annotated[float, Field(ge=0)] = 1e-4


class SimGCL(Recommender):
    """LightGCN by the mean of hops 1 to L, without the free embeddings, as in all three passes of the paper.

    New noise is drawn for each batch. Outside training there is none.
    """

    params_type = SimGCLParams

    def __init__(self, data: TrainingData, params: SimGCLParams) -> None:
        super().__init__(data, params)
        self.params = params
        self.adjacency = SparseOperator(data.graphs["interaction/symmetric"])
        self.users = embedding_table(data.n_users, params.embedding_size)
        self.items = embedding_table(data.n_items, params.embedding_size)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """The ranking loss without noise, the contrast with it, and the norms of the free embeddings (eq 1-2)."""
        clean = self.clean_hops()
        nodes = torch.stack(clean).mean(dim=0)
        user, positive, negative = (
            look_up(nodes, users),
            look_up(nodes, self.n_users + positives),
            look_up(nodes, self.n_users + negatives),
        )
        free = (look_up(self.users, users), look_up(self.items, positives), look_up(self.items, negatives))
        chosen, sides = distinct_nodes(users, positives, self.n_users)
        first, second = (look_up(nodes, chosen) + self.drift(clean, chosen) for _ in range(2))
        contrast = two_view_contrast(first, second, sides, self.params.temperature)
        return {
            "bpr": bpr(inner(user, positive), inner(user, negative)),
            "contrast": self.params.contrast * contrast,
            "norm": self.params.regularisation * embedding_norm(*free),
        }

    def clean_hops(self) -> list[Tensor]:
        """The outputs of hops 1 to L without noise, [n_users + n_items, d] each."""
        return hops(self.adjacency, torch.cat([self.users, self.items]), self.params.layers)

    @torch.no_grad()
    def drift(self, clean: list[Tensor], chosen: Tensor) -> Tensor:
        """Offset [n, d] of the chosen nodes' [n] mean embedding by the noise of all hops.

        Propagation is linear and the noise has no gradient, so that a view is the clean embedding plus a constant,
        and the two views need no backward pass of their own. The last hop's noise is not propagated, so only the
        chosen nodes get it.
        """
        moved = torch.zeros_like(clean[0])
        total = moved[chosen]
        for hop in clean[:-1]:
            moved = moved + self.drawn_noise(hop + moved)
            total = total + moved[chosen]
            moved = self.adjacency(moved)
        last = moved[chosen]
        return (total + last + self.drawn_noise(clean[-1][chosen] + last)) / len(clean)

    def drawn_noise(self, embeddings: Tensor) -> Tensor:
        """Uniform noise of norm epsilon in the orthant of each embedding [n, d]; 0 outside training."""
        if not self.training:
            return torch.zeros_like(embeddings)
        return self.params.noise * normalize(torch.rand_like(embeddings), dim=1) * embeddings.sign()

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """The mean of the hops without noise."""
        users, items = torch.split(torch.stack(self.clean_hops()).mean(dim=0), [self.n_users, self.n_items])
        return users, items
