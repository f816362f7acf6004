from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from worlds import binary, training_data

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.lattice import LATTICE, LATTICEParams
from mmprep.models.training.trainer import build
from mmprep.pipeline.errors import DataError

USERS, ITEMS, K = 6, 7, 3
TRAIN = binary([(u, i) for u in range(USERS) for i in range(ITEMS) if (u * i + u) % 3 == 1], (USERS, ITEMS))
RNG = np.random.default_rng(3)
FEATURES = {m: RNG.normal(size=(ITEMS, width)).astype(np.float32) for m, width in (("image", 5), ("text", 4))}
BATCH = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 0, 3, 0]), torch.tensor([4, 1, 1, 2])

Floats = npt.NDArray[np.float64]


def make_data(modalities: tuple[str, ...] = ("image", "text")) -> TrainingData:
    return training_data("lattice", TRAIN, binary([], TRAIN.shape), {m: FEATURES[m] for m in modalities}, k=K)


DATA = make_data()


def make(data: TrainingData = DATA, **given: Any) -> LATTICE:  # noqa: ANN401 - any parameter
    params = LATTICEParams(**{"embedding_size": 3, "feature_size": 2, "k": K, **given})
    recommender = build(LATTICE, data, params, 0).double()
    assert isinstance(recommender, LATTICE)
    with torch.no_grad():
        recommender.importance.copy_(torch.tensor([0.4, -0.3])[: len(data.features)])
    return recommender


def cosine_neighbours(vectors: Floats, k: int) -> Floats:
    """The k largest cosines of each row, negative ones at 0, one entry after the other."""
    found = np.zeros((len(vectors), len(vectors)))
    for row, vector in enumerate(vectors):
        cosines = [vector @ other / np.linalg.norm(vector) / np.linalg.norm(other) for other in vectors]
        for column in np.argsort(cosines)[-k:]:
            found[row, column] = max(cosines[column], 0)
    return found


def by_row_sums(matrix: Floats) -> Floats:
    sums = matrix.sum(axis=1)
    return matrix / np.sqrt(np.outer(sums, sums))


def dense_item_graph(recommender: LATTICE) -> Floats:
    """0.9 of the raw and 0.1 of the learned graphs, modalities mixed by a softmax; the raw rounded as they are held."""
    logits = recommender.importance.detach().numpy()
    shares = np.exp(logits) / np.exp(logits).sum()
    raw, learned = np.zeros((ITEMS, ITEMS)), np.zeros((ITEMS, ITEMS))
    for share, modality in zip(shares, recommender.modalities, strict=True):
        cosines = DATA.graphs[f"knn/{modality}"].toarray().astype(np.float64)
        raw += share * by_row_sums(np.maximum(cosines, 0)).astype(np.float32)
        weight, bias = (p.detach().numpy() for p in recommender.projections[modality].parameters())
        learned += share * cosine_neighbours(DATA.features[modality] @ weight.T + bias, K)
    return 0.9 * raw + 0.1 * by_row_sums(learned)


def dense_embeddings(recommender: LATTICE, layers: int, item_layers: int, graph: Floats | None = None) -> Floats:
    links = np.zeros((USERS + ITEMS, USERS + ITEMS))
    links[:USERS, USERS:] = TRAIN.toarray()
    links += links.T + np.eye(len(links))
    average = (links / links.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    hop = total = np.concatenate([recommender.users.detach().numpy(), recommender.items.detach().numpy()])
    for _ in range(layers):
        hop = average @ hop
        total = total + hop
    nodes = total / (layers + 1)
    smoothed = recommender.items.detach().numpy()
    for _ in range(item_layers):
        smoothed = (dense_item_graph(recommender) if graph is None else graph) @ smoothed
    nodes[USERS:] += smoothed / np.linalg.norm(smoothed, axis=1, keepdims=True)
    return nodes


def found_embeddings(recommender: LATTICE) -> Floats:
    with torch.no_grad():
        return torch.cat(recommender.embeddings()).numpy()


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@pytest.mark.parametrize(("layers", "item_layers"), [(2, 1), (0, 1), (1, 2)])
def test_embeddings_are_the_papers(layers: int, item_layers: int) -> None:
    recommender = make(layers=layers, item_layers=item_layers).eval()
    expected = dense_embeddings(recommender, layers, item_layers)
    np.testing.assert_allclose(found_embeddings(recommender), expected, rtol=0, atol=1e-10)


def test_losses_are_the_papers() -> None:
    recommender = make(regularisation=0.3)
    nodes = dense_embeddings(recommender, 2, 1)
    user, positive, negative = nodes[BATCH[0]], nodes[USERS + BATCH[1].numpy()], nodes[USERS + BATCH[2].numpy()]
    lead = (user * (positive - negative)).sum(axis=1)
    expected = {
        "bpr": np.log1p(np.exp(-lead)).mean(),
        "norm": 0.3 * ((user**2).sum() + (positive**2).sum() + (negative**2).sum()) / 2 / 4,
    }
    found = recommender.losses(*BATCH)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].item(), value, rtol=0, atol=1e-10)


def test_graph_of_the_first_step_stays_for_the_epoch_and_trains_it_alone() -> None:
    recommender = make(finetune_features=True)
    recommender.begin_epoch()
    first = dense_item_graph(recommender)
    shapers = {n: p for n, p in recommender.named_parameters() if n not in ("users", "items")}
    assert len(shapers) == 7  # the shares, and of each modality features, weight and bias
    total(recommender.losses(*BATCH)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in shapers.values())
    with torch.no_grad():
        for parameter in shapers.values():
            parameter += torch.rand(parameter.shape, generator=torch.Generator().manual_seed(4))
    recommender.zero_grad()
    total(recommender.losses(*BATCH)).backward()
    assert all(parameter.grad is None for parameter in shapers.values())
    assert recommender.items.grad is not None
    kept = dense_embeddings(recommender, 2, 1, first)
    np.testing.assert_allclose(found_embeddings(recommender), kept, rtol=0, atol=1e-6)  # it is held in f32
    recommender.begin_epoch()
    assert abs(found_embeddings(recommender) - kept).max() > 1e-3


def test_later_steps_train_free_embeddings_as_the_first_does() -> None:
    recommender = make()
    gradients = []
    for _ in range(2):
        recommender.zero_grad()
        total(recommender.losses(*BATCH)).backward()
        gradients.append(recommender.items.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6)


def test_ranking_builds_the_graph_from_the_parameters_and_leaves_the_epochs() -> None:
    recommender = make()
    recommender.begin_epoch()
    before = found_embeddings(recommender)
    with torch.no_grad():
        recommender.projections["text"].bias += 1
    recommender.eval()
    expected = dense_embeddings(recommender, 2, 1)
    np.testing.assert_allclose(found_embeddings(recommender), expected, rtol=0, atol=1e-10)
    assert abs(expected - before).max() > 1e-4
    np.testing.assert_allclose(found_embeddings(recommender.train()), before, rtol=0, atol=1e-6)


def test_one_modality_has_the_whole_share() -> None:
    alone = make(make_data(("text",))).eval()
    both = make().eval()
    shared = {name: value for name, value in alone.state_dict().items() if name != "importance"}
    both.load_state_dict(shared, strict=False)
    with torch.no_grad():
        both.importance.copy_(torch.tensor([-1e3, 0.0]))
    np.testing.assert_allclose(found_embeddings(both), found_embeddings(alone), rtol=0, atol=1e-10)


def test_more_neighbours_than_items_are_refused() -> None:
    with pytest.raises(DataError, match=r"^recommenders\.lattice\.k: found 8, expected at most 7, the items$"):
        make(k=8)
