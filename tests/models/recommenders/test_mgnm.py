from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from worlds import Floats, binary, training_data

from mmprep.models.recommenders.lgmrec import LGMRec, LGMRecParams
from mmprep.models.recommenders.mgnm import MGNM, MGNMParams
from mmprep.models.training.trainer import build

USERS, ITEMS, SIZE = 6, 5, 4
# User 5 and item 4 have nothing.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (2, 3), (3, 3), (4, 1)]
TRAIN = binary(PAIRS, (USERS, ITEMS))
BATCH = (torch.tensor([0, 2, 2, 4]), torch.tensor([1, 3, 0, 1]), torch.tensor([4, 1, 1, 0]))
EXACT = {"rtol": 0.0, "atol": 1e-10}
WEIGHTS = {"omega": 0.3, "temperature": 0.4, "beta": 0.6, "delta": 0.7, "regularisation": 0.5, "multiplier": 2}
SETTINGS = {
    "usual": {},
    "activation": {"purifier_act": "relu", "gate_id_layer": "combined", "user_incidence": "mean"},
    "deep": {"layers": 1, "modality_layers": 3, "hyper_layers": 3, "hyperedges": 6, "ddr_layers": "all"},
    "without gate": {"purifier": False, "hcl_reduction": "mean", "norm_place": "each", "alpha": 0.9},
    "raw": {"incidence_from": "raw", "global_user_prop": "item_user", "hyper_layers": 2},
    "local": {"use_global": False},
    "without contrast": {"hcl": False, "hyperedges": 1},
    "norm inside the sum": {"global_norm": "each", "alpha": 0.9},
    "all parameters": {"regulariser": "decay"},
    "all layers": {"ddr_layers": "all"},
    "as printed": {**MGNMParams.presets["paper"], "beta": 0.6, "delta": 0.7},
}


def features(*modalities: str) -> dict[str, Floats]:
    rng = np.random.default_rng(2)
    return {m: rng.normal(size=(ITEMS, 3 + place)).astype(np.float32) for place, m in enumerate(modalities)}


def made(given: Mapping[str, Floats], **params: object) -> MGNM:
    """A recommender whose biases are not 0, as they are at the start, so that they show."""
    data = training_data("mgnm", TRAIN, binary([], TRAIN.shape), given)
    recommender = build(MGNM, data, MGNMParams(embedding_size=SIZE, **params), 0).double()
    torch.manual_seed(1)
    for key, value in recommender.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(value)
    return recommender


def unit(rows: Tensor) -> Tensor:
    return rows / rows.pow(2).sum(dim=1, keepdim=True).clamp_min(1e-24).sqrt()


def of_f32(weights: np.ndarray) -> Tensor:
    return torch.from_numpy(weights.astype(np.float32)).double()


LINKS = TRAIN.toarray().astype(np.float64)
USER_DEGREES, ITEM_DEGREES = (np.maximum(LINKS.sum(axis=axis), 1) for axis in (1, 0))
USER_MEAN = of_f32(LINKS / USER_DEGREES[:, None])
BLOCK = of_f32(LINKS / np.sqrt(np.outer(USER_DEGREES, ITEM_DEGREES)))
ADJACENCY = torch.cat(
    [
        torch.cat([torch.zeros(USERS, USERS, dtype=torch.float64), BLOCK], dim=1),
        torch.cat([BLOCK.T, torch.zeros(ITEMS, ITEMS, dtype=torch.float64)], dim=1),
    ]
)


def hop(count: int) -> Tensor:
    return torch.linalg.matrix_power(ADJACENCY, count)


def dense_incidences(recommender: MGNM, modality: str, raw: Tensor, combined: Tensor) -> tuple[Tensor, Tensor]:
    """The soft incidences of users and items (docs/papers/mgnm.md#incidence)."""
    params, parameters = recommender.params, dict(recommender.named_parameters())
    if params.incidence_from == "purified":
        inner, bias, outer, other = (
            parameters[f"purifiers.{modality}.{name}"]
            for name in ("inner.weight", "inner.bias", "outer.weight", "outer.bias")
        )
        moderate = raw @ inner.T + bias
        if params.purifier_act == "relu":
            moderate = moderate.clamp_min(0)
        raw = moderate @ outer.T + other
        ids = combined[USERS:] if params.gate_id_layer == "combined" else parameters["items"]
        if params.purifier:
            raw = ids / (1 + torch.exp(-raw))
    items = raw @ parameters[f"hyperedges.{modality}.weight"].T
    users = (torch.from_numpy(LINKS) if params.user_incidence == "sum" else USER_MEAN) @ items
    powers = [torch.exp(side / params.gumbel_temperature) for side in (users, items)]
    return powers[0] / powers[0].sum(dim=1, keepdim=True), powers[1] / powers[1].sum(dim=1, keepdim=True)


def dense_hyper(recommender: MGNM, modality: str, raw: Tensor, combined: Tensor) -> Tensor:
    """What a modality's hypergraph gives all nodes: products [n, n], in the order of eq 13-14."""
    params = recommender.params
    of_users, of_items = dense_incidences(recommender, modality, raw, combined)
    users, items = combined[:USERS], combined[USERS:]
    for _ in range(params.hyper_layers):
        if params.global_user_prop == "user_user":
            users = (of_users @ of_users.T) @ users
        else:
            users = (of_users @ of_items.T) @ items
        items = (of_items @ of_items.T) @ items
    return torch.cat([users, items])


def dense(recommender: MGNM, given: Mapping[str, Floats]) -> tuple[Tensor, dict[str, Tensor]]:
    """The final embeddings, and every loss term of BATCH, by their definitions (docs/papers/mgnm.md)."""
    params, parameters = recommender.params, dict(recommender.named_parameters())
    layers = [hop(n) @ torch.cat([parameters["users"], parameters["items"]]) for n in range(params.layers + 1)]
    combined, views, hyper = sum(layers) / len(layers), {}, []
    for m, vectors in given.items():
        raw = torch.from_numpy(vectors).double()
        projected = raw @ parameters[f"projections.{m}.weight"].T
        pooled = torch.cat([USER_MEAN @ projected, projected])
        views[m] = [hop(n) @ pooled for n in range(params.modality_layers + 1)]
        if params.use_global:
            hyper.append(dense_hyper(recommender, m, raw, combined))
    last = [view[-1] for view in views.values()]
    final = combined + (unit(sum(last)) if params.norm_place == "sum" else sum(unit(view) for view in last))
    if params.use_global:
        globally = sum(unit(part) for part in hyper) if params.global_norm == "each" else unit(sum(hyper))
        final = final + params.alpha * globally
    terms = dense_ranking(final, params.regularisation)
    if params.regulariser == "decay":
        terms["norm"] = params.regularisation * sum((value**2).sum() for value in parameters.values()) / 2
    if params.hcl and len(hyper) > 1:
        scale = len(BATCH[0]) if params.hcl_reduction == "mean" else 1
        pairs = [(a, b) for place, a in enumerate(hyper) for b in hyper[place + 1 :]]
        terms["contrast"] = params.omega * sum(dense_contrast(*pair, params.temperature) for pair in pairs) / scale
    first = 0 if params.ddr_layers == "all" else 1
    terms["redundancy"] = params.beta * dense_redundancy(layers[first:])
    terms["modality_redundancy"] = params.delta * sum(dense_redundancy(view[first:]) for view in views.values())
    return final, terms


def dense_ranking(final: Tensor, regularisation: float) -> dict[str, Tensor]:
    users, positives, negatives = final[BATCH[0]], final[USERS + BATCH[1]], final[USERS + BATCH[2]]
    leads = (users * (positives - negatives)).sum(dim=1)
    norms = [rows.pow(2).sum().sqrt() for rows in (users, positives, negatives)]
    return {
        "bpr": torch.log(1 + torch.exp(-leads)).mean(),
        "norm": regularisation * torch.stack(norms).sum() / len(BATCH[0]),
    }


def dense_contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """-log of the share that each of a batch's nodes has among all of its side, summed."""
    first, second, found = unit(first), unit(second), torch.zeros((), dtype=torch.float64)
    for rows, others in ((BATCH[0], slice(0, USERS)), (USERS + BATCH[1], slice(USERS, None))):
        for row in rows.tolist():
            powers = torch.exp(second[others] @ first[row] / temperature)
            found = found - torch.log(torch.exp(first[row] @ second[row] / temperature) / powers.sum())
    return found


def dense_redundancy(layers: list[Tensor]) -> Tensor:
    """Both sides' weighted penalties ||rho - I||_F / sqrt 2, the weights as constants."""
    total = torch.zeros((), dtype=torch.float64)
    for side in (slice(0, USERS), slice(USERS, None)):
        eye = torch.eye(SIZE, dtype=torch.float64)
        penalties = torch.stack([(torch.corrcoef(e[side].T) - eye).pow(2).sum().div(2).sqrt() for e in layers])
        weights = 1 / penalties.detach()
        total = total + (weights / weights.sum() * penalties).sum()
    return total


settings = pytest.mark.parametrize("params", SETTINGS.values(), ids=list(SETTINGS))


@settings
@pytest.mark.parametrize("modalities", [("image",), ("audio", "image", "text")], ids="-".join)
def test_embeddings_are_those_of_the_equations(modalities: tuple[str, ...], params: dict[str, object]) -> None:
    given = features(*modalities)
    recommender = made(given, **WEIGHTS | params).eval()
    torch.testing.assert_close(torch.cat(recommender.embeddings()), dense(recommender, given)[0], **EXACT)


@settings
@pytest.mark.parametrize("modalities", [("image", "text"), ("audio", "image", "text")], ids="-".join)
def test_losses_and_gradients_are_those_of_the_equations(
    modalities: tuple[str, ...], params: dict[str, object]
) -> None:
    given = features(*modalities)
    recommender = made(given, **WEIGHTS | params).eval()
    found, (_, expected) = recommender.losses(*BATCH), dense(recommender, given)
    torch.testing.assert_close(found, expected, **EXACT)
    parameters = list(recommender.parameters())
    for name in expected:
        gradients = [
            torch.autograd.grad(terms[name], parameters, retain_graph=True, materialize_grads=True)
            for terms in (found, expected)
        ]
        torch.testing.assert_close(*gradients, **EXACT)


def test_memberships_of_a_node_sum_to_one() -> None:
    branches = made(features("image", "text"), keep_rate=1.0).branches()
    for side in (*branches.of_users, *branches.of_items):
        torch.testing.assert_close(side.incidence.sum(dim=1), torch.ones_like(side.incidence[:, 0]), **EXACT)


def test_a_single_hyperedge_gives_each_node_the_sum_of_all() -> None:
    recommender = made(features("image"), hyperedges=1).eval()
    branches = recommender.branches()
    combined = torch.stack(branches.free).mean(dim=0)
    for side, rows in ((branches.of_users[0], combined[:USERS]), (branches.of_items[0], combined[USERS:])):
        torch.testing.assert_close(side.embeddings(), rows.sum(dim=0).expand_as(rows), **EXACT)


def test_without_its_parts_it_is_lightgcn_and_smoothed_modalities() -> None:
    given = features("image", "text")
    recommender = made(given, alpha=0.0, omega=0.0, beta=0.0, delta=0.0).eval()
    assert set(recommender.losses(*BATCH)) == {"bpr", "norm"}
    tables = torch.cat([recommender.users, recommender.items])
    smoothed = torch.zeros(USERS + ITEMS, SIZE, dtype=torch.float64)
    for m, vectors in given.items():
        projected = recommender.projections[m](torch.from_numpy(vectors).double())
        smoothed = smoothed + ADJACENCY @ ADJACENCY @ torch.cat([USER_MEAN @ projected, projected])
    expected = (tables + ADJACENCY @ tables + ADJACENCY @ ADJACENCY @ tables) / 3 + unit(smoothed)
    torch.testing.assert_close(torch.cat(recommender.embeddings()), expected, **EXACT)


@pytest.mark.parametrize("keep_rate", [0.5, 1.0], ids=["noise and dropout", "noise"])
def test_what_is_random_is_drawn_in_training_alone(keep_rate: float) -> None:
    recommender = made(features("image", "text"), keep_rate=keep_rate)
    torch.manual_seed(0)
    noisy = [torch.cat(recommender.embeddings()) for _ in range(2)]
    assert not torch.allclose(*noisy)
    torch.manual_seed(0)
    torch.testing.assert_close(torch.cat(recommender.embeddings()), noisy[0], rtol=0, atol=0)
    quiet = [torch.cat(recommender.eval().embeddings()) for _ in range(2)]
    torch.testing.assert_close(*quiet, rtol=0, atol=0)


def test_dropout_keeps_the_given_share_of_incidences() -> None:
    recommender = made(features("image"), keep_rate=0.25)
    torch.manual_seed(0)
    incidence = recommender.incidence(torch.zeros(5000, 4, dtype=torch.float64))
    assert (incidence != 0).double().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("hyper_layers", [1, 2])
def test_ancestor_is_lgmrec(hyper_layers: int) -> None:
    given = features("image", "text")
    recommender = made(given, **{**MGNMParams.presets["ancestor"], "hyper_layers": hyper_layers}).eval()
    params = LGMRecParams(embedding_size=SIZE, hyper_layers=hyper_layers)
    data = training_data("lgmrec", TRAIN, binary([], TRAIN.shape), given)
    ancestor = build(LGMRec, data, params, 3).double().eval()
    ancestor.load_state_dict(recommender.state_dict())
    torch.testing.assert_close(recommender.embeddings(), ancestor.embeddings(), **EXACT)
    torch.testing.assert_close(recommender.losses(*BATCH), ancestor.losses(*BATCH), **EXACT)
    torch.manual_seed(0)
    noisy = recommender.train().losses(*BATCH)
    torch.manual_seed(0)
    torch.testing.assert_close(noisy, ancestor.train().losses(*BATCH), **EXACT)


def test_a_single_modality_has_nothing_to_contrast() -> None:
    terms = made(features("image")).losses(*BATCH)
    assert set(terms) == {"bpr", "norm", "redundancy", "modality_redundancy"}
    assert all(torch.isfinite(term) for term in terms.values())


def test_without_global_part_it_has_no_parameters_for_it() -> None:
    names = {key.split(".")[0] for key in made(features("image", "text"), use_global=False).state_dict()}
    assert names == {"users", "items", "projections"}


def test_raw_features_need_no_purifier() -> None:
    names = {key.split(".")[0] for key in made(features("image"), incidence_from="raw").state_dict()}
    assert names == {"users", "items", "projections", "hyperedges"}


def test_papers_preset_is_the_default_but_for_the_norms_and_layers_as_printed() -> None:
    printed = {"global_norm": "each", "ddr_layers": "all", "regulariser": "decay"}
    assert MGNMParams(**MGNMParams.presets["paper"]) == MGNMParams(**printed)
    assert MGNMParams(global_norm="sum", ddr_layers="propagated", regulariser="emb_norm") == MGNMParams()


@pytest.mark.parametrize(
    "mistake",
    [
        {"layers": 0},
        {"modality_layers": 0},
        {"hyperedges": 0},
        {"hyper_layers": 0},
        {"keep_rate": 0.0},
        {"multiplier": 0},
        {"alpha": -1.0},
        {"omega": -1.0},
        {"beta": -1.0},
        {"delta": -1.0},
        {"temperature": 0.0},
        {"purifier_act": "tanh"},
        {"gate_id_layer": 1},
        {"incidence_from": "mixed"},
        {"user_incidence": "max"},
        {"global_user_prop": "user_item"},
        {"norm_place": "none"},
        {"hcl_reduction": "max"},
        {"ddr_layers": "last"},
        {"global_norm": "none"},
        {"regulariser": "l2_batch"},
    ],
)
def test_impossible_parameters_are_refused(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(mistake))):
        MGNMParams(**mistake)
