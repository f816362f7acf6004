"""Convolution within items against dense matrices (docs/papers/mdr_chca.md#intra-item-graphs)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mmprep.models.layers.mdr_chca import token_graph
from mmprep.models.layers.mdr_chca.token_graph import IntraItemConvolution, _Product, joined, product
from mmprep.pipeline.graphs.intra_item_reader import NONE


def some_neighbours(n: int, length: int, k: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(n).integers(NONE, length, size=(n, length, k)).astype(np.int16))


def dense(neighbours: Tensor) -> Tensor:
    """One item's operator, step by step."""
    adjacency = torch.eye(len(neighbours), dtype=torch.float64)
    for source, targets in enumerate(neighbours.tolist()):
        for target in targets:
            if target != NONE:
                adjacency[source, target] = adjacency[target, source] = 1
    degree = adjacency.sum(dim=1)
    return adjacency / torch.outer(degree, degree).sqrt()


@pytest.mark.parametrize("numbers", [1, 60, 2**21])
@pytest.mark.parametrize(("n", "length", "k"), [(0, 4, 2), (1, 1, 1), (5, 7, 3), (9, 12, 1)])
def test_product_is_that_of_each_item_by_itself(
    monkeypatch: pytest.MonkeyPatch, n: int, length: int, k: int, numbers: int
) -> None:
    monkeypatch.setattr(token_graph, "BLOCK_NUMBERS", numbers)
    neighbours, vectors = some_neighbours(n, length, k), torch.randn(n, length, 3, dtype=torch.float64)
    found = product(joined(neighbours), vectors)
    for item in range(n):
        torch.testing.assert_close(found[item], dense(neighbours[item]) @ vectors[item], rtol=0, atol=1e-12)


def test_weights_by_hand() -> None:
    # 0 chose 1, 1 chose 2, 2 chose 1: degrees with themselves are 2, 3 and 2, and of the place without a vector 1.
    half, other = 1 / 2, 1 / 6**0.5
    pairs = joined(torch.tensor([[[1], [2], [1], [NONE]]], dtype=torch.int16))
    by_hand = [[half, other, 0, 0], [other, 1 / 3, other, 0], [0, other, half, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(product(pairs, torch.eye(4)[None])[0], torch.tensor(by_hand))


def test_gradient_is_right() -> None:
    pairs = joined(some_neighbours(3, 5, 2))
    vectors = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: _Product.apply(pairs, given), (vectors,))


def test_places_beyond_an_items_vectors_change_nothing() -> None:
    convolution = IntraItemConvolution(3, 2).double()
    neighbours, vectors = some_neighbours(4, 5, 2), torch.randn(4, 5, 3, dtype=torch.float64)
    short = convolution(vectors, neighbours)
    pad = torch.nn.functional.pad
    longer = convolution(pad(vectors, (0, 0, 0, 3)), pad(neighbours, (0, 0, 0, 3), value=NONE))
    torch.testing.assert_close(longer[:, :5], short, rtol=0, atol=1e-12)
    assert not longer[:, 5:].any()


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_layer_maps_sums_and_clips(layers: int) -> None:
    convolution = IntraItemConvolution(3, layers).double()
    neighbours, vectors = some_neighbours(2, 4, 1), torch.randn(2, 4, 3, dtype=torch.float64)
    found, alone = convolution(vectors, neighbours), convolution(vectors, None)
    for item in range(2):
        hidden, own = vectors[item], vectors[item]
        for layer in convolution.layers:
            hidden = (dense(neighbours[item]) @ hidden @ layer.get_parameter("weight").T).clamp_min(0)
            own = (own @ layer.get_parameter("weight").T).clamp_min(0)
        torch.testing.assert_close(found[item], hidden, rtol=0, atol=1e-12)
        torch.testing.assert_close(alone[item], own, rtol=0, atol=1e-12)
