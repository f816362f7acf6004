from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from worlds import binary, training_data

from mmprep.models.recommenders import bm3
from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.bm3 import BM3, BM3Params
from mmprep.models.training.trainer import build

USERS, ITEMS = 6, 7
TRAIN = binary([(u, i) for u in range(USERS) for i in range(ITEMS) if (u * i + u) % 3 != 1], (USERS, ITEMS))
RNG = np.random.default_rng(3)
FEATURES = {m: RNG.normal(size=(ITEMS, width)).astype(np.float32) for m, width in (("image", 5), ("text", 4))}
USER, POSITIVE, NEGATIVE = BATCH = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 0, 3, 0]), torch.tensor([4, 1, 1, 2])

Floats = npt.NDArray[np.float64]


def make_data(modalities: tuple[str, ...] = ("image", "text")) -> TrainingData:
    return training_data("bm3", TRAIN, binary([], TRAIN.shape), {m: FEATURES[m] for m in modalities})


DATA = make_data()


def make(data: TrainingData = DATA, **given: Any) -> BM3:  # noqa: ANN401 - any parameter
    recommender = build(BM3, data, BM3Params(**{"embedding_size": 3, **given}), 0).double()
    assert isinstance(recommender, BM3)
    return recommender


def propagated(recommender: BM3, layers: int) -> tuple[Floats, Floats]:
    """LightGCN's users, and items with their free embedding once more; weights rounded as the graph holds them."""
    links = TRAIN.toarray() != 0
    across = (links / np.sqrt(np.outer(links.sum(axis=1), links.sum(axis=0)))).astype(np.float32).astype(np.float64)
    user, item = recommender.users.detach().numpy(), recommender.items.detach().numpy()
    users, items = [user], [item]
    for _ in range(layers):
        user, item = across @ item, across.T @ user
        users.append(user)
        items.append(item)
    return np.mean(users, axis=0), np.mean(items, axis=0) + items[0]


def linear(layer: torch.nn.Module, rows: Floats) -> Floats:
    weight, bias = (parameter.detach().numpy() for parameter in layer.parameters())
    return rows @ weight.T + bias


def apart(online: Floats, target: Floats) -> float:
    lengths = np.linalg.norm(online, axis=1) * np.linalg.norm(target, axis=1)
    # A target may have lost all its numbers.
    return float(1 - ((online * target).sum(axis=1) / np.where(lengths > 0, lengths, 1)).mean())


def papers_losses(recommender: BM3, params: BM3Params, masks: dict[str, Floats]) -> dict[str, float]:
    """The loss written out; a mask is what dropout multiplies all users, items, or a modality's rows with."""
    users, items = propagated(recommender, params.layers)
    user_target, item_target = users * masks["users"], items * masks["items"]
    user_online, item_online = linear(recommender.predictor, users), linear(recommender.predictor, items)
    terms = {
        "reconstruction": apart(user_online[USER], item_target[POSITIVE])
        + apart(item_online[POSITIVE], user_target[USER]),
        "alignment": 0.0,
        "masked": 0.0,
        "norm": params.regularisation * (np.linalg.norm(users) + np.linalg.norm(items)) / ITEMS,
    }
    for modality in recommender.features.modalities:
        projected = linear(recommender.projections[modality], FEATURES[modality].astype(np.float64))
        online = linear(recommender.predictor, projected)
        terms["alignment"] += params.cl_weight * apart(online[POSITIVE], item_target[POSITIVE])
        terms["masked"] += params.cl_weight * apart(online[POSITIVE], (projected * masks[modality])[POSITIVE])
    return terms


def assert_losses(found: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].item(), value, rtol=0, atol=1e-10)


def whole_masks() -> dict[str, Floats]:
    return {"users": np.ones((USERS, 3)), **{name: np.ones((ITEMS, 3)) for name in ("items", "image", "text")}}


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("modalities", [("image", "text"), ("text",)])
def test_losses_are_the_papers(layers: int, modalities: tuple[str, ...]) -> None:
    given = {"layers": layers, "cl_weight": 1.5, "regularisation": 0.3}
    recommender = make(make_data(modalities), **given).eval()
    assert_losses(recommender.losses(*BATCH), papers_losses(recommender, BM3Params(**given), whole_masks()))


def test_targets_lack_some_numbers_in_training_alike_wherever_a_node_is(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, order = whole_masks(), iter(["users", "items", "image", "text"])
    once = {"users": torch.unique(USER), "items": torch.unique(POSITIVE)}

    def seen_dropout(rows: Tensor, share: float, training: bool) -> Tensor:
        name = next(order)
        kept = functional.dropout(torch.ones_like(rows), share, training)
        masks[name][once.get(name, once["items"])] = kept
        return rows * kept

    monkeypatch.setattr(bm3, "dropout", seen_dropout)
    torch.manual_seed(2)
    recommender = make(dropout=0.4).train()
    found = recommender.losses(*BATCH)
    assert {0.0, 1.0} < {round(float(value), 3) for mask in masks.values() for value in mask.flatten()}
    assert_losses(found, papers_losses(recommender, BM3Params(dropout=0.4), masks))


def test_training_draws_other_targets_each_step_and_ranking_none() -> None:
    recommender = make()
    totals = [recommender.losses(*BATCH)["reconstruction"].item() for _ in range(2)]
    assert totals[0] != totals[1]
    tables = [torch.cat(recommender.embeddings()) for _ in range(2)]
    assert torch.equal(*tables)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_ranking_is_by_the_predictions(layers: int) -> None:
    recommender = make(layers=layers)
    expected = [linear(recommender.predictor, rows) for rows in propagated(recommender, layers)]
    for found, rows in zip(recommender.embeddings(), expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), rows, rtol=0, atol=1e-10)


def test_nothing_is_trained_through_a_target() -> None:
    recommender = make(layers=0, regularisation=0)
    recommender.losses(*BATCH)["alignment"].backward()
    assert recommender.items.grad is None
    assert recommender.projections["text"].weight.grad is not None


def test_negatives_are_not_read() -> None:
    recommender = make().eval()
    other = recommender.losses(USER, POSITIVE, (NEGATIVE + 3) % ITEMS)
    torch.testing.assert_close(other, recommender.losses(*BATCH), rtol=0, atol=0)


def test_presets_are_valid_sections() -> None:
    assert {name: BM3Params(**values).layers for name, values in BM3Params.presets.items()} == {
        "baby": 1,
        "sports": 1,
        "elec": 2,
    }
