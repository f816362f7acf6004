"""PCA of a dataset's vectors, to store patches and tokens in a fraction of the space."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.vectors import Vectors

Floats = npt.NDArray[np.float64]
BASIS_FILE = "basis.safetensors"


@dataclass(frozen=True)
class Basis:
    """A PCA basis.

    Attributes:
        mean: of the vectors, [dimension].
        components: orthonormal columns, by decreasing variance, [dimension, k].
        explained: share of the variance explained by the components.
    """

    mean: Floats
    components: Floats
    explained: float

    def project(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Project vectors [n, dimension] onto the components, [n, k]."""
        centred = vectors.astype(np.float32) - self.mean.astype(np.float32)
        return centred @ self.components.astype(np.float32)

    def content(self) -> bytes:
        """A safetensors file of `mean` and `components` as f32, from which vectors are reconstructed approximately."""
        tensors = {"mean": self.mean, "components": self.components}
        # In C order, as safetensors stores the bytes in memory order.
        return save({key: np.ascontiguousarray(each, np.float32) for key, each in tensors.items()})


def fit_basis(blocks: Iterable[Vectors], k: int, key: str) -> Basis:
    """Fit the first k principal components of vectors given in blocks, with memory for two matrices of dimension^2.

    The sign of a component makes its largest entry positive, so that equal vectors give an equal basis.

    Args:
        blocks: vectors [n, dimension], finite; n may vary and be 0.
        k: number of components.
        key: the parameter that requests the PCA, for messages.

    Raises:
        DataError: there are at most k vectors, or their dimension is at most k.
    """
    from scipy.linalg import eigh  # importing it takes longer than the rest of a run whose rows are all cached

    count, shift = 0, np.zeros(0)
    total, second = np.zeros(0), np.zeros((0, 0))
    for block in (block for block in blocks if len(block)):
        vectors = block.astype(np.float64)
        if count == 0:
            shift = vectors.mean(axis=0)  # close to the mean, to reduce cancellation
            total, second = np.zeros_like(shift), np.zeros((len(shift), len(shift)))
        vectors -= shift
        count += len(vectors)
        total += vectors.sum(axis=0)
        second += vectors.T @ vectors
    if count <= k or len(shift) <= k:
        raise DataError(
            f"{key}: pca:{k} needs more than {k} vectors of more than {k} numbers; found {count} of {len(shift)}"
        )
    centre = total / count
    covariance = second / count - np.outer(centre, centre)
    # Only the k needed: all 4,096 take twice as long.
    variances, directions = eigh(covariance, subset_by_index=[len(shift) - k, len(shift) - 1])
    components = directions[:, ::-1]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(k)])
    explained = float(variances.sum() / max(np.trace(covariance), np.finfo(np.float64).tiny))
    return Basis(shift + centre, components, explained)
