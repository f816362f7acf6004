"""The acceptance tests that every recommender of the catalogue has to pass.

Source: docs/papers/conventions.md#acceptance-tests.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from torch import Tensor
from worlds import GROUP_ITEMS, GROUP_USERS, binary, training_data, two_groups

from mmprep.models.recommenders.base import Recommender, RecommenderParams, TrainingData
from mmprep.models.recommenders.catalogue import CATALOGUE, describe
from mmprep.models.training.evaluator import evaluate
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit

Index = npt.NDArray[np.int64]

USERS, ITEMS = 30, 20  # no other size of a parameter is one of these
SIZE = 7
EXACT = {"rtol": 0.0, "atol": 1e-10}

# Whose scores come from the interactions' and items' graphs: features are in the losses alone.
TRAINED_BY_FEATURES_ONLY = {"bm3", "freedom"}

# Who reads graphs of the features, but by default not the features themselves.
READS_GRAPHS_OF_FEATURES = {"da_mrs"}

every_recommender = pytest.mark.parametrize("name", CATALOGUE)
MULTIMODAL = [name for name, row in CATALOGUE.items() if row.multimodal]
every_multimodal = pytest.mark.parametrize("name", MULTIMODAL)
every_feature_reader = pytest.mark.parametrize("name", sorted(set(MULTIMODAL) - READS_GRAPHS_OF_FEATURES))

# Modalities, and the widths of their features. The graph `mixed` knows the first two alone.
WIDTHS = {"image": 5, "text": 3, "audio": 4}


def random_data(name: str, users: int = USERS, items: int = ITEMS, per_user: int = 6, seed: int = 0) -> TrainingData:
    """Random interactions, some in val, and features if the recommender reads them."""
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.permutation(items)[: per_user + 2] for _ in range(users)])
    pairs = [[(u, int(i)) for u in range(users) for i in chosen[u, span]] for span in (slice(2, None), slice(0, 2))]
    features = {
        modality: rng.normal(size=(items, width)).astype(np.float32) for modality, width in (("image", 5), ("text", 3))
    }
    train, val = (binary(each, (users, items)) for each in pairs)
    return training_data(name, train, val, features)


def small(name: str, size: int = SIZE) -> RecommenderParams:
    """Parameters for embeddings of a size that one head alone divides."""
    # Words attend to parts of photos, as on real data; else random negatives come from other items of the batch.
    more = {"heads": 1, "k_r": 2} if name == "mdr_chca" else {}
    return describe(name).load().params_type(embedding_size=size, **more)


def make(name: str, data: TrainingData, seed: int = 0) -> Recommender:
    """An untrained recommender in double precision."""
    kind = describe(name).load()
    return build(kind, data, small(name), seed).double()


def triples(data: TrainingData, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Every train interaction with an item that its user has not in train."""
    rng = np.random.default_rng(seed)
    users, positives = data.train.nonzero()
    train = data.train.toarray()
    negatives = [rng.choice(np.flatnonzero(train[user] == 0)) for user in users]
    return torch.from_numpy(users).long(), torch.from_numpy(positives).long(), torch.tensor(negatives)


def total_loss(recommender: Recommender, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return torch.stack(list(recommender.losses(*batch).values())).sum()


def relabelled(name: str, data: TrainingData, users: Index, items: Index) -> TrainingData:
    """The same data, in which user n is the old user users[n] and item n the old item items[n]."""
    train, val = (csr_array(matrix.toarray()[users][:, items]) for matrix in (data.train, data.val))
    return training_data(name, train, val, {modality: vectors[items] for modality, vectors in data.features.items()})


def copy_relabelled(source: Recommender, target: Recommender, users: Index, items: Index) -> None:
    """Give the target the source's parameters, rows of users and items in the new order."""
    orders = {USERS: torch.from_numpy(users), ITEMS: torch.from_numpy(items)}
    state = source.state_dict()
    for name, value in state.items():
        if value.ndim and value.shape[0] in orders:
            state[name] = value[orders[value.shape[0]]]
    target.load_state_dict(state)


@every_recommender
@pytest.mark.parametrize("relabel", ["items", "users", "both"])
def test_other_numbers_for_users_and_items_change_nothing_else(name: str, relabel: str) -> None:
    rng = np.random.default_rng(5)
    users, items = np.arange(USERS), np.arange(ITEMS)
    if relabel != "items":
        users = rng.permutation(USERS)
    if relabel != "users":
        items = rng.permutation(ITEMS)
    data = random_data(name)
    first, second = make(name, data).eval(), make(name, relabelled(name, data, users, items)).eval()
    copy_relabelled(first, second, users, items)
    for before, after, order in zip(first.embeddings(), second.embeddings(), (users, items), strict=True):
        torch.testing.assert_close(after, before[torch.from_numpy(order)], **EXACT)
    batch = triples(data)
    new_user, new_item = torch.from_numpy(np.argsort(users)), torch.from_numpy(np.argsort(items))
    expected = first.losses(*batch)
    found = second.losses(new_user[batch[0]], new_item[batch[1]], new_item[batch[2]])
    torch.testing.assert_close(found, expected, **EXACT)


@every_recommender
def test_learning_rate_of_zero_changes_no_parameter(name: str) -> None:
    data = random_data(name)
    recommender = make(name, data)
    before = {key: value.clone() for key, value in recommender.named_parameters()}
    fit(recommender, data, TrainParams(batch_size=16, max_epochs=2), LearningRateDecay(0.0))
    assert all(torch.equal(value, before[key]) for key, value in recommender.named_parameters())


@every_recommender
def test_one_step_down_the_gradient_lowers_the_loss(name: str) -> None:
    data = random_data(name)
    recommender, batch = make(name, data).eval(), triples(data)
    optimiser = torch.optim.SGD(recommender.parameters(), lr=0.01)
    before = total_loss(recommender, batch)
    before.backward()
    optimiser.step()
    assert total_loss(recommender, batch).item() < before.item() - 1e-7


@every_recommender
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(name: str) -> None:
    data = random_data(name)
    recommender = make(name, data)
    total_loss(recommender, triples(data)).backward()
    parameters = dict(recommender.named_parameters())
    assert parameters
    for key, parameter in parameters.items():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert (parameter.grad != 0).any(), key


def with_modalities(name: str, modalities: tuple[str, ...]) -> TrainingData:
    """Random data with these modalities alone, in this order; each has the same vectors whatever the others are."""
    data = random_data(name)
    vectors = {
        modality: np.random.default_rng(width).normal(size=(ITEMS, width)).astype(np.float32)
        for modality, width in WIDTHS.items()
    }
    return training_data(name, data.train, data.val, {m: vectors[m] for m in modalities})


def copy_remaining(full: Recommender, reduced: Recommender, kept: str) -> None:
    """Give a recommender of one modality the values that one of image and text has for it."""
    values = full.state_dict()
    places = {
        "importance": ([sorted(("image", "text")).index(kept)],),  # LATTICE: one number a modality
        "projection.weight": (slice(None), slice(0, 5) if kept == "image" else slice(5, 8)),  # VBPR: side by side
    }
    reduced.load_state_dict({key: values[key][places.get(key, ...)] for key in reduced.state_dict()})


@every_multimodal
@pytest.mark.parametrize("kept", ["image", "text"])
def test_modality_that_is_left_out_leaves_nothing_behind(name: str, kept: str) -> None:
    both, alone = with_modalities(name, ("image", "text")), with_modalities(name, (kept,))
    # Graphs of the other modality may lie there still; they count for nothing.
    removed = replace(both, features={kept: both.features[kept]}, graphs={**both.graphs, **alone.graphs})
    full, first, second = make(name, both), make(name, removed, seed=1).eval(), make(name, alone, seed=2).eval()
    for recommender in (first, second):
        copy_remaining(full, recommender, kept)
    torch.testing.assert_close(first.embeddings(), second.embeddings(), **EXACT)
    batch = triples(both)
    torch.testing.assert_close(first.losses(*batch), second.losses(*batch), **EXACT)
    other = {"image": "text", "text": "image"}[kept]
    assert not any(other in key.split(".") for key in first.state_dict())


@every_multimodal
@pytest.mark.parametrize("modalities", [("image",), ("text",), ("text", "image", "audio")], ids="-".join)
def test_any_modalities_give_finite_losses_gradients_and_embeddings(name: str, modalities: tuple[str, ...]) -> None:
    data = with_modalities(name, modalities)
    recommender = make(name, data)
    recommender.begin_epoch()
    terms = recommender.losses(*triples(data))
    assert all(term.isfinite() for term in terms.values()), terms
    torch.stack(list(terms.values())).sum().backward()
    gradients = {key: parameter.grad for key, parameter in recommender.named_parameters()}
    # What chooses among modalities, or parts them, has nothing to learn from a single one: its gradient may be 0.
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values()), gradients.keys()
    read = [key for key in gradients if key.split(".")[0] in {"projection", "projections"} and "weight" in key]
    assert len(read) in (1, len(modalities)) or name in READS_GRAPHS_OF_FEATURES
    assert all(gradients[key].count_nonzero() for key in read)  # type: ignore[union-attr]
    assert all(table.isfinite().all() for table in recommender.eval().embeddings())


@every_multimodal
def test_order_in_which_modalities_are_given_changes_nothing(name: str) -> None:
    first, second = (with_modalities(name, order) for order in (("image", "text"), ("text", "image")))
    tables = [make(name, data).eval().embeddings() for data in (first, second)]
    torch.testing.assert_close(*tables, rtol=0, atol=0)


@every_feature_reader
def test_trained_features_start_as_the_frozen_ones_and_get_gradients(name: str) -> None:
    data, kind = random_data(name), describe(name).load()
    frozen, trained = (
        build(kind, data, kind.params_type(embedding_size=SIZE, finetune_features=switch), 0).double()
        for switch in (False, True)
    )
    torch.testing.assert_close(trained.eval().embeddings(), frozen.eval().embeddings(), **EXACT)
    added = dict(trained.named_parameters()).keys() - dict(frozen.named_parameters()).keys()
    assert added == {"features.image", "features.text"}
    total_loss(trained.train(), triples(data)).backward()
    for key in added:
        gradient = trained.get_parameter(key).grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.count_nonzero()


@every_recommender
def test_item_without_train_users_and_with_zero_features_stays_finite(name: str) -> None:
    data = random_data(name)
    train = data.train.toarray()
    train[:, 4] = 0
    train[7] = 0  # and a user without train items
    features = {modality: vectors.copy() for modality, vectors in data.features.items()}
    for vectors in features.values():
        vectors[4] = 0
    lonely = training_data(name, csr_array(train), data.val, features)
    recommender, batch = make(name, lonely), triples(lonely)
    batch[2][:3] = 4
    total_loss(recommender, batch).backward()
    assert all(torch.isfinite(table).all() for table in recommender.embeddings())
    assert all(torch.isfinite(p.grad).all() for p in recommender.parameters() if p.grad is not None)


@every_recommender
def test_saved_and_loaded_recommender_is_the_same(name: str, tmp_path: Path) -> None:
    data = random_data(name)
    kind = describe(name).load()
    params = small(name)
    trained = build(kind, data, params, 0)
    fit(trained, data, TrainParams(batch_size=16, max_epochs=3), LearningRateDecay(0.01))
    save_file(trained.state_dict(), tmp_path / "checkpoint.safetensors")
    loaded = build(kind, data, params, 1)
    loaded.load_state_dict(load_file(tmp_path / "checkpoint.safetensors"))
    with torch.inference_mode():
        expected, found = trained.eval().embeddings(), loaded.eval().embeddings()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert evaluate(*found, data.val, data.train) == evaluate(*expected, data.val, data.train)


@every_recommender
def test_val_interactions_change_nothing_that_is_trained(name: str) -> None:
    data = random_data(name)
    other = replace(data, val=csr_array(np.roll(data.val.toarray(), 5, axis=0)))
    states = []
    for each in (data, other):
        recommender = make(name, each)
        # With a single epoch, validation chooses nothing.
        result = fit(recommender, each, TrainParams(batch_size=16, max_epochs=1), LearningRateDecay(0.01))
        losses = {key: value for key, value in result.history[0].items() if key.startswith("loss")}
        states.append((losses, recommender.state_dict()))
    assert states[0][0] == states[1][0]
    assert all(torch.equal(value, states[1][1][key]) for key, value in states[0][1].items())


@every_recommender
def test_scores_depend_on_features_only_where_the_catalogue_says_so(name: str) -> None:
    data = random_data(name)
    given = random_data("vbpr").features
    tables = [
        make(name, replace(data, features=each)).eval().embeddings()[1]
        for each in (given, {m: -v for m, v in given.items()})
    ]
    without = TRAINED_BY_FEATURES_ONLY | READS_GRAPHS_OF_FEATURES
    assert torch.equal(*tables) != (describe(name).multimodal and name not in without)


@every_recommender
def test_losses_depend_on_features_only_where_the_catalogue_says_so(name: str) -> None:
    data = random_data(name)
    given = random_data("vbpr").features
    totals = [
        total_loss(make(name, replace(data, features=each)).eval(), triples(data))
        for each in (given, {m: -v for m, v in given.items()})
    ]
    assert torch.equal(*totals) != (describe(name).multimodal and name not in READS_GRAPHS_OF_FEATURES)


@every_recommender
def test_two_groups_of_users_are_told_apart(name: str) -> None:
    world = two_groups()
    data = training_data(name, world.train, world.val, world.features)
    kind = describe(name).load()
    recommender = build(kind, data, small(name, 16), 0)
    fit(recommender, data, TrainParams(batch_size=128, max_epochs=100, patience=10), LearningRateDecay(0.01))
    with torch.no_grad():
        users, items = recommender.eval().embeddings()
        scores = users @ items.T
    # Chance is 0.4 with a deviation of 0.08. Training stops once val is right, which leaves a user or two.
    assert evaluate(users, items, world.test, world.train)["recall@20"] >= 0.9
    own = torch.arange(len(users))[:, None] // GROUP_USERS == torch.arange(len(items))[None] // GROUP_ITEMS
    assert scores[own].mean() > scores[~own].mean()


@every_recommender
def test_random_test_interactions_are_not_predicted(name: str) -> None:
    rng = np.random.default_rng(1)
    data = random_data(name, users=200, items=100, per_user=8)
    left = [np.flatnonzero((data.train + data.val).toarray()[user] == 0) for user in range(200)]
    test = binary([(user, int(i)) for user in range(200) for i in rng.permutation(left[user])[:4]], (200, 100))
    kind = describe(name).load()
    recommender = build(kind, data, small(name, 16), 0)
    fit(recommender, data, TrainParams(batch_size=512, max_epochs=20), LearningRateDecay(0.02))
    with torch.inference_mode():
        users, items = recommender.eval().embeddings()
    # 20 of the 92 items that are not in train; the deviation over 800 draws is 0.015.
    assert evaluate(users, items, test, data.train)["recall@20"] == pytest.approx(20 / 92, abs=0.06)


@every_recommender
@pytest.mark.parametrize("block", [1, 7, USERS])
def test_ranking_in_blocks_gives_the_metrics_of_the_full_matrix(
    monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    data = random_data(name)
    with torch.inference_mode():
        users, items = make(name, data).eval().embeddings()
    scores = (users @ items.T).numpy()
    scores[data.train.toarray() > 0] = -np.inf
    places = np.argsort(np.argsort(-scores, axis=1), axis=1)
    found, relevant = places[data.val.toarray() > 0].reshape(USERS, -1), 2  # val items a user
    monkeypatch.setattr("mmprep.models.training.evaluator.BLOCK_USERS", block)
    metrics = evaluate(users, items, data.val, data.train, cutoffs=(1, 5, 10))
    for k in (1, 5, 10):
        hits = found < k
        gains = (hits / np.log2(found + 2)).sum(axis=1)
        ideal = sum(1 / np.log2(place + 2) for place in range(min(k, relevant)))
        assert metrics[f"recall@{k}"] == pytest.approx(hits.sum(axis=1).mean() / relevant)
        assert metrics[f"precision@{k}"] == pytest.approx(hits.sum(axis=1).mean() / k)
        assert metrics[f"ndcg@{k}"] == pytest.approx(gains.mean() / ideal)
        assert metrics[f"precision@{k}"] >= metrics[f"recall@{k}"] / k - 1e-12
        assert metrics[f"ndcg@{k}"] <= 1
    assert metrics["recall@1"] <= metrics["recall@5"] <= metrics["recall@10"]
