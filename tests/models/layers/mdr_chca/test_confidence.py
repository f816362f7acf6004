"""Confidences, thresholds and the contrast that they weight (docs/papers/mdr_chca.md#confidence)."""

from math import exp, log

import pytest
import torch
from torch import Tensor

from mmprep.models.layers.mdr_chca.confidence import (
    Confidences,
    Pairs,
    Thresholds,
    confidences,
    confident_contrast,
    other_regions,
    powers,
)

ALL = torch.ones(2, 3, dtype=torch.bool)
LARGEST = torch.tensor([[0.2, 0.5, 1.0], [0.25, 0.4, 0.9]], dtype=torch.float64)
BEST = torch.tensor([[0.1, -0.3, 0.8], [0.5, 0.4, 0.2]], dtype=torch.float64)
SOME = torch.tensor([[True, True, True], [True, True, False]])


def test_rescaled_confidences_are_between_0_and_1() -> None:
    found = confidences(LARGEST, BEST, ALL, SOME, 0.5, "rescaled")
    assert found.words[0, 2] == 1
    assert found.words[0, 1].item() == pytest.approx((1 / (1 + exp(-0.5)) - 0.5) / (1 / (1 + exp(-1)) - 0.5))
    assert found.regions.amax(dim=1).tolist() == [1, 1]
    assert found.regions[0, 0].item() == pytest.approx(exp((0.1 - 0.8) / 0.5))
    assert found.regions[1, 2] == 0
    for value in (found.words, found.regions, found.weights, found.least):
        assert ((value >= 0) & (value <= 1)).all()


def test_raw_confidences_are_of_no_common_scale() -> None:
    best = torch.rand(4, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    words, regions = torch.ones(4, 3, dtype=torch.bool), torch.ones(4, 256, dtype=torch.bool)
    largest = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).expand(4, 3)
    found = confidences(largest, best, words, regions, 0.5, "raw")
    assert found.words[0].tolist() == pytest.approx([0.5, 1 / (1 + exp(-0.5)), 1 / (1 + exp(-1))])
    torch.testing.assert_close(found.regions.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert found.regions.max() < 0.02


def test_quantiles_are_shares_of_all_that_there_are() -> None:
    found = confidences(LARGEST, BEST, ALL, SOME, 0.5, "quantile")
    torch.testing.assert_close(found.words, torch.tensor([[1, 4, 6], [2, 3, 5]], dtype=torch.float64) / 6)
    assert found.regions[1, 2] == 0
    assert sorted(found.regions[SOME].tolist()) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_pairs_weight_is_the_root_of_its_confidences_product() -> None:
    sure = Confidences(torch.tensor([[0.25, 1.0]]), torch.tensor([[0.36, 0.04]]))
    torch.testing.assert_close(sure.weights, torch.tensor([[[0.3, 0.1], [0.6, 0.2]]]))
    torch.testing.assert_close(sure.least, torch.tensor([[[0.25, 0.04], [0.36, 0.04]]]))


def test_thresholds_stay_in_bounds_and_in_order() -> None:
    chance = torch.Generator().manual_seed(0)
    for rate in (0.01, 0.5, 1.0):
        thresholds = Thresholds(0.5, 0.2)
        for _ in range(60):
            weights = torch.rand(50, generator=chance) ** 8
            noise = torch.rand(50, generator=chance) < torch.rand((), generator=chance)
            thresholds.follow(weights, noise, rate, rate)
            positive, negative = float(thresholds.positive), float(thresholds.negative)
            assert 0.05 - 1e-6 <= negative <= positive <= 0.95


def test_positive_threshold_goes_to_a_constant_confidence_geometrically() -> None:
    thresholds = Thresholds(0.5, 0.2).double()
    for step in range(1, 30):
        thresholds.follow(torch.full((4,), 0.8).double(), torch.tensor([True, False, False, False]), 0.1, 0.1)
        assert float(thresholds.positive) == pytest.approx(0.8 - 0.3 * 0.9**step, abs=1e-6)
        assert float(thresholds.negative) == pytest.approx(max(0.05, 0.25 - 0.05 * 1.1**step), abs=1e-6)


def test_thresholds_stay_where_no_pair_was_considered() -> None:
    thresholds = Thresholds(0.5, 0.2)
    thresholds.follow(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 1.0, 1.0)
    assert (float(thresholds.positive), float(thresholds.negative)) == pytest.approx((0.5, 0.2))


@pytest.mark.parametrize("random", [True, False])
def test_others_are_regions_that_a_word_has_nothing_to_do_with(random: bool) -> None:
    related = torch.zeros(2, 3, 6, dtype=torch.bool)
    related[:, 0, :4] = related[1, 1] = True
    regions = torch.ones(2, 6, dtype=torch.bool)
    regions[0, 5] = False
    torch.manual_seed(0)
    found = other_regions(related, regions, 2, random=random)
    assert not (found & (related | ~regions[:, None])).any()
    assert found.sum(dim=2).tolist() == [[1, 2, 2], [2, 0, 2]]
    if not random:
        assert found[0, 2].nonzero()[:, 0].tolist() == [0, 1]
    drawn = sum(other_regions(related, regions, 2, random=True).int() for _ in range(60))
    assert (drawn[~(related | ~regions[:, None])] > 0).all()


def one_pair(cosine: float, other: float, weight: float = 1.0) -> tuple[Tensor, Pairs, Tensor]:
    """A word with one positive region and a random negative one."""
    cosines = torch.tensor([[[cosine, other]]], dtype=torch.float64, requires_grad=True)
    positive = torch.tensor([[[True, False]]])
    weights = torch.full((1, 1, 2), weight, dtype=torch.float64)
    pairs = Pairs(positive, torch.zeros_like(positive), weights)
    return cosines, pairs, powers(cosines, 0.5)[:, :, 1:]


def test_one_negative_gives_the_contrast_of_two_classes() -> None:
    cosines, pairs, others = one_pair(0.6, -0.1)
    found = confident_contrast(cosines, pairs, others, 0.5, weights_inside_log=False)
    share = exp(0.6 / 0.5) / (exp(0.6 / 0.5) + exp(-0.1 / 0.5))
    assert found.item() == pytest.approx(-log(share))
    gradient = torch.autograd.grad(found, cosines)[0].flatten().tolist()
    assert gradient == pytest.approx([(share - 1) / 0.5, (1 - share) / 0.5])


def test_weights_inside_the_logarithm_weight_powers() -> None:
    cosines, pairs, others = one_pair(0.6, -0.1, 0.3)
    inside = confident_contrast(cosines, pairs, others, 0.5, weights_inside_log=True)
    power = 0.3 * exp(0.6 / 0.5)
    assert inside.item() == pytest.approx(-log(power / (power + exp(-0.1 / 0.5))))


def test_weights_outside_make_a_weighted_mean_with_hard_pairs_of_word_and_region() -> None:
    cosines = torch.tensor([[[0.6, -0.1], [0.2, 0.5]]], dtype=torch.float64)
    positive = torch.tensor([[[True, False], [False, True]]])
    hard = torch.tensor([[[False, True], [False, False]]])
    weights = torch.tensor([[[0.9, 0.4], [0.0, 0.3]]], dtype=torch.float64)
    found = confident_contrast(
        cosines, Pairs(positive, hard, weights), torch.zeros(1, 2, 1), 0.5, weights_inside_log=False
    )
    against = 0.4 * exp(-0.1 / 0.5)  # of the first word, and of the second region
    terms = [log((exp(c / 0.5) + against) / exp(c / 0.5)) for c in (0.6, 0.5)]
    assert found.item() == pytest.approx((0.9 * terms[0] + 0.3 * terms[1]) / 1.2)


@pytest.mark.parametrize("inside", [True, False])
def test_without_positive_pairs_the_contrast_is_nothing(inside: bool) -> None:
    cosines, pairs, others = one_pair(0.6, -0.1, 0.0)
    none = Pairs(torch.zeros_like(pairs.positive), pairs.hard, pairs.weights)
    found = confident_contrast(cosines, none, others, 0.5, weights_inside_log=inside)
    assert found.item() == 0
    assert not torch.autograd.grad(found, cosines)[0].any()


def test_confidences_get_no_gradient() -> None:
    largest, best = LARGEST.clone().requires_grad_(), BEST.clone().requires_grad_()
    for mode in ("rescaled", "quantile", "raw"):
        found = confidences(largest, best, ALL, SOME, 0.5, mode)
        assert not found.weights.requires_grad
