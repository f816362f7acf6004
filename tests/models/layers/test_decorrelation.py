import numpy as np
import pytest
import torch
from torch import Tensor

from mmprep.models.layers.decorrelation import correlation_penalty, layered_penalty, sided_penalty

EXACT = {"rtol": 0.0, "atol": 1e-10}


def table(seed: int = 0, rows: int = 9, columns: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def by_numpy(embeddings: Tensor) -> float:
    """||rho - I||_F / sqrt 2, by numpy's correlations."""
    rho = np.corrcoef(embeddings.numpy(), rowvar=False)
    return float(np.linalg.norm(rho - np.eye(len(rho))) / np.sqrt(2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_penalty_is_the_length_of_the_correlations_beside_the_diagonal(seed: int) -> None:
    found = correlation_penalty(table(seed)).item()
    assert found == pytest.approx(by_numpy(table(seed)), abs=1e-10)
    assert found > 0


def test_orthogonal_columns_have_no_penalty() -> None:
    centred = table() - table().mean(dim=0)
    orthogonal = torch.linalg.qr(centred).Q + 3.0
    assert correlation_penalty(orthogonal).item() == pytest.approx(0, abs=1e-12)


def test_shifts_and_scales_of_columns_change_nothing() -> None:
    shift, scale = torch.tensor([3.0, -1.0, 0.0, 9.0]), torch.tensor([0.5, 2.0, 7.0, 1.0])
    torch.testing.assert_close(correlation_penalty(table() * scale + shift), correlation_penalty(table()), **EXACT)


def test_column_that_never_varies_counts_for_nothing() -> None:
    constant = torch.cat([table(), torch.full((9, 1), 2.0, dtype=torch.float64)], dim=1).requires_grad_()
    penalty = correlation_penalty(constant)
    torch.testing.assert_close(penalty, correlation_penalty(table()), **EXACT)
    penalty.backward()
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


def test_layers_together_are_the_harmonic_mean_of_their_penalties() -> None:
    layers = [table(seed) for seed in range(3)]
    harmonic = 3 / sum(1 / by_numpy(layer) for layer in layers)
    assert layered_penalty(layers).item() == pytest.approx(harmonic, abs=1e-10)


def test_weights_of_layers_get_no_gradient() -> None:
    layers = [table(seed).requires_grad_() for seed in range(3)]
    inverse = torch.tensor([1 / by_numpy(layer.detach()) for layer in layers], dtype=torch.float64)
    fixed = sum(mu * correlation_penalty(layer) for mu, layer in zip(inverse / inverse.sum(), layers, strict=True))
    expected, found = (torch.autograd.grad(value, layers) for value in (fixed, layered_penalty(layers)))
    torch.testing.assert_close(found, expected, **EXACT)


def test_layers_without_redundancy_are_finite() -> None:
    layer = torch.zeros(5, 3).requires_grad_()
    penalty = layered_penalty([layer, layer])
    penalty.backward()
    assert penalty.item() == 0
    assert layer.grad is not None
    assert layer.grad.isfinite().all()


def test_users_and_items_are_penalised_apart() -> None:
    layers = [table(seed, rows=12) for seed in range(2)]
    expected = layered_penalty([layer[:5] for layer in layers]) + layered_penalty([layer[5:] for layer in layers])
    torch.testing.assert_close(sided_penalty(layers, 5), expected, **EXACT)
