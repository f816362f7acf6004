from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor
from worlds import binary, training_data

from mmprep.models.layers.propagation import SparseOperator
from mmprep.models.recommenders.freedom import FREEDOM, FREEDOMParams, draw_interactions
from mmprep.models.training.trainer import build

USERS, ITEMS = 6, 7
TRAIN = binary([(u, i) for u in range(USERS) for i in range(ITEMS) if (u * i + u) % 3 != 1], (USERS, ITEMS))
RNG = np.random.default_rng(3)
FEATURES = {m: RNG.normal(size=(ITEMS, width)).astype(np.float32) for m, width in (("image", 5), ("text", 4))}
DATA = training_data("freedom", TRAIN, binary([], TRAIN.shape), FEATURES, k=3)
BATCH = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 0, 3, 0]), torch.tensor([4, 1, 1, 2])

Floats = npt.NDArray[np.float64]


def make(**given: Any) -> FREEDOM:  # noqa: ANN401 - any parameter
    recommender = build(FREEDOM, DATA, FREEDOMParams(**{"embedding_size": 3, **given}), 0).double()
    assert isinstance(recommender, FREEDOM)
    return recommender


def links_of(graph: SparseOperator) -> npt.NDArray[np.bool_]:
    """Which interactions [users, items] a graph has."""
    dense = graph.get_buffer("_matrix").to_dense().numpy()
    assert (dense == dense.T).all()
    return np.asarray(dense[:USERS, USERS:] != 0)


def dense_embeddings(recommender: FREEDOM, links: npt.NDArray[np.bool_], layers: int, item_layers: int) -> Floats:
    """LightGCN over some links and the mixed neighbours' sum, weights rounded as the graphs hold them."""
    weights = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, item in zip(*np.nonzero(links), strict=True):
        weight = np.float32(1 / np.sqrt(links[user].sum() * links[:, item].sum()))
        weights[user, USERS + item] = weights[USERS + item, user] = weight
    hop = total = np.concatenate([recommender.users.detach().numpy(), recommender.items.detach().numpy()])
    for _ in range(layers):
        hop = weights @ hop
        total = total + hop
    smoothed = recommender.items.detach().numpy()
    for _ in range(item_layers):
        smoothed = DATA.graphs["mixed"].toarray() @ smoothed
    nodes = total / (layers + 1)
    nodes[USERS:] += smoothed
    return nodes


def ranking(user: Floats, positive: Floats, negative: Floats) -> float:
    return float(np.log1p(np.exp(-(user * (positive - negative)).sum(axis=1))).mean())


@pytest.mark.parametrize(("layers", "item_layers"), [(2, 1), (0, 1), (1, 2)])
def test_embeddings_are_the_papers_over_the_whole_graph(layers: int, item_layers: int) -> None:
    recommender = make(layers=layers, item_layers=item_layers)
    recommender.begin_epoch()
    expected = dense_embeddings(recommender, TRAIN.toarray() != 0, layers, item_layers)
    for mode in (True, False):
        with torch.no_grad():
            found = torch.cat(recommender.train(mode).embeddings()).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_the_papers_over_the_epochs_graph(training: bool) -> None:
    recommender = make(dropout=0.4, regularisation=0.3).train(training)
    torch.manual_seed(1)
    recommender.begin_epoch()
    drawn = links_of(recommender.epoch_adjacency)
    assert drawn.sum() == round(0.6 * TRAIN.nnz) < TRAIN.nnz
    assert not (drawn & (TRAIN.toarray() == 0)).any()
    users, positives, negatives = (index.numpy() for index in BATCH)
    nodes = dense_embeddings(recommender, drawn if training else TRAIN.toarray() != 0, 2, 1)
    expected = {"bpr": ranking(nodes[users], nodes[USERS + positives], nodes[USERS + negatives])}
    for modality, raw in FEATURES.items():
        projected = raw @ recommender.projections[modality].weight.detach().numpy().T
        expected[f"bpr_{modality}"] = 0.3 * ranking(nodes[users], projected[positives], projected[negatives])
    found = recommender.losses(*BATCH)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].item(), value, rtol=0, atol=1e-10)


def test_without_their_weight_features_are_not_projected() -> None:
    assert make(regularisation=0).losses(*BATCH).keys() == {"bpr"}


def test_one_modality_is_ranked_as_beside_others() -> None:
    whole = make(regularisation=0.3).eval()
    alone = build(FREEDOM, replace(DATA, features={"text": FEATURES["text"]}), whole.params, 0).double().eval()
    alone.load_state_dict({name: value for name, value in whole.state_dict().items() if "image" not in name})
    expected = {name: term for name, term in whole.losses(*BATCH).items() if name != "bpr_image"}
    torch.testing.assert_close(alone.losses(*BATCH), expected, rtol=0, atol=1e-10)


def test_without_dropout_the_epochs_graph_is_whole() -> None:
    recommender = make(dropout=0)
    recommender.begin_epoch()
    matrices = [
        graph.get_buffer("_matrix").to_dense() for graph in (recommender.epoch_adjacency, recommender.adjacency)
    ]
    torch.testing.assert_close(*matrices)


def test_epochs_draw_anew_and_by_the_seed() -> None:
    recommender, drawn = make(dropout=0.5), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        recommender.begin_epoch()
        drawn.append(links_of(recommender.epoch_adjacency))
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0] == drawn[2]).all()


def test_interactions_are_drawn_in_proportion_to_their_weight_and_once_each() -> None:
    weights = csr_array(np.array([[4.0, 2.0, 0.0], [0.0, 1.0, 1.0]], dtype=np.float32))
    torch.manual_seed(0)
    counts, pairs = np.zeros((2, 3)), np.zeros((2, 3))
    for _ in range(4000):
        counts += draw_interactions(weights, 1).toarray()
        two = draw_interactions(weights, 2).toarray()
        assert two.sum() == 2
        assert two.max() == 1
        pairs += two
    np.testing.assert_allclose(counts / 4000, weights.toarray() / 8, atol=0.03)
    # First drawn, or second after each of the others: 4/8 + 2/8 * 4/6 + 2 * 1/8 * 4/7.
    np.testing.assert_allclose(pairs[0, 0] / 4000, 1 / 2 + 1 / 6 + 1 / 7, atol=0.03)


def test_drawing_changes_no_weights() -> None:
    weights = csr_array(np.array([[0.5, 0.25]], dtype=np.float32))
    draw_interactions(weights, 1)
    np.testing.assert_array_equal(weights.toarray(), [[0.5, 0.25]])


def test_features_are_trained_if_asked_for() -> None:
    def gradients(recommender: FREEDOM) -> dict[str, Tensor | None]:
        torch.stack(list(recommender.losses(*BATCH).values())).sum().backward()
        return {name: p.grad for name, p in recommender.named_parameters() if name.startswith("features")}

    assert gradients(make()) == {}
    trained = gradients(make(finetune_features=True))
    assert trained.keys() == {"features.image", "features.text"}
    for gradient in trained.values():
        assert gradient is not None
        assert gradient.any(dim=1).nonzero().flatten().tolist() == [0, 1, 2, 3, 4]  # the items of the batch
