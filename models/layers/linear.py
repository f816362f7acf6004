"""Linear maps with the initial values that the papers have."""

from torch import Tensor, nn


def xavier_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A trainable map of [n, inputs] to [n, outputs] whose weights start Xavier-uniform and whose bias starts at 0."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class LinearPair(nn.Module):
    """Two linear maps after each other, [n, inputs] to [n, hidden] to [n, outputs].

    What is done to the wide inputs is one product with `first`, so that it can be done beside other maps of them.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, relu: bool = False) -> None:
        """Make the maps.

        Args:
            inputs: what the first map reads.
            hidden: what it gives the second.
            outputs: what the second gives.
            relu: whether what lies between them is cut off below 0.
        """
        super().__init__()
        self.inner = xavier_linear(inputs, hidden)
        self.outer = xavier_linear(hidden, outputs)
        self.relu = relu

    def first(self) -> Tensor:
        """The weights of the map from inputs: [hidden, inputs] with relu, else [outputs, inputs].

        With nothing between them the two maps are one, whose weights are far smaller than [n, hidden].
        """
        return self.inner.weight if self.relu else self.outer.weight @ self.inner.weight

    def rest(self, mapped: Tensor) -> Tensor:
        """Outputs [n, outputs] of inputs @ first^T, [n, hidden] with relu, else [n, outputs]."""
        between = self.inner.bias
        outputs: Tensor = self.outer((mapped + between).relu()) if self.relu else mapped + self.outer(between)
        return outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [n, outputs] of [n, inputs]."""
        return self.rest(inputs @ self.first().T)
