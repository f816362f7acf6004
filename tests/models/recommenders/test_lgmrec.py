from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from worlds import Floats, binary, training_data

from mmprep.models.layers import full_contrast
from mmprep.models.recommenders.lgmrec import LGMRec, LGMRecParams
from mmprep.models.training.trainer import build

USERS, ITEMS, SIZE = 6, 5, 4
# User 5 and item 4 have nothing.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (2, 3), (3, 3), (4, 1)]
TRAIN = binary(PAIRS, (USERS, ITEMS))
BATCH = (torch.tensor([0, 2, 2, 4]), torch.tensor([1, 3, 0, 1]), torch.tensor([4, 1, 1, 0]))
EXACT = {"rtol": 0.0, "atol": 1e-10}
WEIGHTS = {"cl_weight": 0.3, "temperature": 0.4, "regularisation": 0.5}


def features(*modalities: str) -> dict[str, Floats]:
    rng = np.random.default_rng(2)
    return {m: rng.normal(size=(ITEMS, 3 + place)).astype(np.float32) for place, m in enumerate(modalities)}


def made(given: Mapping[str, Floats], **params: object) -> LGMRec:
    data = training_data("lgmrec", TRAIN, binary([], TRAIN.shape), given)
    return build(LGMRec, data, LGMRecParams(embedding_size=SIZE, **params), 0).double()


def unit(rows: Tensor) -> Tensor:
    return rows / rows.pow(2).sum(dim=1, keepdim=True).clamp_min(1e-24).sqrt()


def of_f32(weights: np.ndarray) -> Tensor:
    return torch.from_numpy(weights.astype(np.float32)).double()


def dense_parts(recommender: LGMRec, given: Mapping[str, Floats]) -> tuple[Tensor, dict[str, Tensor]]:
    """The final embeddings of users, then items, and what each modality's hypergraph gives them.

    Every product by whole matrices, in the order of the equations (docs/papers/baselines.md#lgmrec).
    """
    params, parameters = recommender.params, dict(recommender.named_parameters())
    links = TRAIN.toarray().astype(np.float64)
    users, items = (np.maximum(links.sum(axis=axis), 1) for axis in (1, 0))
    adjacency = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    adjacency[:USERS, USERS:] = of_f32(links / np.sqrt(np.outer(users, items)))
    adjacency[USERS:, :USERS] = adjacency[:USERS, USERS:].clone().T
    free = torch.cat([parameters["users"], parameters["items"]])
    free = sum(torch.linalg.matrix_power(adjacency, hop) @ free for hop in range(params.layers + 1))
    free = free / (params.layers + 1)
    final, hyper = free, {}
    for m, vectors in given.items():
        raw = torch.from_numpy(vectors).double()
        projected = raw @ parameters[f"projections.{m}.weight"].T
        local = torch.cat([of_f32(links / users[:, None]) @ projected, projected])
        final = final + unit(torch.linalg.matrix_power(adjacency, params.modality_layers) @ local)
        logits = raw @ parameters[f"hyperedges.{m}.weight"].T
        of_items, of_users = (
            torch.softmax(each / params.gumbel_temperature, dim=1)
            for each in (logits, torch.from_numpy(links) @ logits)
        )
        items_now, users_now = free[USERS:], None
        for _ in range(params.hyper_layers):
            users_now, items_now = (side @ (of_items.T @ items_now) for side in (of_users, of_items))
        hyper[m] = torch.cat([users_now, items_now])
    return final + params.alpha * unit(sum(hyper.values())), hyper


def dense_losses(final: Tensor, hyper: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every term by its definition: -log of the share that a batch's node has among all, summed over the batch."""
    users, positives, negatives = BATCH[0], USERS + BATCH[1], USERS + BATCH[2]
    leads = (final[users] * (final[positives] - final[negatives])).sum(dim=1)
    contrast = torch.zeros((), dtype=torch.float64)
    first, second = (unit(view) for view in hyper.values())
    for rows, others in ((users, slice(0, USERS)), (positives, slice(USERS, None))):
        for row in rows.tolist():
            powers = torch.exp(second[others] @ first[row] / 0.4)
            contrast = contrast - torch.log(torch.exp(first[row] @ second[row] / 0.4) / powers.sum())
    norms = [final[rows].pow(2).sum().sqrt() for rows in (users, positives, negatives)]
    return {
        "bpr": torch.log(1 + torch.exp(-leads)).mean(),
        "norm": 0.5 * torch.stack(norms).sum() / len(users),
        "contrast": 0.3 * contrast,
    }


@pytest.mark.parametrize("modalities", [("image",), ("image", "text"), ("audio", "image", "text")], ids="-".join)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"layers": 0, "modality_layers": 0, "hyperedges": 1},
        {"layers": 1, "modality_layers": 3, "hyperedges": 6, "hyper_layers": 3, "alpha": 0.7},
    ],
    ids=["usual", "none", "many"],
)
def test_embeddings_are_those_of_the_equations(modalities: tuple[str, ...], params: dict[str, object]) -> None:
    given = features(*modalities)
    recommender = made(given, **params).eval()
    torch.testing.assert_close(torch.cat(recommender.embeddings()), dense_parts(recommender, given)[0], **EXACT)


@pytest.mark.parametrize("block", [1, 1000])
def test_losses_and_gradients_are_those_of_the_whole_embeddings(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_contrast, "BLOCK_LOGITS", block)
    given = features("image", "text")
    recommender = made(given, hyper_layers=2, **WEIGHTS).eval()
    found, expected = recommender.losses(*BATCH), dense_losses(*dense_parts(recommender, given))
    torch.testing.assert_close(found, expected, **EXACT)
    gradients = [
        torch.autograd.grad(sum(terms.values()), list(recommender.parameters())) for terms in (found, expected)
    ]
    torch.testing.assert_close(*gradients, **EXACT)


def test_three_modalities_are_contrasted_in_pairs() -> None:
    given = features("audio", "image", "text")
    recommender = made(given, **WEIGHTS).eval()
    final, hyper = dense_parts(recommender, given)
    pairs = [("audio", "image"), ("audio", "text"), ("image", "text")]
    expected = [dense_losses(final, {m: hyper[m] for m in pair})["contrast"] for pair in pairs]
    torch.testing.assert_close(recommender.losses(*BATCH)["contrast"], torch.stack(expected).sum(), **EXACT)


def test_a_single_modality_has_nothing_to_contrast() -> None:
    terms = made(features("image")).losses(*BATCH)
    assert set(terms) == {"bpr", "norm"}
    assert all(torch.isfinite(term) for term in terms.values())


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
    recommender = made(features("image"), keep_rate=0.25, hyperedges=4)
    torch.manual_seed(0)
    incidence = recommender.incidence(torch.zeros(5000, 4, dtype=torch.float64))
    assert (incidence != 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert incidence.sum(dim=1).mean().item() == pytest.approx(1, abs=0.05)  # what is kept counts four times


def test_without_global_part_and_features_it_is_lightgcn() -> None:
    given = {"image": np.zeros((ITEMS, 3), dtype=np.float32)}
    recommender = made(given, alpha=0.0).eval()
    torch.testing.assert_close(torch.cat(recommender.embeddings()), recommender.encode_views()[0], **EXACT)


def test_raw_features_are_trained_only_when_asked() -> None:
    given = features("image", "text")
    names = {finetune: set(made(given, finetune_features=finetune).state_dict()) for finetune in (True, False)}
    assert names[True] - names[False] == {"features.image", "features.text"}


@pytest.mark.parametrize("name", LGMRecParams.presets)
def test_presets_are_parameters(name: str) -> None:
    preset = LGMRecParams.presets[name]
    chosen = LGMRecParams(**preset).model_dump()
    assert {key: chosen[key] for key in preset} == preset


def test_defaults_are_lgmrecs_own_for_baby() -> None:
    usual = {"layers": 2, "modality_layers": 2, "gumbel_temperature": 0.2, "temperature": 0.2, "cl_weight": 1e-4}
    chosen = LGMRecParams(**LGMRecParams.presets["baby"], **usual, regularisation=1e-6, finetune_features=False)
    assert chosen == LGMRecParams()


@pytest.mark.parametrize("mistake", [{"keep_rate": 0.0}, {"hyperedges": 0}, {"hyper_layers": 0}, {"alpha": -1.0}])
def test_impossible_parameters_are_refused(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(mistake))):
        LGMRecParams(**mistake)
