"""MDR-CHCA against its equations, step by step and pair by pair (docs/papers/mdr_chca.md)."""

import logging
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import cosine_similarity
from worlds import Floats, binary, token_source, training_data, two_groups

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.lightgcn import LightGCN, LightGCNParams
from mmprep.models.recommenders.mdr_chca import MDRCHCA, MDRCHCAParams
from mmprep.models.training.checkpoint import ResumeFile
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.edges import interaction_graphs

USERS, ITEMS, SIZE, K = 6, 5, 8, 1
# User 5 and item 4 have nothing.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (2, 3), (3, 3), (4, 1)]
TRAIN = binary(PAIRS, (USERS, ITEMS))
BATCH = (torch.tensor([0, 2, 2, 4]), torch.tensor([1, 3, 0, 1]), torch.tensor([4, 2, 1, 0]))
EXACT = {"rtol": 0.0, "atol": 1e-10}
WORDS = [3, 6, 1, 0, 4]  # tokens an item: 3 has no text
PATCHES = [4, 4, 0, 4, 4]  # and 2 no photo
TOY: dict[str, Any] = {"embedding_size": SIZE, "heads": 2, "n_phrases": 2, "k_r": 2, "k_p": 1, "k_s": 2, "n_r": 1}


def vectors(lengths: list[int], dimension: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, dimension)).astype(np.float32) for length in lengths]


RAW = {"words": vectors(WORDS, 5, 0), "patches": vectors(PATCHES, 6, 1)}


def toy(raw: dict[str, list[Floats]] = RAW) -> TrainingData:
    graphs = {f"interaction/{part}": graph for part, graph in interaction_graphs(TRAIN).items()}
    tokens = {part: token_source(each, k=K) for part, each in raw.items()}
    return TrainingData(TRAIN, binary([], TRAIN.shape), graphs=graphs, tokens=tokens)


def made(data: TrainingData | None = None, **params: object) -> MDRCHCA:
    """In double precision, with logits that are not zero."""
    recommender = build(MDRCHCA, data or toy(), MDRCHCAParams(**(TOY | params)), 0).double()
    torch.manual_seed(1)
    for name, parameter in recommender.named_parameters():
        if parameter.ndim < 2 or "convolution" in name or "alignment" in name:
            torch.nn.init.normal_(parameter)
    return recommender.eval()


# What follows restates the equations with loops over items, words and regions.


def behaviour(recommender: MDRCHCA) -> Tensor:
    """Two hops of LightGCN, as f32 as graphs are kept."""
    adjacency = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, item in PAIRS:
        adjacency[user, USERS + item] = adjacency[USERS + item, user] = 1
    degree = adjacency.sum(axis=1)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    hop = torch.from_numpy((adjacency * scale[:, None] * scale).astype(np.float32)).double()
    first = torch.cat([recommender.users, recommender.items])
    return (first + hop @ first + hop @ hop @ first) / 3


def graph_within(raw: Floats) -> Tensor:
    """D^-1/2 A D^-1/2 of the K nearest by cosine, symmetric, with self loops."""
    n = len(raw)
    wide = raw.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    adjacency = np.eye(n)
    for source in range(n):
        others = [target for target in np.argsort(-(unit @ unit[source])) if target != source]
        for target in others[:K]:
            adjacency[source, target] = adjacency[target, source] = 1
    degree = adjacency.sum(axis=1)
    return torch.from_numpy(adjacency / np.sqrt(np.outer(degree, degree)))


def encoded(recommender: MDRCHCA, part: str, item: int, raw: dict[str, list[Floats]] = RAW) -> Tensor:
    """One item's denoised tokens or patches, [length, d]."""
    encoder = getattr(recommender, part)
    given = raw[part][item]
    graph = torch.eye(1).double()
    hidden = encoder.input.missing
    if len(given):
        graph = graph_within(given)
        hidden = torch.from_numpy(given).double() @ encoder.input.projection.weight.T
    for layer in encoder.convolution.layers:
        hidden = torch.clamp(graph @ hidden @ layer.weight.T, min=0)
    if encoder.denoising is None:
        return hidden
    share = 1 / (1 + torch.exp(-encoder.denoising.kept))
    logits = torch.exp(hidden @ hidden.T / SIZE**0.5)
    return share * hidden + (1 - share) * (logits / logits.sum(dim=1, keepdim=True)) @ hidden


def phrase_of(word: int, words: int, most: int) -> int:
    return word * min(most, words) // words


def kept_weights(attention: Any, seeing: Tensor, seen: Tensor, params: MDRCHCAParams) -> Tensor:  # noqa: ANN401
    """One vector's weights of those that it may see: mean over heads, the k_s largest, sum 1."""
    query, keys = attention.query.weight @ seeing, seen @ attention.key.weight.T
    size = SIZE // params.heads
    heads = []
    for head in range(params.heads):
        part = slice(head * size, (head + 1) * size)
        power = torch.exp(keys[:, part] @ query[part] / size**0.5)
        heads.append(power / power.sum())
    mean = sum(heads[1:], heads[0]) / params.heads
    most = len(mean) if params.align == "full" else params.k_s
    order = sorted(range(len(mean)), key=lambda place: -float(mean[place].detach()))[:most]
    kept = torch.stack([mean[place] if place in order else mean[place] * 0 for place in range(len(mean))])
    return kept / kept.sum()


class Item:
    """One item, aligned."""

    def __init__(self, recommender: MDRCHCA, item: int, raw: dict[str, list[Floats]] = RAW) -> None:
        params = recommender.params
        words, patches = (encoded(recommender, part, item, raw) for part in ("words", "patches"))
        self.words, self.patches = words, patches
        phrases = [phrase_of(word, len(words), params.n_phrases) for word in range(len(words))]
        means = [
            torch.stack([words[w] for w in range(len(words)) if phrases[w] == phrase]).mean(dim=0)
            for phrase in range(max(phrases) + 1)
        ]
        cosines = torch.stack(
            [torch.stack([cosine_similarity(mean, patch, dim=0) for patch in patches]) for mean in means]
        ).detach()
        self.best = cosines.max(dim=0).values
        k_r, k_p = (len(patches), len(means)) if params.align == "full" else (params.k_r, params.k_p)
        regions = [row.argsort(descending=True)[:k_r].tolist() for row in cosines]
        of_regions = [column.argsort(descending=True)[:k_p].tolist() for column in cosines.T]
        self.related = torch.zeros(len(words), len(patches), dtype=torch.bool)
        self.weights = torch.zeros(len(words), len(patches)).double()
        attention = recommender.alignment.of_words
        both = attention.output.weight @ attention.value.weight
        seen_by_words = []
        for w in range(len(words)):
            chosen = regions[phrases[w]]
            weights = kept_weights(attention, words[w], patches[chosen], params)
            self.related[w, chosen] = True
            self.weights[w, chosen] = weights.detach()
            seen_by_words.append(sum(weights[at] * (both @ patches[p]) for at, p in enumerate(chosen)))
        self.seen_by_words = torch.stack(seen_by_words)
        attention = recommender.alignment.of_patches
        both = attention.output.weight @ attention.value.weight
        seen_by_patches = []
        for p in range(len(patches)):
            chosen = [w for w in range(len(words)) if phrases[w] in of_regions[p]]
            weights = kept_weights(attention, patches[p], words[chosen], params)
            seen_by_patches.append(sum(weights[at] * (both @ words[w]) for at, w in enumerate(chosen)))
        self.seen_by_patches = torch.stack(seen_by_patches)
        share = torch.sigmoid(recommender.fusion.logit)
        self.content = share * self.seen_by_words.mean(dim=0) + (1 - share) * self.seen_by_patches.mean(dim=0)


def ranks(values: list[list[float]]) -> list[list[float]]:
    """Share of all values that are not larger."""
    known = [value for row in values for value in row]
    return [[sum(other <= value for other in known) / len(known) for value in row] for row in values]


def confidence_of(params: MDRCHCAParams, items: list[Item], mode: str) -> tuple[list[list[float]], list[list[float]]]:
    """Confidences of some items' words and regions."""
    words = [[1 / (1 + exp(-float(row.max()))) for row in item.weights] for item in items]
    powers = [torch.exp(item.best / params.tau_conf) for item in items]
    regions = [(power / power.sum()).tolist() for power in powers]
    if mode == "rescaled":
        words = [[(word - 0.5) / (1 / (1 + exp(-1)) - 0.5) for word in row] for row in words]
        regions = [[region / max(row) for region in row] for row in regions]
    if mode == "quantile":
        words, regions = ranks(words), ranks(regions)
    return words, regions


@dataclass
class Pair:
    """A word and a region that have an attention weight."""

    item: int
    word: int
    region: int
    weight: float
    positive: bool
    hard: bool
    least: float


def pairs_of(recommender: MDRCHCA, items: list[Item]) -> list[Pair]:
    params = recommender.params
    above, below = float(recommender.contrast.thresholds.positive), float(recommender.contrast.thresholds.negative)
    words, regions = confidence_of(params, items, params.threshold_mode)
    pairs = []
    for number, item in enumerate(items):
        for w, p in item.weights.nonzero().tolist():
            word, region = words[number][w], regions[number][p]
            both, either = word > above and region > above, word < below or region < below
            if params.confidence == "none":
                pairs.append(Pair(number, w, p, 1.0, positive=True, hard=False, least=1.0))
            else:
                pairs.append(Pair(number, w, p, (word * region) ** 0.5, both, either, min(word, region)))
    return pairs


def random_regions(params: MDRCHCAParams, items: list[Item], number: int, word: int) -> list[tuple[int, int]]:
    """Item and region of a word's random negatives, which without training are the first ones, or spread evenly."""
    if params.rand_scope == "item" and params.align != "full":
        unrelated = (~items[number].related[word]).nonzero()[:, 0].tolist()
        return [(number, region) for region in unrelated[: params.n_r]]
    spread = [(turn + 0.5) / params.n_r for turn in range(params.n_r)]
    others = [(number + 1 + int(part * (len(items) - 1))) % len(items) for part in spread]
    return [(other, int(part * len(items[other].patches))) for part, other in zip(spread, others, strict=True)]


def contrast(recommender: MDRCHCA, items: list[Item]) -> tuple[Tensor, dict[str, float]]:
    """L_cc of some items, pair by pair, and the shares of their pairs."""
    params = recommender.params
    total, weight_of_all = torch.zeros(()).double(), 0.0
    pairs = pairs_of(recommender, items)

    def power(item: int, word: int, of: int, region: int) -> Tensor:
        compared = items[item].seen_by_words if params.cl_on_aligned else items[item].words
        return torch.exp(cosine_similarity(compared[word], items[of].patches[region], dim=0) / params.tau_cl)

    for pair in pairs:
        if not pair.positive:
            continue
        against = [
            hard.weight * power(hard.item, hard.word, hard.item, hard.region)
            for hard in pairs
            if hard.hard and hard.item == pair.item and (hard.word == pair.word or hard.region == pair.region)
        ]
        others = random_regions(params, items, pair.item, pair.word)
        against += [power(pair.item, pair.word, *other) for other in others]
        own = power(pair.item, pair.word, pair.item, pair.region)
        inside, outside = (pair.weight, 1.0) if params.weights_inside_log else (1.0, pair.weight)
        total = total - outside * torch.log(inside * own / (inside * own + sum(against)))
        weight_of_all += outside
    words = [(number, word) for number, item in enumerate(items) for word in range(len(item.words))]
    drawn = sum(len(random_regions(params, items, *word)) for word in words)
    shares = {
        "positive_share": sum(pair.positive for pair in pairs) / len(pairs),
        "hard_share": sum(pair.hard for pair in pairs) / len(pairs),
        "random_share": drawn / (params.n_r * len(words)),
    }
    return total / weight_of_all, shares


def dense_losses(recommender: MDRCHCA) -> dict[str, Tensor]:
    nodes, items = behaviour(recommender), [Item(recommender, item) for item in range(ITEMS)]
    final = [nodes[USERS + number] + item.content for number, item in enumerate(items)]
    ranking, norm = [], []
    for user, positive, negative in zip(*(each.tolist() for each in BATCH), strict=True):
        lead = nodes[user] @ final[positive] - nodes[user] @ final[negative]
        ranking.append(-torch.log(1 / (1 + torch.exp(-lead))))
        norm += [vector @ vector / 2 for vector in (nodes[user], final[positive], final[negative])]
    return {
        "bpr": torch.stack(ranking).mean(),
        "norm": recommender.params.regularisation * torch.stack(norm).sum() / len(ranking),
        "contrast": recommender.params.lambda_cc * contrast(recommender, items)[0],
    }


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"self_attention": False, "token_layers": 2},
        {"k_p": 2, "k_s": 1, "n_phrases": 3},
        {"k_r": 9, "k_s": 9, "k_p": 9, "heads": 1},
        {"token_layers": 0},
    ],
    ids=str,
)
def test_embeddings_are_those_of_the_equations(params: dict[str, object]) -> None:
    recommender = made(**params)
    nodes = behaviour(recommender)
    content = torch.stack([Item(recommender, item).content for item in range(ITEMS)])
    users, items = recommender.embeddings()
    torch.testing.assert_close(users, nodes[:USERS], **EXACT)
    torch.testing.assert_close(items, nodes[USERS:] + content, **EXACT)


# Thresholds at which some pairs are positive and others hard.
MIXED = {"theta_plus": 0.6, "theta_minus": 0.55, "regularisation": 0.3, "lambda_cc": 0.7}
RESCALED = {"threshold_mode": "rescaled"}
# On which single words have all the confidence: raw confidences are no more than .73.
RAW_SCALE = {"threshold_mode": "raw", "theta_plus": 0.6, "theta_minus": 0.3}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"cl_on_aligned": False},
        {"tau_cl": 0.3, "tau_conf": 0.8, "n_r": 2},
        {"weights_inside_log": True},
        {"rand_scope": "batch", "n_r": 5},
        {"align": "full", "n_r": 3},
        {"confidence": "none"},
        RESCALED,
        {**RESCALED, "cl_on_aligned": False},
        {**RESCALED, "tau_cl": 0.3, "tau_conf": 0.8, "n_r": 2},
        {**RESCALED, "weights_inside_log": True, "rand_scope": "batch"},
        RAW_SCALE,
    ],
    ids=str,
)
def test_losses_and_gradients_are_those_of_the_equations(params: dict[str, object]) -> None:
    recommender = made(**(MIXED | params))
    found, expected = recommender.losses(*BATCH), dense_losses(recommender)
    torch.testing.assert_close(found, expected, **EXACT)
    gradients = [
        torch.autograd.grad(sum(terms.values()), list(recommender.parameters())) for terms in (found, expected)
    ]
    torch.testing.assert_close(*gradients, **EXACT)
    _, shares = contrast(recommender, [Item(recommender, item) for item in range(ITEMS)])
    assert {name: float(recommender.observed[name]) for name in shares} == pytest.approx(shares, abs=1e-6)
    assert shares["positive_share"] > 0


@pytest.mark.parametrize("params", [{}, RESCALED])
def test_toy_has_positive_pairs_hard_ones_and_others(params: dict[str, object]) -> None:
    pairs = (recommender := made(**MIXED, **params)).contrast.pairs(recommender.aligned(torch.arange(ITEMS)))
    assert pairs.positive.any()
    assert pairs.hard.any()
    assert not (pairs.positive & pairs.hard).any()


def test_only_connections_are_positive_or_hard() -> None:
    recommender = made(theta_plus=0.9, theta_minus=0.9, k_s=1)
    aligned = recommender.aligned(torch.arange(ITEMS))
    pairs, least = recommender.contrast.pairs(aligned), recommender.contrast.confidences(aligned).least
    considered = (aligned.dense_weights > 0) & aligned.words_there[:, :, None]
    assert ((least > 0) & (least < 0.9) & ~considered).any()
    assert torch.equal(pairs.hard, considered & (least < 0.9))
    assert torch.equal(pairs.positive, considered & (least > 0.9))


def test_contrast_trains_neither_users_nor_free_items_but_the_attention() -> None:
    recommender = made(**MIXED)
    term = recommender.losses(*BATCH)["contrast"]
    named = dict(recommender.named_parameters())
    found = dict(zip(named, torch.autograd.grad(term, list(named.values()), allow_unused=True), strict=True))
    assert found["users"] is None and found["items"] is None
    assert found["alignment.of_words.query.weight"].count_nonzero()


def test_without_contrast_and_content_it_is_lightgcn() -> None:
    recommender = made(lambda_cc=0)
    for attention in (recommender.alignment.of_words, recommender.alignment.of_patches):
        torch.nn.init.zeros_(attention.output.weight)
    other = build(LightGCN, toy(), LightGCNParams(embedding_size=SIZE), 1).double().eval()
    with torch.no_grad():
        other.load_state_dict({name: recommender.state_dict()[name] for name in other.state_dict()})
    torch.testing.assert_close(recommender.embeddings(), other.embeddings(), **EXACT)
    assert recommender.losses(*BATCH).keys() == {"bpr", "norm"}
    torch.testing.assert_close(recommender.losses(*BATCH)["bpr"], other.losses(*BATCH)["bpr"], **EXACT)


@pytest.mark.parametrize("pool", ["mean", "conf"])
def test_items_of_a_batch_are_encoded_as_among_all(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = made(pool=pool)
    expected = recommender.embeddings()
    for chunk in (1, 2):
        monkeypatch.setattr("mmprep.models.recommenders.mdr_chca.CHUNK_ITEMS", chunk)
        torch.testing.assert_close(recommender.embeddings(), expected, **EXACT)


def test_longer_neighbours_and_more_padding_change_nothing() -> None:
    short, long = made(n_tokens=6), made(n_tokens=40)
    torch.testing.assert_close(long.embeddings(), short.embeddings(), **EXACT)
    torch.testing.assert_close(long.losses(*BATCH), short.losses(*BATCH), **EXACT)


def test_order_of_patches_changes_nothing() -> None:
    order = np.array([2, 0, 3, 1])
    other = {"words": RAW["words"], "patches": [each[order] if len(each) else each for each in RAW["patches"]]}
    torch.testing.assert_close(made(toy(other)).embeddings(), made().embeddings(), **EXACT)


def test_order_of_tokens_matters_by_phrase_alone() -> None:
    def swapped(first: int, second: int) -> Tensor:
        words = [each.copy() for each in RAW["words"]]
        words[1][[first, second]] = words[1][[second, first]]
        return made(toy({**RAW, "words": words})).embeddings()[1]

    usual = made().embeddings()[1]
    torch.testing.assert_close(swapped(0, 2), usual, **EXACT)
    assert not torch.allclose(swapped(0, 3)[1], usual[1])


@pytest.mark.parametrize("params", [{}, {"align": "full"}, {"graph_level": "item", "item_k": 2}, {"pool": "conf"}])
def test_item_without_text_or_photo_is_finite(params: dict[str, object]) -> None:
    recommender = made(**params).train()
    torch.stack(list(recommender.losses(*BATCH).values())).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in recommender.parameters())
    for part in ("words", "patches"):
        assert getattr(recommender, part).input.missing.grad.count_nonzero()
    assert all(table.isfinite().all() for table in recommender.eval().embeddings())


def test_full_alignment_is_that_without_limits() -> None:
    limits = {"k_r": 4, "k_s": 6, "k_p": 2}
    first, second = made(align="full", **MIXED), made(**limits, **MIXED)
    torch.testing.assert_close(first.embeddings(), second.embeddings(), **EXACT)
    torch.testing.assert_close(first.losses(*BATCH), second.losses(*BATCH), **EXACT)


def test_content_alone_ranks_where_the_paper_is_taken_at_its_word() -> None:
    recommender, literal = made(), made(use_item_id=False)
    difference = recommender.embeddings()[1] - literal.embeddings()[1]
    torch.testing.assert_close(difference, behaviour(recommender)[USERS:], **EXACT)


@pytest.mark.parametrize(("fusion", "shape"), [("scalar", ()), ("vector", (SIZE,)), ("gate", None)])
def test_text_and_photo_are_mixed_by_a_number_a_vector_or_a_gate(fusion: str, shape: tuple[int, ...] | None) -> None:
    recommender = made(fusion_w=fusion, use_item_id=False)
    items = [Item(made(), item) for item in range(ITEMS)]
    text, photo = (
        torch.stack([getattr(item, name).mean(dim=0) for item in items])
        for name in ("seen_by_words", "seen_by_patches")
    )
    if shape is None:
        assert recommender.fusion.gate is not None
        share = torch.sigmoid(torch.cat([text, photo], dim=1) @ recommender.fusion.gate.weight.T)
        share = torch.sigmoid(torch.logit(share) + recommender.fusion.gate.bias)
    else:
        assert recommender.fusion.logit is not None
        assert recommender.fusion.logit.shape == shape
        share = torch.sigmoid(recommender.fusion.logit)
    words = {name: value for name, value in made().state_dict().items() if not name.startswith("fusion")}
    recommender.load_state_dict(words, strict=False)
    torch.testing.assert_close(recommender.embeddings()[1], share * text + (1 - share) * photo, **EXACT)


@pytest.mark.parametrize(
    ("mode", "scale"), [("quantile", "rescaled"), ("rescaled", "rescaled"), ("raw", "raw")], ids=lambda name: name
)
def test_pooling_by_confidence_weights_words_and_regions(mode: str, scale: str) -> None:
    recommender = made(pool="conf", use_item_id=False, threshold_mode=mode)
    _, found = recommender.embeddings()
    items = [Item(recommender, item) for item in range(ITEMS)]
    words, regions = confidence_of(recommender.params, items, scale)
    share = torch.sigmoid(recommender.fusion.logit)
    for number, item in enumerate(items):
        text, photo = (
            torch.tensor(weights[number], dtype=torch.float64) @ rows / sum(weights[number])
            for weights, rows in ((words, item.seen_by_words), (regions, item.seen_by_patches))
        )
        torch.testing.assert_close(found[number], share * text + (1 - share) * photo, **EXACT)


def test_residual_keeps_a_words_own_vector() -> None:
    plain, kept = (made(residual=switch).aligned(torch.arange(ITEMS)) for switch in (False, True))
    torch.testing.assert_close(kept.seen_by_words, plain.seen_by_words + plain.words, **EXACT)
    torch.testing.assert_close(kept.seen_by_patches, plain.seen_by_patches + plain.patches, **EXACT)


def test_without_confidence_all_connections_are_positive_and_alike() -> None:
    recommender = made(confidence="none").train()
    aligned = recommender.aligned(torch.arange(ITEMS))
    pairs = recommender.contrast.pairs(aligned)
    expected = (aligned.dense_weights > 0) & aligned.words_there[:, :, None]
    assert torch.equal(pairs.positive, expected)
    assert torch.equal(pairs.weights > 0, expected)
    assert not pairs.hard.any()
    assert (
        float(recommender.contrast.thresholds.positive),
        float(recommender.contrast.thresholds.negative),
    ) == pytest.approx((0.5, 0.2))


def test_graph_of_items_adds_what_similar_items_have_in_common() -> None:
    recommender = made(graph_level="item", item_k=2, self_attention=False, token_layers=0)
    means = np.stack([each.mean(axis=0) if len(each) else np.zeros(5, np.float32) for each in RAW["words"]])
    lengths = np.linalg.norm(means, axis=1)
    unit = means / np.where(lengths > 0, lengths, 1)[:, None]
    graph = np.zeros((ITEMS, ITEMS))
    for item in np.flatnonzero(lengths):
        for other in np.argsort(-(unit @ unit[item]) + 9 * (lengths == 0))[:2]:
            graph[item, other] = max(0.0, unit[item] @ unit[other])
    sums = graph.sum(axis=1)
    graph = graph / np.sqrt(np.outer(sums, sums), where=np.outer(sums, sums) > 0, out=np.ones_like(graph))
    weight = recommender.words.input.projection.weight
    common = torch.from_numpy(graph) @ torch.from_numpy(means).double() @ weight.T
    found, there = recommender.words(torch.arange(ITEMS))
    assert not found[~there].any()
    for item, given in enumerate(RAW["words"]):
        own = torch.from_numpy(given).double() @ weight.T if len(given) else recommender.words.input.missing
        torch.testing.assert_close(found[item][there[item]], own + common[item], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["quantile", "rescaled"])
@pytest.mark.parametrize("follows", ["least", "weight"])
def test_thresholds_move_in_training_alone_and_belong_to_the_state(mode: str, follows: str) -> None:
    recommender = made(**MIXED, threshold_mode=mode, theta_follows=follows)
    names = ("contrast.thresholds.positive", "contrast.thresholds.negative")
    recommender.losses(*BATCH)
    assert [float(recommender.state_dict()[name]) for name in names] == pytest.approx([0.6, 0.55])
    pairs = pairs_of(recommender, [Item(recommender, item) for item in range(ITEMS)])
    mean = sum(getattr(pair, follows) for pair in pairs) / len(pairs)
    noise = sum(pair.hard for pair in pairs) / len(pairs)
    recommender.train().losses(*BATCH)
    expected = [0.6 + 0.01 * (mean - 0.6), 0.55 - 0.01 * (noise - 0.55)]
    assert [float(recommender.state_dict()[name]) for name in names] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("most", [1, 3, None])
def test_a_training_step_contrasts_at_most_so_many_items(most: int | None) -> None:
    recommender = made(cc_items_per_step=most).train()
    aligned = recommender.aligned(torch.arange(ITEMS))
    assert len(recommender.contrast.contrasted(aligned).words) == (most or ITEMS)
    assert recommender.eval().contrast.contrasted(aligned) is aligned
    torch.testing.assert_close(aligned.take(torch.tensor([3, 1])).related, aligned.related[[3, 1]])


def test_negatives_of_the_batch_are_regions_of_other_items() -> None:
    recommender = made(rand_scope="batch", n_r=40)
    aligned = recommender.aligned(torch.arange(ITEMS))
    marks = torch.nn.functional.one_hot(torch.arange(ITEMS), ITEMS).double()[:, None].expand(-1, 4, -1)
    words = torch.eye(ITEMS).double().expand(ITEMS, -1, -1)  # word w of each item is as the regions of item w
    there = aligned.patches_there
    found = recommender.contrast.powers_of_other_items(words, marks * there[..., None], there)[:, :, 0]
    least = 40 * exp(-1 / 0.5)  # a cosine of 0 with all
    assert (found.diagonal() - least).abs().max() < 1e-9
    assert (found[~torch.eye(ITEMS, dtype=torch.bool)] > least + 0.5).all()
    alone = recommender.contrast.powers_of_other_items(words[:1], marks[:1], there[:1])
    assert alone.shape == (1, ITEMS, 1)
    assert not alone.any()


def trained(epochs: int, file: ResumeFile, pretrain: int) -> MDRCHCA:
    world = two_groups()
    data = training_data("mdr_chca", world.train, world.val, world.features)
    section = MDRCHCAParams(embedding_size=8, cc_items_per_step=20, pretrain_epochs=pretrain)
    recommender = build(MDRCHCA, data, section, 0)
    assert isinstance(recommender, MDRCHCA)
    fit(
        recommender,
        data,
        TrainParams(batch_size=200, max_epochs=epochs, checkpoint_every=1),
        LearningRateDecay(0.01),
        resume_file=file,
    )
    return recommender


@pytest.mark.parametrize("pretrain", [0, 2])
def test_unfinished_training_ends_as_one_that_was_not_interrupted(tmp_path: Path, pretrain: int) -> None:
    whole = trained(4, ResumeFile(tmp_path / "a", {}), pretrain)
    broken = ResumeFile(tmp_path / "b", {})
    trained(3, broken, pretrain)
    states = [each.state_dict() for each in (whole, trained(4, broken, pretrain))]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert float(states[0]["contrast.thresholds.positive"]) != 0.5


def test_training_observes_how_sharp_attention_is_and_where_the_thresholds_stand() -> None:
    recommender = made(**MIXED).train()
    recommender.losses(*BATCH)
    first = dict(recommender.observed)
    aligned = recommender.aligned(torch.cat(BATCH[1:]).unique())
    largest = [
        row.max() for item, there in zip(aligned.weights, aligned.words_there, strict=True) for row in item[there]
    ]
    torch.testing.assert_close(first["largest_attention"], torch.stack(largest).mean().detach(), **EXACT)
    shares = {"positive_share", "hard_share", "random_share"}
    assert first.keys() == {"largest_attention", "theta_positive", "theta_negative"} | shares
    given = recommender.params.theta_plus, recommender.params.theta_minus
    assert (float(first["theta_positive"]), float(first["theta_negative"])) == pytest.approx(given)
    recommender.losses(*BATCH)
    assert recommender.observed["theta_positive"] != first["theta_positive"]


def test_content_may_be_trained_first_and_embeddings_then() -> None:
    recommender = made(pretrain_epochs=1, **MIXED).train()

    def trained_ones() -> set[str]:
        recommender.begin_epoch()
        terms = recommender.losses(*BATCH)
        assert terms.keys() == {"bpr", "norm", "contrast"}
        recommender.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        return {name.split(".")[0] for name, value in recommender.named_parameters() if value.grad is not None}

    assert trained_ones() == {"words", "patches", "alignment"}
    assert trained_ones() == {"users", "items"}
    whole = made(**MIXED)
    whole.load_state_dict(recommender.state_dict())
    torch.testing.assert_close(recommender.losses(*BATCH)["bpr"], whole.losses(*BATCH)["bpr"], **EXACT)


def test_defaults_are_the_papers_where_it_says_any() -> None:
    params = MDRCHCAParams()
    assert (params.embedding_size, params.learning_rate, params.k_r, params.k_s) == (64, 1e-3, 10, 5)
    assert (params.tau_conf, params.tau_cl, params.theta_plus, params.theta_minus) == (0.5, 0.5, 0.5, 0.2)
    assert MDRCHCAParams(**MDRCHCAParams.presets["paper"]) == params


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"heads": 3}, "a divisor of embedding_size, 64"),
        ({"embedding_size": 6}, "a divisor of embedding_size, 6"),
        ({"theta_minus": 0.6}, "at most theta_plus, 0.5"),
        ({"theta_plus": 0.1}, "at most theta_plus, 0.1"),
        ({"tau_cl": 0.01}, "greater than or equal to 0.05"),
        ({"graph_level": "both"}, "graph_level"),
        ({"k_r": 0}, "k_r"),
        ({"lambda_cc": 0, "pretrain_epochs": 3}, "0, as lambda_cc is"),
    ],
)
def test_impossible_parameters_are_refused(mistake: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MDRCHCAParams(**mistake)


def test_patches_that_do_not_pool_are_refused() -> None:
    with pytest.raises(DataError, match="found 4 patches a photo, which can be pooled to 4, 1, not to 49"):
        made(n_patches=49)
    assert made(n_patches=1).patches(torch.arange(ITEMS))[0].shape == (ITEMS, 1, SIZE)


# At the token counts of MiniLM (59 is about the median of the sample's texts) and the patches of ViT.


def realistic(tokens: int, patches: int, items: int = 12) -> TrainingData:
    """Tokens of a text and patches of a photo that resemble each other, as encoders' do."""
    rng = np.random.default_rng(tokens * patches)

    def alike(length: int, dimension: int) -> list[Floats]:
        common = rng.normal(size=(items, 1, dimension))
        return list((common + 0.5 * rng.normal(size=(items, length, dimension))).astype(np.float32))

    train = binary([(user, item) for user in range(8) for item in range(items) if (user + item) % 3], (8, items))
    graphs = {f"interaction/{part}": graph for part, graph in interaction_graphs(train).items()}
    raw = {"words": alike(tokens, 384), "patches": alike(patches, 768)}
    sources = {part: token_source(each, k=8) for part, each in raw.items()}
    return TrainingData(train, binary([], train.shape), graphs=graphs, tokens=sources)


def shares_of_steps(data: TrainingData, steps: int, **params: object) -> list[dict[str, float]]:
    """Shares of pairs in the first steps of a training."""
    recommender = build(MDRCHCA, data, MDRCHCAParams(**params), 0).train()
    adam = torch.optim.Adam(recommender.parameters(), lr=1e-3)
    users, positives = (torch.from_numpy(each).long() for each in data.train.nonzero())
    shares = []
    for step in range(steps):
        torch.manual_seed(step)
        adam.zero_grad()
        torch.stack(list(recommender.losses(users, positives, positives.roll(1)).values())).sum().backward()
        adam.step()
        shares.append({name: float(value) for name, value in recommender.observed.items() if name.endswith("_share")})
    return shares


@pytest.mark.parametrize("align", ["hierarchical", "full"])
@pytest.mark.parametrize("patches", [49, 196])
@pytest.mark.parametrize("tokens", [32, 59])
def test_contrast_has_pairs_of_all_kinds_from_the_first_step(tokens: int, patches: int, align: str) -> None:
    steps = shares_of_steps(realistic(tokens, patches), 8, n_tokens=tokens, align=align)
    for shares in steps:
        assert 0.2 < shares["positive_share"] < 0.7
        assert 0.02 < shares["hard_share"] < 0.7
        assert shares["random_share"] == 1


@pytest.mark.parametrize("patches", [49, 196])
def test_contrast_on_the_printed_scale_selects_nothing_at_first(patches: int) -> None:
    printed = {"threshold_mode": "rescaled", "theta_follows": "weight"}
    assert all(shares["positive_share"] < 0.01 for shares in shares_of_steps(realistic(32, patches), 6, **printed))


def test_threshold_of_a_rescaled_confidence_may_follow_what_is_compared_with_it() -> None:
    data, printed = realistic(32, 49), {"threshold_mode": "rescaled", "eta_plus": 0.5}
    assert shares_of_steps(data, 7, **printed)[-1]["positive_share"] > 0.1
    assert shares_of_steps(data, 7, **printed, theta_follows="weight")[-1]["positive_share"] < 0.01


def test_contrast_without_positives_is_warned_of_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    world = two_groups()
    data = training_data("mdr_chca", world.train, world.val, world.features)

    def warnings(epochs: int, file: ResumeFile | None = None, **params: object) -> list[str]:
        caplog.clear()
        recommender = build(MDRCHCA, data, MDRCHCAParams(embedding_size=8, k_r=2, **params), 0)
        train = TrainParams(batch_size=200, max_epochs=epochs, checkpoint_every=1)
        with caplog.at_level(logging.WARNING):
            fit(recommender, data, train, LearningRateDecay(0.01), resume_file=file)
        return caplog.messages

    fixed = {"eta_plus": 0.0, "theta_plus": 0.95, "threshold_mode": "raw"}
    (warning,) = warnings(4, **fixed)
    expected = "found 0.00% of the pairs of words and regions positive, expected at least 1%"
    assert warning.startswith(f"epoch 1: {expected}")
    assert "threshold_mode: quantile" in warning
    file = ResumeFile(tmp_path / "state", {})
    assert len(warnings(2, file, **fixed)) == 1
    assert warnings(4, file, **fixed) == []
    assert warnings(4) == []
    assert warnings(2, lambda_cc=0.0, **fixed) == []
