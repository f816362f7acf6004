import pytest
import torch
from torch import Tensor

from mmprep.models.layers.camgr import row_attention as module
from mmprep.models.layers.camgr.row_attention import row_attention

ROWS, KEYS, SIZE, WIDTH = 7, 11, 3, 4
EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture(params=[1, KEYS, 3 * KEYS + 5, 100 * KEYS], ids=lambda logits: f"{logits} logits a block")
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_LOGITS", request.param)


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (ROWS, SIZE), (KEYS, SIZE), (KEYS, WIDTH)
    return [(3 * torch.randn(shape, dtype=torch.float64, generator=generator)).requires_grad_() for shape in shapes]


@pytest.mark.usefixtures("_blocks")
def test_rows_in_blocks_and_their_gradients_are_those_of_the_whole_softmax() -> None:
    queries, keys, values = inputs = tensors()
    found = row_attention(*inputs)
    expected = (queries @ keys.T / 3**0.5).softmax(dim=1) @ values
    torch.testing.assert_close(found, expected, **EXACT)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    gradients = [torch.autograd.grad((weights * value).sum(), inputs) for value in (found, expected)]
    torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.usefixtures("_blocks")
def test_shares_of_a_row_sum_to_one() -> None:
    queries, keys, _ = tensors()
    ones = torch.ones(KEYS, 1, dtype=torch.float64)
    torch.testing.assert_close(row_attention(queries, keys, ones), ones[:ROWS], **EXACT)


def test_row_is_the_same_whatever_the_other_rows_are() -> None:
    queries, keys, values = tensors()
    some = torch.tensor([5, 2])
    torch.testing.assert_close(
        row_attention(queries[some], keys, values), row_attention(queries, keys, values)[some], **EXACT
    )


def test_large_logits_overflow_nothing() -> None:
    queries = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    mean = row_attention(queries, torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0], [5.0]]))
    mean.sum().backward()
    torch.testing.assert_close(mean.detach(), torch.tensor([[2.0], [5.0]]))
    torch.testing.assert_close(queries.grad, torch.zeros(2, 1))


def test_no_rows_give_none_and_no_gradient() -> None:
    _, keys, values = tensors()
    mean = row_attention(torch.empty(0, SIZE, dtype=torch.float64), keys, values)
    assert mean.shape == (0, WIDTH)
    assert all(not gradient.count_nonzero() for gradient in torch.autograd.grad(mean.sum(), (keys, values)))


def test_logits_of_a_block_are_few() -> None:
    parts = module.blocks(4_500, 26_495)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop >= 4_500) == (0, True)
    assert all((part.stop - part.start) * 26_495 <= module.BLOCK_LOGITS for part in parts)
