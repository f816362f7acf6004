"""Sparse attention: a fixed pattern of edges whose weights change at each step.

PyTorch's own gradients of sparse products with such weights are slow on a CPU, and those of gathered rows need memory
for one embedding per edge. Here each gradient is a sparse product, with the pattern or its transpose, and sums in the
order of the edges, so that runs are reproducible.
"""

from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from mmprep.models.layers.propagation import csr_tensor


@dataclass(frozen=True)
class EdgePattern:
    """Edges from n sources to m targets, sorted by source.

    Attributes:
        offsets: [n + 1] start of each source's edges, and the end of the last one's.
        targets: [edges].
        n_targets: m.
        sources: [edges].
        order: [edges] permutation that sorts the edges by target.
        back_offsets: [m + 1] start of each target's edges in that order, and the end of the last one's.
    """

    offsets: Tensor
    targets: Tensor
    n_targets: int
    sources: Tensor
    order: Tensor
    back_offsets: Tensor

    @classmethod
    def of(cls, offsets: Tensor, targets: Tensor, n_targets: int) -> "EdgePattern":
        """The pattern of edges in CSR form."""
        counts = offsets.diff()
        sources = torch.repeat_interleave(torch.arange(len(counts), device=targets.device), counts)
        back_counts = torch.bincount(targets, minlength=n_targets)
        order = torch.argsort(targets, stable=True)
        return cls(offsets, targets, n_targets, sources, order, starts(back_counts))

    def rows(self, nodes: Tensor) -> "EdgePattern":
        """The edges of sources [b], renumbered in that order."""
        counts = self.offsets.diff()[nodes]
        offsets = starts(counts)
        places = torch.arange(int(offsets[-1]), device=nodes.device)
        places += torch.repeat_interleave(self.offsets[nodes] - offsets[:-1], counts)
        return EdgePattern.of(offsets, self.targets[places], self.n_targets)

    def matrix(self, weights: Tensor) -> Tensor:
        """The sparse [n, m] matrix of weights [edges]."""
        return csr_tensor(self.offsets, self.targets, weights, (len(self.offsets) - 1, self.n_targets))

    def transposed(self, weights: Tensor) -> Tensor:
        """The sparse [m, n] matrix of the same weights."""
        shape = (self.n_targets, len(self.offsets) - 1)
        return csr_tensor(self.back_offsets, self.sources[self.order], weights[self.order], shape)

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner product of the source's row of [n, d] and the target's row of [m, d] at each edge, [edges]."""
        zeros = self.matrix(left.new_zeros(len(self.targets)))
        products: Tensor = torch.sparse.sampled_addmm(zeros, left, right.T).values()
        return products

    def shares(self, logits: Tensor) -> Tensor:
        """The softmax of [edges] logits over each source's edges; without gradient."""
        largest = torch.segment_reduce(logits, "max", offsets=self.offsets)
        powers = (logits - largest[self.sources]).exp_()
        return powers / torch.segment_reduce(powers, "sum", offsets=self.offsets)[self.sources]


def starts(counts: Tensor) -> Tensor:
    """Start of each of n consecutive runs with these lengths, and the end of the last one, [n + 1]."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


class SparseAttention(nn.Module):
    """A pattern as a module, which moves between devices; an input, so not part of a checkpoint."""

    def __init__(self, matrix: csr_array) -> None:
        """Take the edges of a matrix [n, m]; its weights are ignored."""
        super().__init__()
        offsets, targets = (torch.from_numpy(part.astype("i8")) for part in (matrix.indptr, matrix.indices))
        self._n_targets = int(matrix.shape[1])
        for name, value in vars(EdgePattern.of(offsets, targets, self._n_targets)).items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value, persistent=False)

    def forward(self) -> EdgePattern:
        """The pattern."""
        return EdgePattern(n_targets=self._n_targets, **dict(self.named_buffers()))


class _Inner(torch.autograd.Function):
    """EdgePattern.inner, with gradients to both sides."""

    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, left: Tensor, right: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.pattern = pattern
        ctx.save_for_backward(left, right)
        return pattern.inner(left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:  # noqa: ANN401
        left, right = ctx.saved_tensors
        return None, ctx.pattern.matrix(gradient) @ right, ctx.pattern.transposed(gradient) @ left


class _Attended(torch.autograd.Function):
    """Softmax-weighted mean of the targets' values, with gradients to logits and values."""

    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, logits: Tensor, values: Tensor) -> Tensor:  # noqa: ANN401
        shares = pattern.shares(logits)
        mean = pattern.matrix(shares) @ values
        ctx.pattern = pattern
        ctx.save_for_backward(shares, values, mean)
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:  # noqa: ANN401
        pattern: EdgePattern = ctx.pattern
        shares, values, mean = ctx.saved_tensors
        lead = pattern.inner(gradient, values) - (gradient * mean).sum(dim=1)[pattern.sources]
        return None, shares * lead, pattern.transposed(shares) @ gradient


def edge_products(pattern: EdgePattern, left: Tensor, right: Tensor) -> Tensor:
    """The inner product at each edge, [edges].

    Args:
        pattern: of n sources and m targets.
        left: [n, d], of the sources.
        right: [m, d], of the targets.
    """
    products: Tensor = _Inner.apply(pattern, left, right)
    return products


def edge_softmax(pattern: EdgePattern, logits: Tensor, values: Tensor) -> Tensor:
    """Mean of each source's targets, weighted by softmax over its edges, [n, d]; 0 for a source without edges.

    Args:
        pattern: of n sources and m targets.
        logits: [edges].
        values: [m, d], of the targets.
    """
    mean: Tensor = _Attended.apply(pattern, logits, values)
    return mean
