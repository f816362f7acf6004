import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, normalize

from mmprep.models.layers.hypergraph import HyperEmbeddings, gather, hypergraph_contrast, soft_incidence, total

NODES, HYPEREDGES, SIZE = 9, 4, 5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def hyper_embeddings(seed: int) -> HyperEmbeddings:
    return HyperEmbeddings(
        random(NODES, HYPEREDGES, seed=seed).softmax(dim=1), random(HYPEREDGES, SIZE, seed=seed + 50)
    )


def whole(embeddings: HyperEmbeddings) -> Tensor:
    return embeddings.incidence @ embeddings.hyperedges


@pytest.mark.parametrize("noise", [False, True])
def test_incidences_of_a_node_sum_to_one(noise: bool) -> None:
    found = soft_incidence(random(NODES, HYPEREDGES), 0.2, noise=noise)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(NODES, dtype=torch.float64))
    assert (found > 0).all()


def test_without_noise_incidence_is_a_softmax_at_the_temperature() -> None:
    logits = random(NODES, HYPEREDGES)
    powers = torch.exp(logits / 0.2)
    torch.testing.assert_close(soft_incidence(logits, 0.2, noise=False), powers / powers.sum(dim=1, keepdim=True))


def test_noise_chooses_a_hyperedge_as_often_as_the_softmax_of_its_logits_says() -> None:
    # Gumbel: the largest of logits and noise is distributed as softmax(logits), whatever the temperature.
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(40_000, 3)
    chosen = soft_incidence(logits, 0.2, noise=True).argmax(dim=1).bincount(minlength=3) / len(logits)
    torch.testing.assert_close(chosen, logits[0].softmax(dim=0), rtol=0, atol=0.01)


def test_a_lower_temperature_is_nearer_to_one_hyperedge() -> None:
    sharpest = [soft_incidence(random(NODES, HYPEREDGES), tau, noise=False).amax(dim=1).mean() for tau in (2.0, 0.2)]
    assert sharpest[1] > sharpest[0] + 0.2


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_layers_are_those_of_the_dense_product(layers: int) -> None:
    incidence, nodes = random(NODES, HYPEREDGES).softmax(dim=1), random(NODES, SIZE, seed=1)
    expected = nodes
    for _ in range(layers):
        expected = (incidence @ incidence.T) @ expected
    found = HyperEmbeddings(incidence, gather(incidence, nodes, layers))
    torch.testing.assert_close(whole(found), expected, rtol=0, atol=1e-10)


def test_one_hyperedge_gives_every_node_the_sum_of_all() -> None:
    incidence, nodes = soft_incidence(random(NODES, 1), 0.2, noise=False), random(NODES, SIZE, seed=1)
    found = whole(HyperEmbeddings(incidence, gather(incidence, nodes, 1)))
    torch.testing.assert_close(found, nodes.sum(dim=0).expand(NODES, SIZE))


def test_directions_make_every_embedding_one_long() -> None:
    made = hyper_embeddings(1)
    torch.testing.assert_close(made.directions() @ made.hyperedges, normalize(whole(made), dim=1), rtol=0, atol=1e-10)


def test_node_of_no_hyperedge_stays_zero_and_has_a_finite_gradient() -> None:
    made = hyper_embeddings(1)
    weight = torch.zeros(HYPEREDGES, SIZE, dtype=torch.float64) + made.hyperedges
    weight.requires_grad_()
    incidence = made.incidence * torch.tensor([0.0] + [1.0] * (NODES - 1), dtype=torch.float64)[:, None]
    found = HyperEmbeddings(incidence, weight).directions()
    assert torch.count_nonzero(found[0]) == 0
    found.sum().backward()
    assert torch.isfinite(weight.grad).all()


def test_total_adds_what_each_hypergraph_gives() -> None:
    parts = [hyper_embeddings(1), hyper_embeddings(2)]
    torch.testing.assert_close(whole(total(parts)), whole(parts[0]) + whole(parts[1]))


def test_contrast_is_that_of_the_whole_embeddings() -> None:
    first, second = hyper_embeddings(1), hyper_embeddings(2)
    nodes, counts = torch.tensor([7, 0, 3]), torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    cosines = cosine_similarity(whole(first)[:, None], whole(second)[None], dim=2)
    expected = sum(-log_softmax(cosines[node] / 0.2, dim=0)[node] for node in (7, 0, 0, 3))
    torch.testing.assert_close(hypergraph_contrast(first, second, nodes, 0.2, counts), expected, rtol=0, atol=1e-10)
