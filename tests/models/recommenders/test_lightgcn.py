import numpy as np
import pytest
import torch
from pydantic import ValidationError
from worlds import binary, training_data

from mmprep.models.layers.losses import bpr
from mmprep.models.recommenders.lightgcn import LightGCN, LightGCNParams
from mmprep.models.training.trainer import build

TRAIN = binary([(0, 0), (0, 1), (1, 1), (1, 2), (2, 1)], (4, 4))  # user 3 and item 3 have nothing
DATA = training_data("lightgcn", TRAIN, binary([], (4, 4)))


def dense_embeddings(recommender: LightGCN, layers: int) -> torch.Tensor:
    """Eq 3 and 4 written out: neighbours weighted by 1 / sqrt(|N_u| |N_i|), the mean over layers."""
    links = TRAIN.toarray()
    users, items = links.sum(axis=1), links.sum(axis=0)
    weights = np.zeros((8, 8))
    for u, i in zip(*TRAIN.nonzero(), strict=True):
        weights[u, 4 + i] = weights[4 + i, u] = 1 / np.sqrt(users[u] * items[i])
    hop = total = torch.cat([recommender.users, recommender.items]).detach()
    for _ in range(layers):
        hop = torch.from_numpy(weights).to(hop) @ hop
        total = total + hop
    return total / (layers + 1)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_embeddings_are_the_mean_of_normalised_propagations(layers: int) -> None:
    recommender = build(LightGCN, DATA, LightGCNParams(embedding_size=3, layers=layers), 0)
    torch.testing.assert_close(torch.cat(recommender.embeddings()).detach(), dense_embeddings(recommender, layers))


def test_node_without_interactions_keeps_its_free_embeddings_share() -> None:
    recommender = build(LightGCN, DATA, LightGCNParams(embedding_size=3, layers=2), 0)
    users, items = recommender.embeddings()
    torch.testing.assert_close(users[3], recommender.users[3] / 3)
    torch.testing.assert_close(items[3], recommender.items[3] / 3)


def test_scores_use_propagated_embeddings_and_the_norm_free_ones() -> None:
    recommender = build(LightGCN, DATA, LightGCNParams(embedding_size=3, regularisation=0.5), 0)
    users, positives, negatives = torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([3, 0])
    found = recommender.losses(users, positives, negatives)
    scores = dense_embeddings(recommender, 2)
    scores = scores[:4] @ scores[4:].T
    torch.testing.assert_close(found["bpr"].detach(), bpr(scores[users, positives], scores[users, negatives]))
    free = (recommender.users[users], recommender.items[positives], recommender.items[negatives])
    norms = torch.stack([rows.pow(2).sum().sqrt() for rows in free]).sum()
    torch.testing.assert_close(found["norm"], 0.5 * norms / 2)


def test_tables_are_xavier_uniform() -> None:
    wide = training_data("lightgcn", binary([(0, 0)], (3000, 500)), binary([], (3000, 500)))
    recommender = build(LightGCN, wide, LightGCNParams(), 0)
    for table in (recommender.users, recommender.items):
        bound = np.sqrt(6 / sum(table.shape))
        assert 0.99 * bound < table.abs().max() <= bound


def test_negative_number_of_layers_is_refused() -> None:
    with pytest.raises(ValidationError, match="layers"):
        LightGCNParams(layers=-1)
