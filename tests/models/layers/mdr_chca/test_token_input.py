"""Raw patches and tokens, projected in blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import token_source

from mmprep.models.layers.mdr_chca import token_input
from mmprep.models.layers.mdr_chca.token_input import TokenInput
from mmprep.models.layers.mdr_chca.token_store import TokenStore

LENGTHS = [2, 0, 3, 1, 0, 3]
RAW = [np.random.default_rng(length + 1).normal(size=(length, 4)).astype(np.float32) for length in LENGTHS]
ITEMS = torch.tensor([5, 1, 0, 3, 5])


def made(tmp_path: Path, memory: int = 10**6) -> TokenInput:
    source = token_source([each.astype(np.float16) for each in RAW], memory=memory, scratch=tmp_path)
    torch.manual_seed(0)
    return TokenInput(TokenStore.first_tokens(source, len(RAW), 3), 5)


@pytest.mark.parametrize("block", [1, 2, 64])
@pytest.mark.parametrize("memory", [0, 10**6])
def test_projections_and_gradients_are_those_of_each_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, memory: int
) -> None:
    monkeypatch.setattr(token_input, "BLOCK_ITEMS", block)
    layer = made(tmp_path, memory).double()
    weight, missing = layer.projection.get_parameter("weight"), layer.missing
    found, there = layer(ITEMS)
    assert there.sum(dim=1).tolist() == [3, 1, 2, 1, 3]
    expected = [
        torch.from_numpy(RAW[item].astype(np.float16)).double() @ weight.T if LENGTHS[item] else missing
        for item in ITEMS.tolist()
    ]
    torch.testing.assert_close(found[there], torch.cat(expected), rtol=0, atol=1e-12)
    assert not found[~there].any()
    factors = torch.randn(found.shape, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(total, (weight, missing))
        for total in ((found * factors).sum(), (torch.cat(expected) * factors[there]).sum())
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_length_is_that_of_the_longest_item_asked_for(tmp_path: Path) -> None:
    layer = made(tmp_path)
    assert layer(torch.tensor([3, 1]))[0].shape == (2, 1, 5)
    assert layer(torch.tensor([1]))[0].shape == (1, 1, 5)


def test_means_are_those_of_all_items(tmp_path: Path) -> None:
    expected = [
        each.astype(np.float16).astype(np.float32).mean(axis=0) if len(each) else np.zeros(4, np.float32)
        for each in RAW
    ]
    np.testing.assert_allclose(made(tmp_path).means(), np.stack(expected), atol=1e-6)


def test_raw_vectors_are_no_part_of_a_checkpoint(tmp_path: Path) -> None:
    assert made(tmp_path).state_dict().keys() == {"projection.weight", "missing"}
