from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from toy_views import (
    BATCH,
    EXACT,
    ITEMS,
    SIZE,
    TRAIN,
    K,
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

from mmprep.models.recommenders.mgcn import MGCN, MGCNParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build


def made(given: Mapping[str, Floats], **params: object) -> MGCN:
    """In double precision, with biases that are not zero."""
    data = training_data("mgcn", TRAIN, binary([], TRAIN.shape), given, k=K)
    recommender = build(MGCN, data, MGCNParams(embedding_size=SIZE, **params), 0).double()
    with_biases(recommender)
    return recommender


def dense_parts(recommender: MGCN, given: Mapping[str, Floats], layers: int, item_layers: int) -> tuple[Tensor, Tensor]:
    """Behaviour and fused embeddings of users, then items, by the equations.

    Source: docs/papers/baselines.md#mgcn, docs/papers/am2hrec.md#fusion.
    """
    parameters = dict(recommender.named_parameters())
    rhat, behaviour, views = user_item_weights(), dense_behaviour(parameters, layers), {}
    for m, vectors in given.items():
        projected = dense_projection(parameters, m, vectors)
        gate = projected @ parameters[f"purifiers.{m}.gate.weight"].T + parameters[f"purifiers.{m}.gate.bias"]
        of_items = parameters["items"] / (1 + torch.exp(-gate))
        of_items = torch.linalg.matrix_power(item_item_weights(vectors), item_layers) @ of_items
        views[m] = torch.cat([rhat @ of_items, of_items])
    parts = dense_fusion(parameters, views, behaviour)
    return behaviour, torch.stack(parts).sum(dim=0) / (1 + len(given))


@pytest.mark.parametrize("modalities", [("image",), ("image", "text"), ("audio", "image", "text")], ids="-".join)
@pytest.mark.parametrize(("layers", "item_layers"), [(2, 1), (0, 0), (1, 2)])
def test_embeddings_are_those_of_the_equations(modalities: tuple[str, ...], layers: int, item_layers: int) -> None:
    given = features(*modalities)
    recommender = made(given, layers=layers, item_layers=item_layers)
    behaviour, fused = dense_parts(recommender, given, layers, item_layers)
    torch.testing.assert_close(torch.cat(recommender.embeddings()), behaviour + fused, **EXACT)


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("finetune", [True, False])
def test_losses_and_gradients_are_those_of_the_whole_embeddings(once: bool, finetune: bool) -> None:
    given = features("image", "text")
    params = {"cl_weight": 0.3, "temperature": 0.4, "regularisation": 0.5, "cl_unique_ids": once}
    recommender = made(given, finetune_features=finetune, **params)
    found = recommender.losses(*BATCH)
    expected = dense_losses(*dense_parts(recommender, given, 2, 1), once=once)
    torch.testing.assert_close(found, expected, **EXACT)
    gradients = [
        torch.autograd.grad(sum(terms.values()), list(recommender.parameters())) for terms in (found, expected)
    ]
    torch.testing.assert_close(*gradients, **EXACT)


def test_raw_features_are_trained_only_when_asked() -> None:
    given = features("image", "text")
    names = {finetune: set(made(given, finetune_features=finetune).state_dict()) for finetune in (True, False)}
    assert names[True] - names[False] == {"features.image", "features.text"}


def test_purifiers_that_are_wide_open_make_modalities_with_equal_graphs_agree() -> None:
    vectors = features("image")["image"]
    recommender = made({"image": vectors, "text": vectors})
    for purifier in recommender.purifiers.values():
        torch.nn.init.constant_(purifier.gate.bias, 100.0)
    image, text = torch.split(recommender.encode_views()[0], SIZE, dim=1)
    torch.testing.assert_close(image, text, **EXACT)


def test_modality_that_is_left_out_equals_a_recommender_without_it() -> None:
    both = features("image", "text")
    whole, alone = made(both), made({"text": both["text"]})
    alone.load_state_dict({name: whole.state_dict()[name] for name in alone.state_dict()})
    behaviour, fused = dense_parts(whole, {"text": both["text"]}, 2, 1)
    torch.testing.assert_close(torch.cat(alone.embeddings()), behaviour + fused, **EXACT)


def test_items_alike_in_features_lend_a_new_item_their_behaviour() -> None:
    vectors = np.eye(ITEMS, 3, dtype=np.float32) + 0.1
    vectors[4] = vectors[0]
    data = training_data("mgcn", TRAIN, binary([], TRAIN.shape), {"image": vectors}, k=2)
    recommender = build(MGCN, data, MGCNParams(embedding_size=SIZE), 0)
    gradient = torch.autograd.grad(recommender.embeddings()[1][4].sum(), recommender.items)[0]
    assert torch.count_nonzero(gradient[0])
    assert not torch.count_nonzero(gradient[3])


def test_defaults_are_mgcns_own_but_for_trained_features() -> None:
    usual = {"layers": 2, "item_layers": 1, "temperature": 0.2, "regularisation": 1e-4, "lr_decay": 0.96}
    assert MGCNParams(**usual, cl_weight=1e-2, cl_unique_ids=False, finetune_features=False) == MGCNParams()


def test_learning_rate_falls_by_four_per_cent_in_fifty_epochs() -> None:
    steps = LearningRateDecay.of(MGCNParams())
    assert steps.in_epoch(1) == 1e-3
    assert steps.in_epoch(51) == pytest.approx(0.96e-3)


def test_projections_are_xavier_uniform() -> None:
    weight = made({"image": np.ones((ITEMS, 4096), dtype=np.float32)}).projections["image"].weight
    bound = np.sqrt(6 / (4096 + SIZE))
    assert 0.99 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize(
    "mistake", [{"layers": -1}, {"temperature": 0.0}, {"cl_weight": -0.1}, {"cl_unique_ids": "maybe"}]
)
def test_impossible_parameters_are_refused(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(mistake))):
        MGCNParams(**mistake)
