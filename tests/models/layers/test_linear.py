import numpy as np
import torch

from mmprep.models.layers.linear import xavier_linear


def test_weights_are_xavier_uniform_and_the_bias_zero() -> None:
    linear = xavier_linear(3000, 50)
    bound = np.sqrt(6 / 3050)
    assert linear.weight.shape == (50, 3000)
    assert 0.99 * bound < linear.weight.abs().max() <= bound
    np.testing.assert_allclose(linear.weight.std().item(), bound / np.sqrt(3), rtol=0.02)
    torch.testing.assert_close(linear.bias, torch.zeros(50), rtol=0, atol=0)


def test_without_bias_zero_is_mapped_to_zero() -> None:
    linear = xavier_linear(3, 2, bias=False)
    assert linear.bias is None
    torch.testing.assert_close(linear(torch.zeros(1, 3)), torch.zeros(1, 2))
