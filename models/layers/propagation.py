"""Propagation of embeddings over a fixed sparse graph."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    """matrix @ dense, whose gradient for the dense factor is transposed @ gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:  # noqa: ANN401
        return None, None, ctx.transposed @ gradient


class SparseOperator(nn.Module):
    """Product of a fixed sparse matrix with embeddings.

    The matrix is kept in CSR form with its transpose, since PyTorch's own backward of a sparse product on a CPU is
    several times slower than a second CSR product.
    """

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        symmetric = matrix.shape[0] == matrix.shape[1] and abs(matrix - matrix.T).sum() == 0
        # Not part of a checkpoint: the graph is an input, not learned.
        self.register_buffer("_matrix", to_torch(matrix), persistent=False)
        self.register_buffer("_transposed", None if symmetric else to_torch(csr_array(matrix.T)), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """Matrix [n, m] @ dense [m, d]."""
        matrix, transposed = self.get_buffer("_matrix"), self._buffers["_transposed"]
        product: Tensor = _Product.apply(matrix, matrix if transposed is None else transposed, dense)
        return product


def to_torch(matrix: csr_array) -> Tensor:
    """Convert a scipy CSR matrix to a torch CSR tensor of f32."""
    offsets, columns = (torch.from_numpy(part.astype("i8")) for part in (matrix.indptr, matrix.indices))
    return csr_tensor(offsets, columns, torch.from_numpy(matrix.data.astype("f4")), matrix.shape)


def csr_tensor(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sparse tensor from the arrays of a valid CSR matrix, which are not checked again."""
    with warnings.catch_warnings():
        # torch warns once that its CSR support is in beta; the operations used here are not affected.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(offsets, columns, values, size=shape, check_invariants=False)


def hops(adjacency: SparseOperator, embeddings: Tensor, layers: int) -> list[Tensor]:
    """Embeddings [n, d] after each of 1 to `layers` hops, [n, d] each.

    Args:
        adjacency: normalised graph of all nodes, [n, n].
        embeddings: [n, d].
        layers: number of hops.
    """
    outputs = [embeddings]
    for _ in range(layers):
        outputs.append(adjacency(outputs[-1]))
    return outputs[1:]


def lightgcn(adjacency: SparseOperator, embeddings: Tensor, layers: int) -> Tensor:
    """Mean of the embeddings after 0 to `layers` hops.

    Source: He et al. 2020, eq 3-4; docs/papers/conventions.md#propagation.

    Args:
        adjacency: normalised graph of all nodes, [n, n].
        embeddings: [n, d].
        layers: number of hops.
    """
    hop = total = embeddings
    for _ in range(layers):
        hop = adjacency(hop)
        total = total + hop
    return total / (layers + 1)


def gcn(adjacency: SparseOperator, embeddings: Tensor, maps: Iterable[nn.Module]) -> Tensor:
    """Mean of the embeddings and the outputs of all hops, each with a linear map and ReLU.

    Source: AM2HRec, eq 13-14; docs/papers/am2hrec.md#behaviour-graph.

    Args:
        adjacency: normalised graph of all nodes, [n, n].
        embeddings: [n, d].
        maps: map from [n, d] to [n, d] of each hop.
    """
    outputs = [embeddings]
    for linear in maps:
        outputs.append(linear(adjacency(outputs[-1])).relu())
    return torch.stack(outputs).mean(dim=0)
