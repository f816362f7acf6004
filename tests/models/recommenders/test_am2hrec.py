"""AM2HRec (docs/papers/am2hrec.md) against its equations, its ablations, and MGCN, from which it descends."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from toy_views import (
    BATCH,
    EXACT,
    ITEMS,
    PAIRS,
    SIZE,
    TRAIN,
    USERS,
    K,
    adjacency,
    dense_behaviour,
    dense_fusion,
    dense_losses,
    dense_projection,
    features,
    item_item_weights,
    user_item_weights,
    with_biases,
)
from worlds import Floats, binary, training_data

from mmprep.models.layers.losses import infonce
from mmprep.models.recommenders.am2hrec import AM2HRec, AM2HRecParams
from mmprep.models.recommenders.mgcn import MGCN, MGCNParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build
from mmprep.pipeline.graphs.edges import normalised, weighted

ABLATIONS: list[dict[str, object]] = [
    {},
    {"gate": "none"},
    {"gate": "purifier"},
    {"gate_out": "vector"},
    {"gate_source": "item"},
    {"gate_source": "global", "gate_size": 3},
    {"gate_source": "features", "gate_size": 3},
    {"gate_source": "features", "gate_out": "vector"},
    {"ui_conv": "lightgcn"},
    {"layers": 0},
    {"layers": 3, "item_layers": 2},
    {"use_ui_graph": False},
    {"use_ui_graph": False, "ui_conv": "lightgcn"},
    {"use_ui_graph": False, "u_ablation_drops_eq19": True},
    {"use_ii_graph": False},
    {"use_ui_graph": False, "use_ii_graph": False},
    {"use_ui_graph": False, "use_ii_graph": False, "u_ablation_drops_eq19": True},
    {"fusion": "concat"},
    {"fuse_scale": "ancestor"},
]


def name_of(params: dict[str, object]) -> str:
    return "-".join(f"{key}={value}" for key, value in params.items()) or "paper"


every_ablation = pytest.mark.parametrize("params", ABLATIONS, ids=name_of)


def made(given: Mapping[str, Floats], pairs: list[tuple[int, int]] = PAIRS, k: int = K, **params: object) -> AM2HRec:
    """In double precision, with biases that are not zero."""
    train = binary(pairs, (USERS, ITEMS))
    data = training_data("am2hrec", train, binary([], TRAIN.shape), given, k=k)
    recommender = build(AM2HRec, data, AM2HRecParams(embedding_size=SIZE, **params), 0).double()
    assert isinstance(recommender, AM2HRec)
    with_biases(recommender)
    return recommender


def mapped(parameters: Mapping[str, Tensor], name: str, rows: Tensor) -> Tensor:
    return rows @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]


def behaviour_by_equations(parameters: Mapping[str, Tensor], params: AM2HRecParams) -> Tensor:
    """Eq 13-14."""
    free = torch.cat([parameters["users"], parameters["items"]])
    if not params.use_ui_graph:
        return free
    if params.ui_conv == "lightgcn":
        return dense_behaviour(parameters, params.layers)
    found, total = free, free
    for hop in range(params.layers):
        found = torch.clamp(mapped(parameters, f"convolutions.{hop}", adjacency() @ found), min=0)
        total = total + found
    return total / (params.layers + 1)


def opening_by_equations(behaviour: Tensor, params: AM2HRecParams) -> Tensor:
    """Whose behaviour opens each item's gate, one item at a time (docs/papers/am2hrec.md#gate)."""
    rows = []
    for item in range(ITEMS):
        own = [behaviour[user] for user, other in PAIRS if other == item]
        # A graph's weights are f32.
        share = float(np.float32(1 / max(len(own), 1)))
        mean = share * torch.stack(own).sum(dim=0) if own else torch.zeros_like(behaviour[0])
        whole = torch.stack([behaviour[user] for user in range(USERS)]).mean(dim=0)
        rows.append({"users": mean, "item": behaviour[USERS + item], "global": whole}[params.gate_source])
    return torch.stack(rows)


def items_by_equations(
    parameters: Mapping[str, Tensor], modality: str, vectors: Floats, behaviour: Tensor, params: AM2HRecParams
) -> Tensor:
    """Eq 9-12 and 15-18."""
    view = dense_projection(parameters, modality, vectors)
    if params.gate == "purifier":
        view = parameters["items"] / (1 + torch.exp(-mapped(parameters, f"purifiers.{modality}.gate", view)))
    elif params.gate == "behaviour":
        if params.gate_source == "features":
            opening = parameters.get(f"features.{modality}", torch.from_numpy(vectors).double())
        else:
            opening = opening_by_equations(behaviour, params)
        hidden = mapped(parameters, f"gates.{modality}.hidden", opening)
        view = view / (1 + torch.exp(-mapped(parameters, f"gates.{modality}.gate", torch.clamp(hidden, min=0))))
    hops = params.item_layers if params.use_ii_graph else 0
    return torch.linalg.matrix_power(item_item_weights(vectors), hops) @ view


def dense_parts(recommender: AM2HRec, given: Mapping[str, Floats]) -> tuple[Tensor, Tensor]:
    """Behaviour and fused embeddings of users, then items (docs/papers/am2hrec.md#final-embeddings)."""
    parameters, params = dict(recommender.named_parameters()), recommender.params
    behaviour, views = behaviour_by_equations(parameters, params), {}
    for m, vectors in given.items():
        of_items = items_by_equations(parameters, m, vectors, behaviour, params)
        rhat = user_item_weights() * (0 if params.u_ablation_drops_eq19 else 1)
        views[m] = torch.cat([rhat @ of_items, of_items])
    if params.fusion == "concat":
        return behaviour, torch.cat(list(views.values()), dim=1) @ parameters["mix.weight"].T
    shared, *exclusive = dense_fusion(parameters, views, behaviour)
    sum_of_parts = torch.stack(exclusive).sum(dim=0)
    if params.fuse_scale == "ancestor":
        return behaviour, (shared + sum_of_parts) / (1 + len(given))
    return behaviour, shared + sum_of_parts / len(given)


@every_ablation
@pytest.mark.parametrize("modalities", [("image",), ("image", "text"), ("audio", "image", "text")], ids="-".join)
def test_embeddings_are_those_of_the_equations(modalities: tuple[str, ...], params: dict[str, object]) -> None:
    given = features(*modalities)
    recommender = made(given, **params)
    behaviour, fused = dense_parts(recommender, given)
    torch.testing.assert_close(torch.cat(recommender.embeddings()), behaviour + fused, **EXACT)


@every_ablation
@pytest.mark.parametrize("more", [{"cl_unique_ids": True}, {"cl_unique_ids": False, "finetune_features": True}])
def test_losses_and_gradients_are_those_of_the_whole_embeddings(
    params: dict[str, object], more: dict[str, object]
) -> None:
    given = features("image", "text")
    recommender = made(given, cl_weight=0.3, temperature=0.4, regularisation=0.5, **params, **more)
    found = recommender.losses(*BATCH)
    expected = dense_losses(*dense_parts(recommender, given), once=bool(more["cl_unique_ids"]))
    torch.testing.assert_close(found, expected, **EXACT)
    gradients = [
        torch.autograd.grad(sum(terms.values()), list(recommender.parameters()), allow_unused=True)
        for terms in (found, expected)
    ]
    torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("once", [True, False])
def test_contrast_by_inner_products_is_that_of_the_printed_similarity(once: bool) -> None:
    given = features("image", "text")
    weights = {"cl_weight": 0.3, "temperature": 0.4, "regularisation": 0.5}
    recommender = made(given, **weights, cl_similarity="inner", cl_unique_ids=once)
    found = recommender.losses(*BATCH)
    expected = dense_losses(*dense_parts(recommender, given), once=once, cosine=False)
    torch.testing.assert_close(found, expected, **EXACT)
    gradients = [
        torch.autograd.grad(terms["contrast"], list(recommender.parameters()), materialize_grads=True)
        for terms in (found, expected)
    ]
    torch.testing.assert_close(*gradients, **EXACT)
    cosines = made(given, **weights, cl_unique_ids=once).losses(*BATCH)["contrast"]
    assert (found["contrast"] - cosines).abs() > 1e-3


@pytest.mark.parametrize("finetune", [False, True])
def test_norm_is_the_length_of_all_parameters(finetune: bool) -> None:
    recommender = made(features("image", "text"), regulariser="norm", regularisation=0.3, finetune_features=finetune)
    parameters = list(recommender.parameters())
    found = recommender.losses(*BATCH)["norm"]
    whole = torch.cat([parameter.flatten() for parameter in parameters])
    torch.testing.assert_close(found, 0.3 * (whole @ whole) ** 0.5, **EXACT)
    expected = [0.3 * parameter.detach() / whole.norm().detach() for parameter in parameters]
    torch.testing.assert_close(list(torch.autograd.grad(found, parameters)), expected, **EXACT)


@every_ablation
def test_every_parameter_that_an_ablation_leaves_gets_a_gradient(params: dict[str, object]) -> None:
    recommender = made(features("image", "text"), **params)
    for name, parameter in recommender.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.ones_(parameter)  # so that ReLU lets something through
    torch.stack(list(recommender.losses(*BATCH).values())).sum().backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in recommender.parameters())


def test_decay_is_what_weight_decay_of_the_optimiser_adds_to_the_gradient() -> None:
    given = features("image", "text")
    plain, decayed = (made(given, regulariser="decay", regularisation=weight) for weight in (0.0, 0.3))
    gradients = [
        torch.autograd.grad(torch.stack(list(each.losses(*BATCH).values())).sum(), list(each.parameters()))
        for each in (plain, decayed)
    ]
    added = [with_it - without for without, with_it in zip(*gradients, strict=True)]
    torch.testing.assert_close(added, [0.3 * parameter.detach() for parameter in plain.parameters()], **EXACT)


def opened(recommender: AM2HRec, modality: str) -> Tensor:
    opening = recommender.opening(recommender.behaviour())
    if recommender.params.gate_source == "features":
        return recommender.gates[modality].openness(recommender.features[modality])
    return recommender.gates[modality].openness(opening.expand(ITEMS, SIZE))


@pytest.mark.parametrize(("out", "width"), [("scalar", 1), ("vector", SIZE)])
def test_gate_is_between_nothing_and_all(out: str, width: int) -> None:
    gate = opened(made(features("image"), gate_out=out), "image")
    assert gate.shape == (ITEMS, width)
    assert ((gate > 0) & (gate < 1)).all()


@pytest.mark.parametrize("out", ["scalar", "vector"])
def test_gate_that_is_wide_open_is_no_gate(out: str) -> None:
    given = features("image", "text")
    gated, free = made(given, gate_out=out), made(given, gate="none")
    for gate in gated.gates.values():
        torch.nn.init.constant_(gate.gate.bias, math.inf)
    free.load_state_dict({key: gated.state_dict()[key] for key in free.state_dict()})
    torch.testing.assert_close(gated.embeddings(), free.embeddings(), rtol=0, atol=0)


def test_shares_add_up_to_one_and_exclusive_parts_to_nothing_under_them() -> None:
    recommender = made(features("image", "text"))
    views = torch.split(recommender.encode_views()[0], SIZE, dim=1)
    shares = recommender.fusion.shares(views)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(ITEMS).double(), **EXACT)
    shared = torch.stack([shares[:, [m]] * view for m, view in enumerate(views)]).sum(dim=0)
    leftover = torch.stack([shares[:, [m]] * (view - shared) for m, view in enumerate(views)]).sum(dim=0)
    torch.testing.assert_close(leftover, torch.zeros_like(leftover), **EXACT)


def test_single_modality_is_added_as_it_is_and_its_preference_learns_nothing() -> None:
    recommender = made(features("image"))
    of_items, behaviour = recommender.encode_views()
    views = torch.cat([recommender.views_of_users(of_items), of_items])
    torch.testing.assert_close(recommender.fuse(views, behaviour), views, **EXACT)
    torch.stack(list(recommender.losses(*BATCH).values())).sum().backward()
    without = {name for name, p in recommender.named_parameters() if p.grad is None or not p.grad.count_nonzero()}
    # Nor has the attention anything to choose from.
    fusion = {"preferences.image.weight", "preferences.image.bias", "query.weight", "query.bias", "attention.weight"}
    assert without == {f"fusion.{name}" for name in fusion}


def test_modalities_that_say_the_same_have_no_exclusive_part() -> None:
    vectors = features("image")["image"]
    recommender = made({"image": vectors, "text": vectors})
    for modules in (recommender.projections, recommender.gates):
        modules["text"].load_state_dict(modules["image"].state_dict())
    of_items, behaviour = recommender.encode_views()
    views = torch.split(of_items, SIZE, dim=1)
    shared, exclusive = recommender.fusion(views, behaviour[USERS:])
    torch.testing.assert_close(shared, views[0], **EXACT)
    torch.testing.assert_close(exclusive, torch.zeros_like(shared), **EXACT)


def test_without_hops_and_neighbours_it_is_matrix_factorisation_beside_projected_features() -> None:
    vectors = features("image")["image"]
    recommender = made({"image": vectors}, k=1, ui_conv="lightgcn", layers=0, gate="none")
    users, items = recommender.embeddings()
    values = recommender.state_dict()
    projected = torch.from_numpy(vectors).double() @ values["projections.image.weight"].T
    projected = projected + values["projections.image.bias"]
    torch.testing.assert_close(items, values["items"] + projected, rtol=0, atol=1e-6)  # a cosine with itself is f32
    # User 2 has the items 0 and 2 of two users each, and item 3 of two.
    expected = values["users"][2] + (projected[0] + projected[2] + projected[3]) / math.sqrt(3 * 2)
    torch.testing.assert_close(users[2], expected, rtol=0, atol=1e-6)


def other_users(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Items 0 and 3 change hands."""
    return [(user, {0: 3, 3: 0}.get(item, item)) for user, item in pairs]


def test_gate_of_features_has_a_weight_for_each_raw_feature_as_printed() -> None:
    given = features("image", "text")
    gates = made(given, gate_source="features", gate_size=2).gates
    assert {m: gates[m].hidden.weight.shape for m in given} == {"image": (2, 3), "text": (2, 4)}


@pytest.mark.parametrize(("source", "changes"), [("users", True), ("global", False), ("features", False)])
def test_an_items_gate_depends_on_who_has_it(source: str, changes: bool) -> None:
    given, params = features("image"), {"gate_source": source, "use_ui_graph": False}
    before, after = (opened(made(given, pairs, **params), "image") for pairs in (PAIRS, other_users(PAIRS)))
    assert torch.equal(before[[0, 3]], after[[0, 3]]) != changes
    assert torch.equal(before[1:3], after[1:3])


def test_item_without_users_has_a_gate_by_its_biases_alone() -> None:
    recommender = made(features("image"))
    gate = recommender.gates["image"]
    alone = torch.sigmoid(gate.gate(torch.clamp(gate.hidden.bias, min=0)))
    torch.testing.assert_close(opened(recommender, "image")[4], alone, **EXACT)


def test_items_that_are_all_alike_are_averaged() -> None:
    alike = np.ones((ITEMS, 3), dtype=np.float32)
    data = training_data("am2hrec", TRAIN, binary([], TRAIN.shape), {"image": alike}, k=2)
    sums = normalised(weighted(data.graphs["knn/image"], "cosine"), "sym_out").sum(axis=1)
    np.testing.assert_allclose(sums, np.ones(ITEMS), atol=1e-6)
    # Each item's view is a mean of equal views, where no gate tells them apart.
    recommender = made({"image": alike}, k=2, gate="none")
    torch.testing.assert_close(recommender.encode_views()[0], recommender.projected()["image"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_contrast_of_a_view_with_itself_where_rows_are_orthonormal(tau: float) -> None:
    rows = torch.eye(7, 9).double()
    expected = math.log(1 + 6 * math.exp(-1 / tau))
    assert float(infonce(rows, rows, tau)) == pytest.approx(expected, abs=1e-12)


def total_gradients(recommender: AM2HRec | MGCN) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    terms = recommender.losses(*BATCH)
    named = dict(recommender.named_parameters())
    found = torch.autograd.grad(torch.stack(list(terms.values())).sum(), list(named.values()))
    return terms, dict(zip(named, found, strict=True))


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio", "image", "text")], ids="-".join)
def test_ancestor_is_mgcn(modalities: tuple[str, ...]) -> None:
    given = features(*modalities)
    descendant = made(given, **AM2HRecParams.presets["ancestor"])
    data = training_data("mgcn", TRAIN, binary([], TRAIN.shape), given, k=K)
    ancestor = build(MGCN, data, MGCNParams(embedding_size=SIZE), 0).double()
    with_biases(ancestor)
    # The same parameters under the same names, from the same seed.
    torch.testing.assert_close(descendant.state_dict(), ancestor.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(descendant.embeddings(), ancestor.embeddings(), **EXACT)
    assert isinstance(ancestor, MGCN)
    torch.testing.assert_close(total_gradients(descendant), total_gradients(ancestor), **EXACT)


def test_ancestor_differs_from_mgcns_own_code_in_trained_features_alone() -> None:
    ours = AM2HRecParams(**AM2HRecParams.presets["ancestor"]).model_dump()
    shared = MGCNParams().model_dump()
    assert {key: ours[key] for key in shared} == shared
    assert (ours["finetune_features"], ours["cl_unique_ids"]) == (False, False)
    assert LearningRateDecay.of(AM2HRecParams(**AM2HRecParams.presets["ancestor"])).in_epoch(51) == pytest.approx(
        0.96e-3
    )


def test_defaults_are_the_preset_paper_but_for_inner_products_and_the_norm_of_parameters() -> None:
    printed = {"cl_similarity": "inner", "regulariser": "norm"}
    assert AM2HRecParams(**AM2HRecParams.presets["paper"]) == AM2HRecParams(**printed)
    usual = {"cl_similarity": "cosine", "regulariser": "l2_batch", "gate_source": "users"}
    assert AM2HRecParams(**usual, u_ablation_drops_eq19=False) == AM2HRecParams()
    values = {"layers": 2, "cl_weight": 0.01, "regularisation": 1e-4, "temperature": 0.2, "learning_rate": 1e-3}
    assert AM2HRecParams(**values, cl_unique_ids=False) == AM2HRecParams()
    assert LearningRateDecay.of(AM2HRecParams()).in_epoch(500) == 1e-3


def test_only_the_nodes_of_the_batch_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, sizes = made(features("image", "text")), []
    fused: Callable[[Tensor, Tensor], Tensor] = recommender.fuse
    monkeypatch.setattr(recommender, "fuse", lambda v, b: (sizes.append((len(v), len(b))), fused(v, b))[1])
    recommender.losses(*BATCH)
    assert sizes == [(3 + 4, 3 + 4)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ui_conv", "gat"),
        ("gate", "on"),
        ("gate_out", "matrix"),
        ("gate_size", 0),
        ("gate_source", "user"),
        ("fusion", "sum"),
        ("fuse_scale", "mean"),
        ("regulariser", "l1"),
        ("cl_similarity", "dot"),
        ("temperature", 0.0),
        ("layers", -1),
    ],
)
def test_impossible_parameters_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        AM2HRecParams(**{key: value})


def test_users_keep_their_views_where_the_user_item_graph_is_used() -> None:
    with pytest.raises(ValidationError, match="use_ui_graph: false with u_ablation_drops_eq19: true"):
        AM2HRecParams(u_ablation_drops_eq19=True)
