import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.sparse import csr_array
from torch import Tensor, nn
from worlds import Floats, binary, training_data

from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.recommenders.da_mrs import DAMRS, DAMRSParams, view_graphs
from mmprep.models.training.trainer import build
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.cooccurrence import cooccurrence_graph
from mmprep.pipeline.graphs.params import CooccurrenceParams

USERS, ITEMS, SIZE, K = 8, 9, 4, 3
# User 7 and item 8 have nothing. No two items have the same neighbours, as they would have the same view.
CHANCE = np.random.default_rng(0)
PAIRS = [(u, i) for u, i in np.ndindex(7, 8) if CHANCE.random() < 0.45]
TRAIN = binary(PAIRS, (USERS, ITEMS))
BATCH = (torch.tensor([0, 2, 2, 4]), torch.tensor([1, 3, 0, 1]), torch.tensor([4, 1, 1, 0]))
BACKBONES = ("bpr", "lightgcn", "vbpr")
FEW = {"ai_multi": 2, "ai_single": 3}
OFFICIAL = {"alpha": 1.2, "beta": 1.7, "gamma": 1.3, "regularisation": 0.5, "lambda1": 0.3, "lambda2": 0.2, **FEW}
PAPER = {**DAMRSParams.presets["paper"], "regularisation": 0.5, "lambda1": 0.3, "lambda2": 0.2, **FEW}
EXACT = {"rtol": 0.0, "atol": 1e-10}

every_backbone = pytest.mark.parametrize("backbone", BACKBONES)
both_forms = pytest.mark.parametrize("params", [OFFICIAL, PAPER], ids=["official", "paper"])


def features(*modalities: str) -> dict[str, Floats]:
    rng = np.random.default_rng(8)
    return {m: rng.normal(size=(ITEMS, 3 + place)).astype(np.float32) + 0.3 for place, m in enumerate(modalities)}


def made(given: Mapping[str, Floats], train: csr_array = TRAIN, **params: object) -> DAMRS:
    """In double precision, with embeddings large enough for all losses to tell."""
    data = training_data("da_mrs", train, binary([], train.shape), given, k=K)
    recommender = build(DAMRS, data, DAMRSParams(embedding_size=SIZE, **{**FEW, **params}), 0).double()
    torch.manual_seed(1)
    for parameter in recommender.parameters():
        nn.init.normal_(parameter, std=0.6)
    return recommender


def sym_out(weights: Tensor) -> Tensor:
    """Over the roots of both ends' row sums; as f32, as graphs are kept."""
    sums = weights.sum(dim=1)
    scale = torch.where(sums > 0, sums, torch.ones_like(sums)) ** -0.5
    return (scale[:, None] * weights * scale).float().double()


def consistent_weights(given: Mapping[str, Floats], modality: str, *, masked: bool) -> Tensor:
    """The graph of docs/papers/da_mrs.md#content-graphs, or without the mask."""
    cosines = {}
    for m, vectors in given.items():
        unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        cosines[m] = unit @ unit.T
    agreed = np.all([(c >= c.mean()) & (c > 0) for c in cosines.values()], axis=0)
    kept = np.zeros((ITEMS, ITEMS))
    for row in range(ITEMS):
        there = [j for j in range(ITEMS) if agreed[row, j] or not masked]
        kept[row, sorted(there, key=lambda j, by=cosines[modality][row]: -by[j])[:K]] = 1
    return sym_out(torch.from_numpy(kept))


def common_users() -> Floats:
    """Numbers of common users of pairs of items with two or more."""
    dense = TRAIN.toarray().astype(np.float64)
    common = dense.T @ dense
    np.fill_diagonal(common, 0)
    return np.where(common >= 2, common, 0.0)


def behaviour_weights(*, count: bool, k: int | None = None) -> Tensor:
    """The graph of docs/papers/da_mrs.md#behaviour-graph.

    Each item with itself, and with the k others of most common users, the first ones of equal numbers.
    """
    kept = common_users()
    for row in kept:
        order = sorted(range(ITEMS), key=lambda j, row=row: (-row[j], j))
        row[order[k:] if k is not None else []] = 0
    return sym_out(torch.from_numpy((kept if count else np.sign(kept)) + np.eye(ITEMS)))


def dense_parts(recommender: DAMRS, given: Mapping[str, Floats]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """z of users, h_id of items, and every view, by the equations (docs/papers/da_mrs.md#item-views)."""
    params, values = recommender.params, dict(recommender.named_parameters())
    users, items = values["backbone.users"], values["backbone.items"]
    sources = items
    if params.backbone == "lightgcn":
        adjacency = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
        adjacency[:USERS, USERS:] = torch.from_numpy(TRAIN.toarray())
        ahat = sym_out(adjacency + adjacency.T)
        free = torch.cat([users, items])
        nodes = sum(torch.linalg.matrix_power(ahat, hop) @ free for hop in range(params.layers + 1))
        users, items = torch.split(nodes / (params.layers + 1), [USERS, ITEMS])
    if params.backbone == "vbpr":
        raw = [values.get(f"backbone.features.{m}", torch.from_numpy(given[m]).double()) for m in sorted(given)]
        projected = torch.cat(raw, dim=1) @ values["backbone.projection.weight"].T + values["backbone.projection.bias"]
        items = sources = torch.cat([items, projected], dim=1)
    graphs = [consistent_weights(given, m, masked=params.denoise_graph) for m in sorted(given)]
    graphs.append(behaviour_weights(count=params.iib_weights == "count", k=params.behaviour_k))
    return users, items, [torch.linalg.matrix_power(graph, params.item_layers) @ sources for graph in graphs]


def final(recommender: DAMRS, items: Tensor, views: list[Tensor]) -> Tensor:
    total = items + sum(views) / len(views)
    return total if recommender.params.ti_scale == "sum" else total / 2


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def reliabilities(
    params: DAMRSParams, users: Tensor, items: Tensor, views: list[Tensor], batch: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """f and g of each triple, one by one (docs/papers/da_mrs.md#reliabilities)."""
    official, found = params.dbpr_form == "official", []
    compared = [unit(view) for view in views] if official else views
    below = []
    for user, _, negative in zip(*(each.tolist() for each in batch), strict=True):
        scored = compared if official else [items]
        below.append(torch.stack([sigmoid(users[user] @ view[negative]) for view in scored]).mean())
    yn = torch.stack(below).mean()
    for user, positive, _ in zip(*(each.tolist() for each in batch), strict=True):
        y = torch.stack([users[user] @ view[positive] for view in compared])
        p = sigmoid(y)
        mu = p.mean()
        variance = ((p - mu) ** 2).sum() / (len(p) - 1 if official else len(p))
        f = mu**params.alpha * torch.exp(-variance) ** params.beta
        above = torch.clamp(p.max() - yn, 0, 1) if official else sigmoid(y.max() - yn)
        g = above**params.gamma if mu < yn else torch.zeros_like(mu)
        found.append((f if params.use_f else torch.ones_like(f), g if params.use_g else torch.zeros_like(g)))
    f, g = (torch.stack(each) for each in zip(*found, strict=True))
    return f, g


def ranking_term(recommender: DAMRS, users: Tensor, items: Tensor, views: list[Tensor]) -> Tensor:
    params, t = recommender.params, final(recommender, items, views)
    x = torch.stack([users[u] @ (t[i] - t[j]) for u, i, j in zip(*(each.tolist() for each in BATCH), strict=True)])
    if not params.dbpr:
        return -torch.log(sigmoid(x)).mean()
    f, g = reliabilities(params, users, t, views, BATCH)
    if not params.fg_grad:
        f, g = f.detach(), g.detach()
    if params.dbpr_form == "official":
        return -(f * torch.log(sigmoid(x)) + g * torch.log(sigmoid(-x))).mean()
    return -torch.log(f * sigmoid(x) + g * (1 - sigmoid(x))).mean()


def user_alignment_term(params: DAMRSParams, users: Tensor, items: Tensor, views: list[Tensor]) -> Tensor:
    mixed = sum(views) / len(views)
    found = []
    for user in sorted(set(BATCH[0].tolist())):
        if params.au_form == "paper":
            p, q = (torch.exp(side @ users[user]) for side in (items, mixed))
            p, q = p / p.sum(), q / q.sum()
            found.append((p * torch.log(p / q)).sum() + (q * torch.log(q / p)).sum())
            continue
        for item in sorted(set(torch.cat(BATCH[1:]).tolist())):
            p, q = (sigmoid(users[user] @ unit(side[item])) for side in (items, mixed))
            ways = [a * torch.log(a / b) + (1 - a) * torch.log((1 - a) / (1 - b)) for a, b in ((p, q), (q, p))]
            found.append(ways[0] + ways[1])
    return torch.stack(found).mean()


def item_alignment_term(params: DAMRSParams, views: list[Tensor]) -> Tensor:
    cosines = [unit(view) @ unit(view).T for view in views]
    softmax = [c.detach().softmax(dim=1) for c in cosines]
    rows, found = sorted(set(torch.cat(BATCH[1:]).tolist())), []
    for cosine, own in zip(cosines, softmax, strict=True):
        for i in rows:
            relation = own[i] + sum(each[i] for each in softmax)
            multi = relation.argsort(descending=True)[: params.ai_multi].tolist()
            rest = [j for j in own[i].argsort(descending=True).tolist() if j not in multi]
            single = rest[: params.ai_single]
            phi = torch.exp(cosine[i] / params.temperature)
            negative = [j for j in (rows if params.ai_neg == "batch" else range(ITEMS)) if j not in multi + single]
            top, middle, bottom = (phi[each].sum() for each in (multi, single, negative))
            found.append(-torch.log(top / (top + middle + bottom)) - torch.log(middle / (middle + bottom)))
    return torch.stack(found).mean()


def dense_losses(recommender: DAMRS, given: Mapping[str, Floats]) -> dict[str, Tensor]:
    """Every term by its definition, triple by triple and pair by pair."""
    params = recommender.params
    users, items, views = dense_parts(recommender, given)
    normed = final(recommender, items, views) if params.norm_of == "final" else items
    norms = [users[BATCH[0]].norm() + normed[BATCH[1]].norm() + normed[BATCH[2]].norm()]
    return {
        "bpr": ranking_term(recommender, users, items, views),
        "user_alignment": params.lambda1 * user_alignment_term(params, users, items, views),
        "item_alignment": params.lambda2 * item_alignment_term(params, views),
        "norm": params.norm_weight * sum(norms) / len(BATCH[0]),
    }


@pytest.mark.parametrize("modalities", [("image",), ("image", "text"), ("audio", "image", "text")], ids="-".join)
@pytest.mark.parametrize(
    "params",
    [
        {"item_layers": 2},
        {"layers": 0, "denoise_graph": False},
        {"iib_weights": "count", "ti_scale": "mean"},
        {"behaviour_k": 2},
        {"behaviour_k": 1, "iib_weights": "count"},
    ],
    ids=["hops", "plain graphs", "paper", "two neighbours", "one neighbour"],
)
@every_backbone
def test_embeddings_are_those_of_the_equations(
    modalities: tuple[str, ...], params: dict[str, object], backbone: str
) -> None:
    given = features(*modalities)
    recommender = made(given, backbone=backbone, **params)
    users, items, views = dense_parts(recommender, given)
    torch.testing.assert_close(recommender.embeddings(), (users, final(recommender, items, views)), **EXACT)


@every_backbone
@both_forms
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"fg_grad": True},
        {"dbpr": False},
        {"use_f": False},
        {"use_g": False},
        {"norm_of": "final"},
        {"norm_of": "final", "behaviour_k": 2},
    ],
    ids=["usual", "fg_grad", "no dbpr", "f=1", "g=0", "final norm", "authors"],
)
@pytest.mark.parametrize("modalities", [("image", "text"), ("audio", "image", "text")], ids="-".join)
def test_losses_and_gradients_are_those_of_the_equations(
    modalities: tuple[str, ...], backbone: str, params: dict[str, object], more: dict[str, object]
) -> None:
    given = features(*modalities)
    recommender = made(given, backbone=backbone, **{**params, **more})
    found, expected = recommender.losses(*BATCH), dense_losses(recommender, given)
    torch.testing.assert_close(found, expected, **EXACT)
    for name, term in found.items():
        gradients = [
            torch.autograd.grad(each, list(recommender.parameters()), retain_graph=True, allow_unused=True)
            for each in (term, expected[name])
        ]
        torch.testing.assert_close(*gradients, **EXACT)


@both_forms
def test_triples_of_the_test_have_some_that_are_doubted(params: dict[str, object]) -> None:
    given = features("image", "text")
    recommender = made(given, **params)
    f, g = recommender.reliabilities(*BATCH)
    assert 0 < g.count_nonzero() < len(g)
    users, items, views = dense_parts(recommender, given)
    expected = reliabilities(recommender.params, users, final(recommender, items, views), views, BATCH)
    torch.testing.assert_close((f, g), expected, **EXACT)


@both_forms
def test_training_observes_the_means_of_reliabilities_and_how_often_doubt_prevails(params: dict[str, object]) -> None:
    recommender = made(features("image", "text"), **params)
    f, g = recommender.reliabilities(*BATCH)
    recommender.losses(*BATCH)
    expected = {"mean_f": f.mean(), "mean_g": g.mean(), "share_g_above_f": (g > f).double().mean()}
    torch.testing.assert_close(recommender.observed, expected, **EXACT)


def test_nothing_is_observed_without_denoised_feedback() -> None:
    recommender = made(features("image", "text"), dbpr=False)
    recommender.losses(*BATCH)
    assert not recommender.observed


@pytest.mark.parametrize("block", [1, 3])
def test_reliabilities_of_blocks_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    recommender = made(features("image"), **OFFICIAL)
    expected = recommender.reliabilities(*BATCH)
    monkeypatch.setattr("mmprep.models.recommenders.da_mrs.BLOCK_TRIPLES", block)
    torch.testing.assert_close(recommender.reliabilities(*BATCH), expected, **EXACT)


def test_stopped_gradient_leaves_the_backbones_items_out_of_the_alignment() -> None:
    recommender = made(features("image"), au_stopgrad="id", backbone="bpr")
    other = made(features("image"), au_stopgrad="none", backbone="bpr")
    terms = [each.losses(*BATCH)["user_alignment"] for each in (recommender, other)]
    torch.testing.assert_close(*terms, **EXACT)
    gradients = [
        torch.autograd.grad(term, each.backbone.items)[0]
        for term, each in zip(terms, (recommender, other), strict=True)
    ]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4


@pytest.mark.parametrize("backbone", ["bpr", "vbpr"])
def test_features_are_read_by_vbpr_alone(backbone: str) -> None:
    given = features("image", "text")
    names = set(made(given, backbone=backbone, finetune_features=backbone == "vbpr").state_dict())
    read = {"backbone.features.image", "backbone.features.text", "backbone.projection.weight"}
    assert names & read == (read if backbone == "vbpr" else set())
    assert names - read <= {"backbone.users", "backbone.items", "backbone.projection.bias"}


def test_trained_features_start_as_the_frozen_ones_and_get_gradients() -> None:
    given = features("image", "text")
    recommender = made(given, backbone="vbpr", finetune_features=True)
    torch.testing.assert_close(recommender.embeddings()[1], final(recommender, *dense_parts(recommender, given)[1:]))
    torch.stack(list(recommender.losses(*BATCH).values())).sum().backward()
    for m in given:
        assert recommender.get_parameter(f"backbone.features.{m}").grad.count_nonzero()  # type: ignore[union-attr]


def test_without_parts_and_graphs_it_is_matrix_factorisation() -> None:
    recommender = made(features("image"), backbone="bpr", lambda1=0, lambda2=0, dbpr=False)
    for operator in recommender.views.graphs.values():
        operator._matrix = 0 * operator._matrix
    data = training_data("bpr", TRAIN, binary([], TRAIN.shape))
    plain = build(BPR, data, BPRParams(embedding_size=SIZE, regularisation=0.1), 0).double()
    plain.load_state_dict(dict(zip(("users", "items"), recommender.parameters(), strict=True)))
    torch.testing.assert_close(recommender.losses(*BATCH), plain.losses(*BATCH), **EXACT)
    torch.testing.assert_close(recommender.embeddings(), plain.embeddings(), **EXACT)


def test_reliabilities_get_no_gradient_by_default() -> None:
    given = features("image")
    slopes = [
        torch.autograd.grad(recommender.losses(*BATCH)["bpr"], recommender.backbone.users)[0]
        for recommender in (made(given, fg_grad=switch) for switch in (False, True))
    ]
    assert (slopes[0] - slopes[1]).abs().max() > 1e-4


def test_other_numbers_for_items_change_nothing_where_counts_are_cut_between_different_ones() -> None:
    # Item n has common users with item m as often as no other pair has.
    pairs, user = [], 0
    for count, (a, b) in enumerate(combinations(range(ITEMS), 2)):
        for _ in range(count + 2):
            pairs += [(user, a), (user, b)]
            user += 1
    train, given = binary(pairs, (user, ITEMS)), features("image", "text")
    order = np.random.default_rng(0).permutation(ITEMS)
    orders = np.arange(ITEMS), order
    made_of = []
    for each in orders:
        data = training_data("da_mrs", csr_array(train[:, each]), train, {m: v[each] for m, v in given.items()}, k=K)
        found = cooccurrence_graph(data.train, CooccurrenceParams(k=2))
        assert (found.cut, found.tied) == (ITEMS, 0)
        graphs = {**data.graphs, "cooccurrence": found.edges.to_matrix(ITEMS)}
        made_of.append(build(DAMRS, replace(data, graphs=graphs), DAMRSParams(embedding_size=SIZE, **FEW), 0).double())
    state = dict(made_of[0].state_dict())
    state["backbone.items"] = state["backbone.items"][torch.from_numpy(order)]
    made_of[1].load_state_dict(state)
    before, after = (each.embeddings()[1] for each in made_of)
    torch.testing.assert_close(after, before[torch.from_numpy(order)], **EXACT)
    new = torch.from_numpy(np.argsort(order))
    torch.testing.assert_close(
        made_of[1].losses(BATCH[0], new[BATCH[1]], new[BATCH[2]]), made_of[0].losses(*BATCH), **EXACT
    )


def test_neighbours_of_the_tests_behaviour_graph_are_cut_where_some_are_equal() -> None:
    counts = -np.sort(-common_users(), axis=1)
    assert (counts[:, 2] > 0).any()
    assert ((counts[:, 2] > 0) & (counts[:, 1] == counts[:, 2])).any()


@pytest.mark.parametrize("stored", [2, 3, None])
def test_two_neighbours_of_a_larger_graph_are_those_of_a_graph_of_two(stored: int | None) -> None:
    data = training_data("da_mrs", TRAIN, binary([], TRAIN.shape), features("image"), k=K)
    small, large = (
        cooccurrence_graph(TRAIN, CooccurrenceParams(k=k)).edges.to_matrix(ITEMS) for k in (2, stored or ITEMS)
    )
    graph_k = {} if stored is None else {"cooccurrence": stored}
    cut, whole = (
        view_graphs(replace(data, graphs={**data.graphs, "cooccurrence": matrix}, graph_k=graph_k), params)["behaviour"]
        for matrix, params in ((large, DAMRSParams(behaviour_k=2)), (small, DAMRSParams()))
    )
    np.testing.assert_array_equal(cut.toarray(), whole.toarray())


def test_graph_with_fewer_neighbours_than_are_asked_for_is_named() -> None:
    data = training_data("da_mrs", TRAIN, binary([], TRAIN.shape), features("image"), k=K)
    message = (
        "recommenders.da_mrs.behaviour_k: found 3, expected at most 2, the k of graph cooccurrence; lower it, or raise "
        "graphs.cooccurrence.k and run `mmprep graph --graph cooccurrence`"
    )
    with pytest.raises(DataError) as caught:
        build(DAMRS, replace(data, graph_k={"cooccurrence": 2}), DAMRSParams(**FEW, behaviour_k=3), 0)
    assert str(caught.value) == message


def test_terms_whose_weight_is_0_are_left_out() -> None:
    given = features("image")
    assert set(made(given).losses(*BATCH)) == {"bpr", "user_alignment", "item_alignment"}
    assert set(made(given, lambda1=0, lambda2=0, backbone="vbpr").losses(*BATCH)) == {"bpr", "norm"}


def test_few_items_leave_fewer_that_are_similar_by_one_view() -> None:
    grades = made(features("image"), ai_multi=6, ai_single=10).grades
    assert (grades.multi, grades.single) == (6, 3)


@pytest.mark.parametrize(("params", "most"), [({}, 8), ({"ai_exclude_self": True}, 7)])
def test_too_few_items_to_be_similar_are_named(params: dict[str, object], most: int) -> None:
    message = f"recommenders.da_mrs.ai_multi: found 10, expected at most {most} of the items"
    with pytest.raises(DataError, match=re.escape(message)):
        made(features("image"), ai_multi=10, **params)


def test_defaults_are_those_of_the_authors_code_but_for_the_behaviour_graph_and_the_norms() -> None:
    usual = {"alpha": 1.0, "beta": 2.0, "gamma": 1.0, "lambda1": 1.0, "lambda2": 1e-3, "temperature": 0.2, "layers": 2}
    official = DAMRSParams(**usual, **DAMRSParams.presets["official"], iib_weights="binary", fg_grad=False)
    assert official == DAMRSParams(behaviour_k=2, norm_of="final")
    assert [DAMRSParams().behaviour_k, DAMRSParams().norm_of] == [None, "backbone"]
    assert [DAMRSParams(backbone=backbone).norm_weight for backbone in BACKBONES] == [0.1, 0.0, 0.1]


@pytest.mark.parametrize(
    "mistake",
    [
        {"lambda1": -1.0},
        {"temperature": 0.01},
        {"backbone": "ngcf"},
        {"ai_mode": "mm"},
        {"gamma": 0.5},
        {"finetune_features": True},
        {"behaviour_k": 0},
        {"norm_of": "views"},
    ],
)
def test_impossible_parameters_are_refused(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(mistake))):
        DAMRSParams(**mistake)
