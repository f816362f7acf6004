"""Linear maps with the papers' initialisation."""

from torch import Tensor, nn


def xavier_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Linear layer from [n, inputs] to [n, outputs] with Xavier-uniform weights and zero bias."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class LinearPair(nn.Module):
    """Two consecutive linear maps, [n, inputs] to [n, hidden] to [n, outputs].

    The wide inputs enter only in one product with `first`, which can be merged with other maps of the same inputs.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, relu: bool = False) -> None:
        """Create the maps.

        Args:
            inputs: input size of the first map.
            hidden: output size of the first map.
            outputs: output size of the second map.
            relu: whether there is a ReLU between them.
        """
        super().__init__()
        self.inner = xavier_linear(inputs, hidden)
        self.outer = xavier_linear(hidden, outputs)
        self.relu = relu

    def first(self) -> Tensor:
        """Weights of the product with the inputs: [hidden, inputs] with relu, else [outputs, inputs].

        Without an activation the two maps are one, whose weights are far smaller than [n, hidden].
        """
        return self.inner.weight if self.relu else self.outer.weight @ self.inner.weight

    def rest(self, mapped: Tensor) -> Tensor:
        """Outputs [n, outputs] from inputs @ first^T, which is [n, hidden] with relu, else [n, outputs]."""
        bias = self.inner.bias
        outputs: Tensor = self.outer((mapped + bias).relu()) if self.relu else mapped + self.outer(bias)
        return outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [n, outputs] from inputs [n, inputs]."""
        return self.rest(inputs @ self.first().T)
