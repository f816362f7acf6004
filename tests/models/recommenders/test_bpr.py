import numpy as np
import torch
from worlds import binary

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.training.trainer import build

DATA = TrainingData(binary([(0, 0), (1, 1)], (2, 3)), binary([], (2, 3)))


def test_losses_by_hand() -> None:
    recommender = build(BPR, DATA, BPRParams(embedding_size=2, regularisation=0.5), 0)
    recommender.load_state_dict(
        {"users": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "items": torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, 1.0]])}
    )
    found = recommender.losses(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 2]))
    # Scores 3 against 1 and 2 against 2; norms |(1, 0), (0, 2)|, |(3, 4), (0, 1)| and |(1, 1), (1, 1)|.
    expected = {
        "bpr": (np.log1p(np.exp(-2)) + np.log(2)) / 2,
        "norm": 0.5 * (np.sqrt(5) + np.sqrt(26) + 2) / 2,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].item(), value, rtol=1e-6)


def test_tables_are_xavier_normal() -> None:
    wide = TrainingData(binary([(0, 0)], (3000, 500)), binary([], (3000, 500)))
    users, items = build(BPR, wide, BPRParams(embedding_size=64), 0).embeddings()
    assert users.shape == (3000, 64)
    assert items.shape == (500, 64)
    for table in (users, items):
        np.testing.assert_allclose(table.std().item(), np.sqrt(2 / sum(table.shape)), rtol=0.02)
        assert table.abs().max() > 3.5 * table.std()  # a uniform table would end at 1.7
