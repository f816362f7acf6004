import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from worlds import binary, training_data

from mmprep.models.recommenders.simgcl import SimGCL, SimGCLParams
from mmprep.models.training.trainer import build

USERS, ITEMS = 6, 5
LINKS = [(u, i) for u in range(USERS - 1) for i in range(ITEMS) if (u * i + u) % 3 != 1]  # the last user has nothing
DATA = training_data("simgcl", binary(LINKS, (USERS, ITEMS)), binary([], (USERS, ITEMS)))
# Users and positives occur twice.
BATCH = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 0, 3, 0]), torch.tensor([4, 1, 1, 2])
CHOSEN = [0, 2, 3, USERS, USERS + 1, USERS + 3]


def make(**given: float) -> SimGCL:
    recommender = build(SimGCL, DATA, SimGCLParams(embedding_size=3, **given), 0).double()
    assert isinstance(recommender, SimGCL)
    return recommender


def dense_graph() -> Tensor:
    """1 / sqrt(|N_u| |N_i|) at each interaction, rounded as the graph is."""
    weights = np.zeros((USERS + ITEMS, USERS + ITEMS), dtype=np.float32)
    users, items = (np.bincount(side) for side in zip(*LINKS, strict=True))
    for u, i in LINKS:
        weights[u, USERS + i] = weights[USERS + i, u] = 1 / np.sqrt(users[u] * items[i])
    return torch.from_numpy(weights).double()


def view(recommender: SimGCL, layers: int, drawn: list[Tensor] | None = None) -> Tensor:
    """The paper's encoder as it stands: noise on each propagation, then the mean of the propagations."""
    nodes = torch.cat([recommender.users, recommender.items])
    found = []
    for hop in range(layers):
        nodes = dense_graph() @ nodes
        if drawn:
            direction = drawn[hop] / drawn[hop].pow(2).sum(dim=1, keepdim=True).sqrt()
            nodes = nodes + 0.2 * direction * torch.sign(nodes)
        found.append(nodes)
    return sum(found[1:], start=found[0]) / layers


def draws(layers: int, seed: int) -> list[list[Tensor]]:
    """The uniform numbers of two views: of every node in each hop, but in the last of the batch's alone."""
    torch.manual_seed(seed)
    found = []
    for _ in range(2):
        noises = [torch.rand(USERS + ITEMS, 3, dtype=torch.float64) for _ in range(layers - 1)]
        last = torch.ones(USERS + ITEMS, 3, dtype=torch.float64)
        last[CHOSEN] = torch.rand(len(CHOSEN), 3, dtype=torch.float64)
        found.append([*noises, last])
    return found


def papers_contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Eq 2, the mean over rows."""
    left, right = (each / each.pow(2).sum(dim=1, keepdim=True).sqrt() for each in (first, second))
    alike = torch.exp(left @ right.T / temperature)
    return -(alike.diagonal() / alike.sum(dim=1)).log().mean()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_losses_and_gradients_are_those_of_two_whole_noisy_passes(layers: int) -> None:
    recommender = make(layers=layers, noise=0.2, contrast=0.3, temperature=0.5, regularisation=0.25)
    first, second = (view(recommender, layers, drawn) for drawn in draws(layers, 4))
    clean = view(recommender, layers)
    lead = (clean[BATCH[0]] * (clean[USERS + BATCH[1]] - clean[USERS + BATCH[2]])).sum(dim=1)
    contrast = sum(papers_contrast(first[nodes], second[nodes], 0.5) for nodes in (CHOSEN[:3], CHOSEN[3:]))
    free = [recommender.users[BATCH[0]], recommender.items[BATCH[1]], recommender.items[BATCH[2]]]
    expected = {
        "bpr": torch.log1p(torch.exp(-lead)).mean(),
        "contrast": 0.3 * contrast,
        "norm": 0.25 * sum(rows.pow(2).sum().sqrt() for rows in free) / 4,
    }
    torch.manual_seed(4)
    found = recommender.losses(*BATCH)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    tables = [recommender.users, recommender.items]
    for name, term in found.items():
        gradients = [torch.autograd.grad(each, tables, retain_graph=True) for each in (term, expected[name])]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_ranking_is_by_the_mean_of_the_clean_propagations_without_the_free_embeddings() -> None:
    recommender = make(layers=3)
    for each in (recommender.train(), recommender.eval()):
        torch.testing.assert_close(torch.cat(each.embeddings()), view(recommender, 3), rtol=0, atol=1e-10)
    assert not recommender.embeddings()[0][USERS - 1].any()


def test_noise_has_the_given_length_and_no_sign_of_its_own() -> None:
    recommender = make(noise=0.3)
    embeddings = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = recommender.drawn_noise(embeddings)
    torch.testing.assert_close(noise.norm(dim=1), torch.full((50,), 0.3, dtype=torch.float64))
    assert (noise * embeddings >= 0).all()
    assert not torch.equal(noise, recommender.drawn_noise(embeddings))


def test_out_of_training_there_is_no_noise() -> None:
    recommender = make().eval()
    found = [recommender.losses(*BATCH)["contrast"] for _ in range(2)]
    clean = view(recommender, 2)
    expected = sum(papers_contrast(clean[nodes], clean[nodes], 0.2) for nodes in (CHOSEN[:3], CHOSEN[3:]))
    torch.testing.assert_close(found, [0.01 * expected] * 2, rtol=0, atol=1e-10)


@pytest.mark.parametrize("wrong", [{"noise": -1}, {"temperature": 0}, {"contrast": -1}, {"layers": 0}])
def test_parameter_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SimGCLParams.model_validate(wrong)
