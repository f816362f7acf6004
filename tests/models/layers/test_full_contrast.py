import math

import pytest
import torch
from torch import Tensor

from mmprep.models.layers import full_contrast
from mmprep.models.layers.full_contrast import contrast_with_all, log_partition

BATCH, NODES, SIZE = 7, 11, 3


@pytest.fixture(params=[1, NODES, 3 * NODES + 5, 100 * NODES], ids=lambda logits: f"{logits} logits a block")
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_contrast, "BLOCK_LOGITS", request.param)


def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    anchors, candidates = (
        (5 * torch.randn(rows, SIZE, dtype=torch.float64, generator=generator)).requires_grad_()
        for rows in (BATCH, NODES)
    )
    nodes = torch.randint(NODES, (BATCH,), generator=generator)
    return anchors, candidates, nodes, torch.rand(BATCH, dtype=torch.float64, generator=generator)


@pytest.mark.usefixtures("_blocks")
def test_value_and_gradients_are_those_of_the_whole_softmax() -> None:
    anchors, candidates, nodes, weights = tensors()
    shares = (anchors @ candidates.T).softmax(dim=1)
    expected = -(weights * shares[torch.arange(BATCH), nodes].log()).sum()
    found = contrast_with_all(anchors, candidates, nodes, weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(2 * value, (anchors, candidates)) for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_weight_counts_an_anchor_as_often() -> None:
    anchors, candidates, nodes, _ = tensors()
    repeated = torch.tensor([0, 0, 0, 1])
    counted = contrast_with_all(anchors[:2], candidates, nodes[:2], torch.tensor([3.0, 1.0], dtype=torch.float64))
    every = contrast_with_all(anchors[repeated], candidates, nodes[repeated], torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(counted, every)


def test_equal_candidates_by_hand() -> None:
    # Each of the 5 candidates has a share of 1/5 whatever the anchor is.
    found = contrast_with_all(torch.randn(2, 3), torch.ones(5, 3), torch.tensor([0, 3]), torch.ones(2))
    torch.testing.assert_close(found, torch.tensor(2 * math.log(5)))


def test_large_logits_overflow_nothing() -> None:
    anchors = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    value = log_partition(anchors, torch.tensor([[1.0], [-1.0]]), torch.ones(2))
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(2000.0))
    torch.testing.assert_close(anchors.grad, torch.tensor([[1.0], [-1.0]]))
