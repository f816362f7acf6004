import math

import torch

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.fused_losses import fused_losses

BATCH = BatchNodes.of(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([2, 2, 2]))
WEIGHTS = {"contrast": 0.5, "temperature": 0.25, "similarity": "cosine", "norm": 0.1}


def test_terms_by_hand() -> None:
    # Users 0 and 1, then items 0, 1 and 2. Behaviour has them all alike, what is added tells them apart.
    behaviour, fused = torch.ones(5, 2).double(), torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1], [0, 0]]).double()
    found = fused_losses(BATCH, behaviour, fused, unique_ids=True, **WEIGHTS)
    leads = [5 - 3, 5 - 3, 4 - 3]  # of (2, 1) and (1, 2) with each other, and with (1, 1)
    bpr = sum(math.log1p(math.exp(-lead)) for lead in leads) / 3
    squares = sum(5 + 5 + 2 for _ in leads) / (2 * 3)
    expected = {"bpr": bpr, "contrast": 0.5 * 2 * math.log(2), "norm": 0.1 * squares}
    assert {name: round(float(term), 12) for name, term in found.items()} == {
        name: round(term, 12) for name, term in expected.items()
    }


def test_repeated_ids_are_their_own_negatives_where_that_is_asked_for() -> None:
    same = torch.ones(5, 2)
    once, repeated = (fused_losses(BATCH, same, same, unique_ids=unique, **WEIGHTS) for unique in (True, False))
    assert math.isclose(float(once["contrast"]), 0.5 * 2 * math.log(2), rel_tol=1e-6)
    assert math.isclose(float(repeated["contrast"]), 0.5 * 2 * math.log(3), rel_tol=1e-6)


def test_contrast_by_inner_products_depends_on_lengths_and_that_by_cosines_does_not() -> None:
    behaviour = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1], [0, 0]]).double()
    for similarity, factors in (("inner", (3.0, 12.0)), ("cosine", (1.0, 1.0))):
        for length, factor in zip((0.75, 3.0), factors, strict=True):
            weights = {**WEIGHTS, "similarity": similarity}
            term = fused_losses(BATCH, behaviour, length * behaviour, unique_ids=True, **weights)["contrast"]
            # Two users, and two items: a row's own has this similarity over 0.25, the other one 0.
            similar = factor if similarity == "inner" else 1 / 0.25
            assert math.isclose(float(term), 0.5 * 2 * math.log(1 + math.exp(-similar)), rel_tol=1e-9)
