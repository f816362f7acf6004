from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import elu, layer_norm
from worlds import Floats, binary, training_data

from mmprep.models.recommenders.camgr import CAmgr, CAmgrParams
from mmprep.models.recommenders.mgcn import MGCN, MGCNParams
from mmprep.models.training.trainer import build
from mmprep.pipeline.errors import ParamsError

USERS, ITEMS, SIZE, K, CHUNKS = 6, 5, 4, 3, 2
# User 5 and item 4 have nothing.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (2, 3), (3, 3), (4, 1)]
TRAIN = binary(PAIRS, (USERS, ITEMS))
BATCH = (torch.tensor([0, 2, 2, 4]), torch.tensor([1, 3, 0, 1]), torch.tensor([4, 1, 1, 0]))
NODES = [0, 2, 4, USERS + 0, USERS + 1, USERS + 3, USERS + 4]  # of the batch
EVERY = list(range(USERS + ITEMS))
EXACT = {"rtol": 0.0, "atol": 1e-10}
SCOPES = ("all", "type", "batch", "neigh", "node")
BOTH = ("image", "text")


def features(*modalities: str) -> dict[str, Floats]:
    rng = np.random.default_rng(2)
    return {m: rng.normal(size=(ITEMS, 3 + place)).astype(np.float32) for place, m in enumerate(modalities)}


def made(given: Mapping[str, Floats], **params: object) -> CAmgr:
    """In double precision, with biases and attention that are not weak."""
    data = training_data("camgr", TRAIN, binary([], TRAIN.shape), given, k=K)
    values = {"embedding_size": SIZE, "attn_chunks": CHUNKS, **params}
    recommender = build(CAmgr, data, CAmgrParams(**values), 0).double()
    torch.manual_seed(1)
    for name, parameter in recommender.named_parameters():
        if not name.startswith(("features", "projections")):
            torch.nn.init.normal_(parameter, std=0.7)
    return recommender


class Dense:
    """The equations of docs/papers/camgr.md, with a matrix for everything, written without the layers."""

    def __init__(self, recommender: CAmgr, given: Mapping[str, Floats]) -> None:
        self.params, self.given = recommender.params, given
        self.values = dict(recommender.named_parameters())
        self.r = torch.from_numpy(TRAIN.toarray()).double()

    def linear(self, name: str, rows: Tensor) -> Tensor:
        return rows @ self.values[f"{name}.weight"].T + self.values.get(f"{name}.bias", 0)

    def behaviour(self) -> Tensor:
        """Step 4."""
        joined = torch.zeros(len(EVERY), len(EVERY), dtype=torch.float64)
        joined[:USERS, USERS:], joined[USERS:, :USERS] = self.r, self.r.T
        hops = [torch.cat([self.values["users"], self.values["items"]])]
        if self.params.ui_conv == "lightgcn":
            scale = joined.sum(dim=1).clamp_min(1) ** -0.5
            weights = f32(scale[:, None] * joined * scale)
            hops += [torch.linalg.matrix_power(weights, hop) @ hops[0] for hop in range(1, self.params.layers + 1)]
            return sum(hops) / len(hops)
        for layer in range(self.params.layers):
            mapped = hops[-1] @ self.values[f"convolutions.{layer}.map.weight"].T
            omega = self.values[f"convolutions.{layer}.attention.weight"][0]
            rows = []
            for node in EVERY:
                near = joined[node].nonzero()[:, 0].tolist()
                logits = [omega @ torch.cat([mapped[node], mapped[other]]) for other in near]
                powers = [torch.exp(logit if logit > 0 else 0.2 * logit) for logit in logits]
                total = sum((power * mapped[other] for power, other in zip(powers, near, strict=True)), torch.zeros(()))
                rows.append(total / sum(powers) if near else torch.zeros(SIZE, dtype=torch.float64))
            act = {"relu": lambda x: x.clamp_min(0), "elu": elu, "none": lambda x: x}[self.params.gat_act]
            hops.append(act(torch.stack(rows)))
        return sum(hops) / len(hops)

    def refined(self, modality: str) -> Tensor:
        """Steps 1 to 3."""
        raw = self.values.get(f"features.{modality}", torch.from_numpy(self.given[modality]).double())
        projected = self.linear(f"projections.{modality}", raw)
        if self.params.refine == "none":
            return projected
        source = self.values["items"]
        if self.params.refine == "purify":
            source = source + f32(self.r.T / self.r.sum(dim=0).clamp_min(1)[:, None]) @ self.values["users"]
        return source * torch.sigmoid(self.linear(f"purifiers.{modality}.gate", projected))

    def view(self, modality: str) -> Tensor:
        """Steps 5 and 6, of all nodes."""
        cosines = kept_cosines(self.given[modality])
        sums = cosines.sum(axis=1)
        by = sums[:, None] if self.params.item_norm == "row" else np.sqrt(np.outer(sums, sums))
        of_items = f32(torch.from_numpy(cosines / by)) @ self.refined(modality)
        own, other = self.r.sum(dim=1).clamp_min(1)[:, None], self.r.sum(dim=0).clamp_min(1)[None]
        weights = self.r / own if self.params.user_norm == "row" else self.r / (own * other).sqrt()
        return torch.cat([f32(weights) @ of_items, of_items])

    def reached(self, node: int, nodes: Sequence[int]) -> list[int]:
        """Whom a node attends to."""
        if self.params.attn_scope == "all":
            return EVERY
        if self.params.attn_scope == "type":
            return EVERY[:USERS] if node < USERS else EVERY[USERS:]
        if self.params.attn_scope == "batch":
            return list(nodes)
        if node < USERS:
            return (USERS + self.r[node].nonzero()[:, 0]).tolist()
        places = sum(nearest_places(self.given[m]) for m in self.answering())
        return (USERS + np.flatnonzero(places[node - USERS])).tolist()

    def answering(self) -> list[str]:
        return [m for m in self.given if m != self.params.query_modality] or list(self.given)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, nodes: Sequence[int]) -> Tensor:
        """Step 7's O, for each of the nodes."""
        rows = []
        for node in nodes:
            if self.params.attn_scope == "node":
                q, k, v = (side[node].view(CHUNKS, -1) for side in (query, key, value))
                rows.append(((q @ k.T / (SIZE / CHUNKS) ** 0.5).softmax(dim=1) @ v).flatten())
            elif reached := self.reached(node, nodes):
                rows.append((query[node] @ key[reached].T / SIZE**0.5).softmax(dim=0) @ value[reached])
            else:
                rows.append(torch.zeros(SIZE, dtype=torch.float64))
        return torch.stack(rows)

    def fuse(self, nodes: Sequence[int]) -> Tensor:
        """Steps 7 and 8."""
        chosen = list(nodes)
        behaviour = self.behaviour()[chosen]
        views = {m: self.view(m) for m in self.given}
        if self.params.fusion == "mean":
            return sum(views.values())[chosen] / len(views)
        asked = sum(views[m] for m in self.answering()) / len(self.answering())
        asking = views.get(self.params.query_modality, asked)
        total = torch.zeros(len(chosen), SIZE, dtype=torch.float64)
        for branch in ("common", "distinct"):
            which = 0 if branch == "common" or self.params.share_qkv else 1
            at = f"fusion.attentions.{which}"
            query, key, value = (
                self.linear(f"{at}.query", asking),
                self.linear(f"{at}.key", asked),
                self.linear(f"{at}.value", asked),
            )
            found = self.attention(query, key, value, nodes)
            part = found if branch == "common" else value[chosen] - found
            residual = self.linear(f"fusion.{branch}.map", part) + query[chosen]
            norm = [self.values[f"fusion.{branch}.norm.{name}"] for name in ("weight", "bias")]
            hidden = self.linear(f"fusion.{branch}.perceptron.0", layer_norm(residual, (SIZE,), *norm)).clamp_min(0)
            branch_out = self.linear(f"fusion.{branch}.perceptron.2", hidden) + residual
            total = total + branch_out * torch.sigmoid(self.linear(f"fusion.{branch}.gate", behaviour)) / 2
        return total

    def losses(self) -> dict[str, Tensor]:
        """Every term by its definition (docs/papers/camgr.md#losses)."""
        behaviour, fused = self.behaviour(), dict(zip(NODES, self.fuse(NODES), strict=True))
        final = {node: behaviour[node] + fused[node] for node in NODES}
        ranking, norm, contrast = [], [], []
        users, positives, negatives = BATCH[0].tolist(), (USERS + BATCH[1]).tolist(), (USERS + BATCH[2]).tolist()
        for user, positive, negative in zip(users, positives, negatives, strict=True):
            lead = final[user] @ final[positive] - final[user] @ final[negative]
            ranking.append(-torch.log(1 / (1 + torch.exp(-lead))))
            norm += [final[node] @ final[node] / 2 for node in (user, positive, negative)]
        for side in (users, positives):
            rows = sorted(set(side)) if self.params.cl_unique_ids else side
            alike = torch.dot if self.params.cl_similarity == "inner" else partial(torch.cosine_similarity, dim=0)
            logits = torch.stack([torch.stack([alike(fused[a], behaviour[b]) for b in rows]) for a in rows])
            shares = (logits / self.params.temperature).softmax(dim=1)
            contrast.append(-shares.diagonal().log().mean())
        squares = torch.stack(norm).sum() / len(users)
        if self.params.regulariser == "decay":
            squares = sum(value.flatten() @ value.flatten() for value in self.values.values()) / 2
        return {
            "bpr": torch.stack(ranking).mean(),
            "contrast": self.params.alpha1 * sum(contrast),
            "norm": self.params.alpha2 * squares,
        }


def f32(weights: Tensor) -> Tensor:
    """As graphs are kept."""
    return weights.float().double()


def nearest_places(vectors: Floats) -> Floats:
    """A 1 at the K largest cosines of each item."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.stack([np.isin(range(ITEMS), np.argsort(-row)[:K]) for row in unit @ unit.T]).astype(float)


def kept_cosines(vectors: Floats) -> Floats:
    """Those cosines, negative ones as 0."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.maximum(unit @ unit.T, 0) * nearest_places(vectors)


VARIANTS: list[dict[str, Any]] = [
    *({"attn_scope": scope} for scope in SCOPES),
    *({"attn_scope": scope, "share_qkv": False} for scope in SCOPES),
    {"query_modality": "image", "attn_scope": "neigh"},
    {"refine": "none"},
    {"refine": "items", "item_norm": "sym_out"},
    {"user_norm": "sym_out"},
    {"fusion": "mean"},
    {"ui_conv": "lightgcn"},
    {"gat_act": "none", "layers": 1},
    {"gat_act": "elu"},
    {"cl_unique_ids": True},
    {"finetune_features": True},
    {"layers": 0},
    {"cl_similarity": "inner"},
    {"regulariser": "decay"},
    {"cl_similarity": "inner", "regulariser": "decay", "cl_unique_ids": False, "finetune_features": True},
]
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))


@every_variant
def test_embeddings_are_those_of_the_equations(variant: dict[str, Any]) -> None:
    given = features(*BOTH)
    recommender = made(given, **variant)
    dense = Dense(recommender, given)
    torch.testing.assert_close(torch.cat(recommender.embeddings()), dense.behaviour() + dense.fuse(EVERY), **EXACT)


@every_variant
def test_losses_and_gradients_are_those_of_the_equations(variant: dict[str, Any]) -> None:
    given = features(*BOTH)
    recommender = made(given, alpha1=0.3, alpha2=0.5, temperature=0.4, **variant)
    found, expected = recommender.losses(*BATCH), Dense(recommender, given).losses()
    torch.testing.assert_close(found, expected, **EXACT)
    for name in expected:
        gradients = [
            torch.autograd.grad(terms[name], list(recommender.parameters()), retain_graph=True, materialize_grads=True)
            for terms in (found, expected)
        ]
        torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("scope", SCOPES)
def test_training_observes_how_evenly_nodes_attend(scope: str) -> None:
    recommender = made(features(*BOTH), attn_scope=scope).train()
    recommender.losses(*BATCH)
    assert recommender.observed.keys() == {"attention_entropy"}
    assert 0 < recommender.observed["attention_entropy"] < 1
    recommender.observed.clear()
    recommender.eval().embeddings()
    assert not recommender.observed


def test_fusion_without_attention_has_nothing_to_observe() -> None:
    recommender = made(features(*BOTH), fusion="mean").train()
    recommender.losses(*BATCH)
    assert not recommender.observed


@pytest.mark.parametrize("modalities", [("image",), ("text",), ("audio", "image", "text")], ids="-".join)
@pytest.mark.parametrize("scope", ["all", "neigh"])
def test_one_or_three_modalities_follow_the_equations_too(modalities: tuple[str, ...], scope: str) -> None:
    given = features(*modalities)
    recommender = made(given, attn_scope=scope)
    dense = Dense(recommender, given)
    torch.testing.assert_close(torch.cat(recommender.embeddings()), dense.behaviour() + dense.fuse(EVERY), **EXACT)


@pytest.mark.parametrize("scope", SCOPES)
def test_rows_of_a_batch_are_those_of_the_ranking_but_where_the_batch_is_attended_to(scope: str) -> None:
    recommender, nodes = made(features(*BOTH), attn_scope=scope), torch.tensor(NODES)
    behaviour = recommender.behaviour()
    whole = recommender.fuse(torch.tensor(EVERY), behaviour)[nodes]
    assert torch.allclose(recommender.fuse(nodes, behaviour[nodes]), whole, **EXACT) == (scope != "batch")


def test_item_is_refined_by_the_average_of_its_users() -> None:
    recommender = made(features("image"))
    source = torch.autograd.grad(recommender.item_mean(recommender.users).sum(), recommender.users)[0]
    torch.testing.assert_close(source[0], torch.full((SIZE,), 1 / 2 + 1 / 3).double(), rtol=0, atol=1e-6)
    means = recommender.item_mean(recommender.users)
    torch.testing.assert_close(means[1], recommender.users[[0, 1, 4]].mean(dim=0), rtol=0, atol=1e-6)
    assert not means[4].count_nonzero()
    assert recommender.item_views()["image"].isfinite().all()


def test_purifiers_that_are_wide_open_make_all_modalities_item_and_users() -> None:
    recommender = made(features(*BOTH))
    for purifier in recommender.purifiers.values():
        torch.nn.init.constant_(purifier.gate.bias, 1000.0)
    views = recommender.item_views()
    expected = recommender.items + recommender.item_mean(recommender.users)
    torch.testing.assert_close(views, {"image": expected, "text": expected}, **EXACT)


@pytest.mark.parametrize("ui_conv", ["gat", "lightgcn"])
def test_no_hops_leave_the_free_embeddings(ui_conv: str) -> None:
    recommender = made(features("text"), layers=0, ui_conv=ui_conv)
    assert torch.equal(recommender.behaviour(), torch.cat([recommender.users, recommender.items]))


@pytest.mark.parametrize("scope", SCOPES)
def test_users_in_another_order_have_the_same_embeddings(scope: str) -> None:
    given, order = features(*BOTH), [3, 5, 0, 1, 4, 2]
    first = made(given, attn_scope=scope)
    data = training_data("camgr", TRAIN[order], binary([], TRAIN.shape), given, k=K)
    second = build(CAmgr, data, first.params, 0).double()
    second.load_state_dict(first.state_dict() | {"users": first.users[order]})
    (users, items), (found_users, found_items) = first.embeddings(), second.embeddings()
    torch.testing.assert_close(found_users, users[order], rtol=0, atol=1e-6)  # graphs are f32
    torch.testing.assert_close(found_items, items, rtol=0, atol=1e-6)


def test_mean_of_modalities_has_no_attention_to_train() -> None:
    mean, whole = (set(made(features(*BOTH), fusion=fusion).state_dict()) for fusion in ("mean", "attention"))
    assert {name.split(".")[0] for name in whole - mean} == {"fusion"}
    assert mean < whole
    recommender = made(features(*BOTH), fusion="mean", alpha1=0.0)
    terms = recommender.losses(*BATCH)
    assert not terms["contrast"].count_nonzero()
    gradients = torch.autograd.grad(terms["bpr"], list(recommender.parameters()))
    assert all(gradient.count_nonzero() for gradient in gradients)


@pytest.mark.parametrize("once", [True, False])
def test_ancestor_is_mgcn(once: bool) -> None:
    given = features(*BOTH)
    data = training_data("mgcn", TRAIN, binary([], TRAIN.shape), given, k=K)
    same = {"embedding_size": SIZE, "cl_unique_ids": once}
    ancestor = build(CAmgr, data, CAmgrParams(**CAmgrParams.presets["ancestor"] | same), 0)
    mgcn = build(MGCN, data, MGCNParams(**same), 1)
    mgcn.load_state_dict(ancestor.state_dict())
    torch.testing.assert_close(ancestor.embeddings(), mgcn.embeddings(), rtol=0, atol=1e-6)
    torch.testing.assert_close(ancestor.losses(*BATCH), mgcn.losses(*BATCH), rtol=0, atol=1e-6)

    ancestral, own = CAmgrParams(**CAmgrParams.presets["ancestor"]), MGCNParams()
    assert (ancestral.lr_decay, ancestral.cl_unique_ids) == (own.lr_decay, own.cl_unique_ids)


def test_paper_is_the_default_but_for_inner_products_and_squares_of_parameters() -> None:
    printed = {"cl_similarity": "inner", "regulariser": "decay"}
    assert CAmgrParams(**CAmgrParams.presets["paper"]) == CAmgrParams(**printed)
    assert {key: getattr(CAmgrParams(), key) for key in printed} == {
        "cl_similarity": "cosine",
        "regulariser": "l2_batch",
    }
    assert CAmgrParams(alpha1=0.01, temperature=0.2, alpha2=1e-4, cl_unique_ids=False) == CAmgrParams()
    assert CAmgrParams(layers=2, attn_scope="all") == CAmgrParams()


def test_asking_modality_has_to_be_there_where_there_are_several() -> None:
    given = features("audio", "image")
    with pytest.raises(ParamsError) as caught:
        made(given)
    assert str(caught.value) == (
        "recommenders.camgr.query_modality: found 'text', expected one of those that training reads (audio, image)"
    )
    assert made(given, query_modality="image").query == "image"


def test_parts_of_an_embedding_have_to_be_equal() -> None:
    message = "recommenders.camgr.attn_chunks: found 3, expected a divisor of embedding_size, 4"
    with pytest.raises(ParamsError, match=message):
        made(features(*BOTH), attn_scope="node", attn_chunks=3)
    made(features(*BOTH), attn_scope="all", attn_chunks=3)


@pytest.mark.parametrize(
    "mistake",
    [
        {"layers": -1},
        {"ui_conv": "gcn"},
        {"gat_act": "tanh"},
        {"refine": True},
        {"item_norm": "none"},
        {"user_norm": "col"},
        {"fusion": "sum"},
        {"attn_scope": "everything"},
        {"attn_chunks": 0},
        {"query_modality": "audio"},
        {"alpha1": -0.1},
        {"alpha2": -0.1},
        {"temperature": 0.0},
        {"share_qkv": "maybe"},
        {"regulariser": "norm"},
        {"cl_similarity": "dot"},
    ],
    ids=lambda mistake: next(iter(mistake)),
)
def test_impossible_parameters_are_refused(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(mistake))):
        CAmgrParams(**mistake)


def test_items_attend_to_their_neighbours_by_the_modality_that_answers() -> None:
    given = features(*BOTH)
    data = training_data("camgr", TRAIN, binary([], TRAIN.shape), given, k=K)
    swapped = replace(data, graphs={**data.graphs, "knn/image": data.graphs["knn/text"]})
    params = CAmgrParams(embedding_size=SIZE, attn_scope="neigh")
    reached = [build(CAmgr, each, params, 0).fusion.attentions[0].scope.neighbourhoods() for each in (data, swapped)]
    assert not torch.equal(reached[0].targets, reached[1].targets)
    items = swapped.graphs["knn/text"][[0]].indices
    assert reached[1].rows(torch.tensor([USERS])).targets.tolist() == sorted(USERS + items)
