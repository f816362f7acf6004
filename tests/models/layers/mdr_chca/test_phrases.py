"""Phrases and what they choose (docs/papers/mdr_chca.md#phrases)."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmprep.models.layers.mdr_chca.phrases import coarse_alignment, into_phrases


def some_tokens(lengths: list[int], size: int = 3) -> tuple[Tensor, Tensor]:
    there = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*there.shape, size, generator=generator, dtype=torch.float64) * there[..., None], there


@pytest.mark.parametrize("most", [1, 3, 4, 9])
def test_phrases_are_contiguous_alike_in_length_and_hold_every_token(most: int) -> None:
    lengths = [1, 2, 3, 4, 7, 8]
    tokens, there = some_tokens(lengths)
    phrases = into_phrases(tokens, there, most)
    for item, length in enumerate(lengths):
        sizes = phrases.there[item].sum(dim=1)
        assert sizes[sizes > 0].shape == (min(most, length),)
        assert sizes[sizes > 0].max() - sizes[sizes > 0].min() <= 1
        torch.testing.assert_close(phrases.tokens[item][phrases.there[item]], tokens[item, :length])
        of_token = torch.arange(len(sizes)).repeat_interleave(sizes)
        assert of_token.tolist() == [token * min(most, length) // length for token in range(length)]
    assert not phrases.tokens[~phrases.there].any()


def test_as_many_phrases_as_tokens_are_the_tokens() -> None:
    tokens, there = some_tokens([4, 4])
    torch.testing.assert_close(into_phrases(tokens, there, 4).means, tokens)


def test_a_single_phrase_is_the_items_mean() -> None:
    tokens, there = some_tokens([4, 2])
    expected = torch.stack([tokens[0].mean(dim=0), tokens[1, :2].mean(dim=0)])
    torch.testing.assert_close(into_phrases(tokens, there, 1).means[:, 0], expected)


def test_phrases_as_one_hold_all_tokens() -> None:
    tokens, there = some_tokens([5, 3])
    one = into_phrases(tokens, there, 2).as_one()
    assert one.tokens.shape[1] == 1
    torch.testing.assert_close(one.tokens[one.there], tokens[there])


@pytest.mark.parametrize(("k_r", "k_p"), [(1, 1), (3, 2), (9, 9)])
def test_phrases_choose_regions_and_regions_phrases_by_cosine(k_r: int, k_p: int) -> None:
    tokens, there = some_tokens([6, 2])
    patches, patches_there = some_tokens([5, 1])
    phrases = into_phrases(tokens, there, 3)
    coarse = coarse_alignment(phrases, patches, patches_there, k_r, k_p)
    for item, (n_phrases, n_patches) in enumerate([(3, 5), (2, 1)]):
        cosines = normalize(phrases.means[item, :n_phrases], dim=1) @ normalize(patches[item, :n_patches], dim=1).T
        for phrase in range(n_phrases):
            expected = cosines[phrase].argsort(descending=True)[:k_r]
            assert torch.equal(coarse.regions[item, phrase, : len(expected)], expected)
            assert len(set(coarse.regions[item, phrase].tolist())) == min(k_r, 5)
        for patch in range(n_patches):
            chosen = coarse.phrases[item, patch].nonzero()[:, 0]
            assert set(chosen.tolist()) == set(cosines[:, patch].argsort(descending=True)[:k_p].tolist())
        torch.testing.assert_close(coarse.best[item, :n_patches], cosines.max(dim=0).values)


def test_choice_gets_no_gradient() -> None:
    tokens, there = some_tokens([4])
    coarse = coarse_alignment(into_phrases(tokens.requires_grad_(), there, 2), *some_tokens([3]), 1, 1)
    assert not coarse.best.requires_grad
