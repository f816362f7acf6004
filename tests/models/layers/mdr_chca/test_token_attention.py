"""Attention within items and between their modalities (docs/papers/mdr_chca.md#token-alignment)."""

import pytest
import torch
from torch import Tensor

from mmprep.models.layers.mdr_chca.token_attention import CrossAttention, SelfAttentionMix, largest, self_attention
from mmprep.models.training.trainer import deterministic

EXACT = {"rtol": 0.0, "atol": 1e-12}


def some_vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("lengths", [[4, 4], [1, 3]])
def test_self_attention_is_that_of_each_item(lengths: list[int]) -> None:
    there = torch.arange(4) < torch.tensor(lengths)[:, None]
    vectors = some_vectors(2, 4, 3) * there[..., None]
    found = self_attention(vectors, there)
    for item, length in enumerate(lengths):
        own = vectors[item, :length]
        expected = (own @ own.T / 3**0.5).softmax(dim=1) @ own
        torch.testing.assert_close(found[item, :length], expected, **EXACT)
        assert not found[item, length:].any()


@pytest.mark.parametrize(("logit", "kept"), [(100.0, 1.0), (-100.0, 0.0)])
def test_denoising_goes_from_the_vectors_to_their_attention(logit: float, kept: float) -> None:
    layer, vectors, there = SelfAttentionMix().double(), some_vectors(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(layer(vectors, there), (vectors + self_attention(vectors, there)) / 2, **EXACT)
    torch.nn.init.constant_(layer.kept, logit)
    expected = vectors if kept else self_attention(vectors, there)
    torch.testing.assert_close(layer(vectors, there), expected, **EXACT)


@pytest.mark.parametrize("ragged", [False, True])
def test_self_attention_repeats_to_the_last_bit_on_several_threads(ragged: bool) -> None:
    there = torch.ones(40, 70, dtype=torch.bool)
    there[::3, 40:] = ~torch.tensor(ragged)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    gradients = []
    with deterministic(torch.device("cpu")):
        for _ in range(4):
            vectors = some_vectors(40, 70, 16).float().requires_grad_()
            gradients += torch.autograd.grad(self_attention(vectors, there).square().sum(), vectors)
    torch.set_num_threads(before)
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])


@pytest.mark.parametrize("most", [1, 2, 9])
def test_largest_weights_stay_and_sum_to_one(most: int) -> None:
    weights = some_vectors(3, 5).softmax(dim=1)
    found = largest(weights, most, renormalise=True)
    assert ((found > 0).sum(dim=1) == min(most, 5)).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3, dtype=torch.float64), **EXACT)
    raw = largest(weights, most, renormalise=False)
    torch.testing.assert_close(raw[raw > 0], weights[raw > 0], **EXACT)
    assert torch.equal(raw > 0, found > 0)
    assert all((raw[row] == weights[row].max()).any() for row in range(3))


def test_attention_sees_only_what_is_allowed() -> None:
    attention = CrossAttention(4, 2).double()
    allowed = torch.tensor([[[True, False, True, True, False]]])[:, :, None]
    seeing, seen = some_vectors(1, 1, 3, 4), some_vectors(1, 1, 5, 4, seed=1)
    found, weights = attention(seeing, seen, allowed, 2, renormalise=True)
    assert not weights[..., [1, 4]].any()
    assert ((weights > 0).sum(dim=-1) == 2).all()
    other = seen.clone()
    other[0, 0, [1, 4]] = 9
    torch.testing.assert_close(attention(seeing, other, allowed, 2, renormalise=True), (found, weights), **EXACT)


def test_attention_with_one_head_is_softmax_of_scaled_products() -> None:
    attention = CrossAttention(4, 1).double()
    seeing, seen = some_vectors(1, 1, 3, 4), some_vectors(1, 1, 5, 4, seed=1)
    found, weights = attention(seeing, seen, torch.ones(1, 1, 1, 5, dtype=torch.bool), 5, renormalise=True)
    expected = (attention.query(seeing) @ attention.key(seen).mT / 2).softmax(dim=-1)
    torch.testing.assert_close(weights, expected, **EXACT)
    torch.testing.assert_close(found, attention.output(expected @ attention.value(seen)), **EXACT)
