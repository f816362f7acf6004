"""Linear maps with the initial values that the papers have."""

from torch import nn


def xavier_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A trainable map of [n, inputs] to [n, outputs] whose weights start Xavier-uniform and whose bias starts at 0."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
