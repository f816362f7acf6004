"""Principal components: the same as a singular value decomposition gives, however the vectors come."""

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.pca import fit_basis

Vectors = npt.NDArray[np.float32]


def some_vectors(n: int = 200, dimension: int = 12, centre: float = 0) -> Vectors:
    """Vectors that are longer in some directions than in others, and lie off the origin."""
    made = np.random.default_rng(0)
    turned = np.linalg.qr(made.normal(size=(dimension, dimension)))[0]
    spread = made.normal(size=(n, dimension)) * np.linspace(1, 5, dimension)
    return (spread @ turned + centre + made.normal(size=dimension)).astype(np.float32)


def blocks(vectors: Vectors, sizes: list[int]) -> list[Vectors]:
    return np.split(vectors, np.cumsum(sizes))


@pytest.mark.parametrize("sizes", [[], [1], [1, 50, 3], [0, 30, 0]])
def test_directions_are_those_of_a_singular_value_decomposition(sizes: list[int]) -> None:
    vectors = some_vectors()
    basis = fit_basis(blocks(vectors, sizes), 4, "reduce")
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, lengths, rows = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign((basis.components * rows[:4].T).sum(axis=0))
    np.testing.assert_allclose(basis.components, rows[:4].T * signs, atol=1e-8)
    np.testing.assert_allclose(basis.mean, vectors.mean(axis=0, dtype=np.float64), atol=1e-9)
    assert basis.explained == pytest.approx((lengths[:4] ** 2).sum() / (lengths**2).sum())
    np.testing.assert_allclose(basis.project(vectors), centred @ (rows[:4].T * signs), atol=1e-4)


def test_directions_are_orthonormal_and_their_largest_entry_is_positive() -> None:
    components = fit_basis([some_vectors()], 5, "reduce").components
    np.testing.assert_allclose(components.T @ components, np.eye(5), atol=1e-12)
    assert (components[np.abs(components).argmax(axis=0), range(5)] > 0).all()


def test_vectors_far_from_the_origin_lose_nothing() -> None:
    near, far = (fit_basis(blocks(some_vectors(centre=centre), [7]), 3, "reduce") for centre in (0, 1000))
    np.testing.assert_allclose(near.components, far.components, atol=1e-3)


def test_equal_vectors_give_an_equal_basis() -> None:
    first, second = (fit_basis(blocks(some_vectors(), [20, 20]), 3, "reduce") for _ in range(2))
    assert first.content() == second.content()


def test_the_basis_on_disk_gives_the_vectors_back_but_for_what_was_cut_off() -> None:
    vectors = some_vectors()
    basis = fit_basis([vectors], 11, "reduce")
    saved = load(basis.content())
    assert {name: (array.shape, array.dtype) for name, array in saved.items()} == {
        "mean": ((12,), np.float32),
        "components": ((12, 11), np.float32),
    }
    back = basis.project(vectors) @ saved["components"].T + saved["mean"]
    lost = ((vectors - back) ** 2).sum() / ((vectors - vectors.mean(axis=0)) ** 2).sum()
    assert lost == pytest.approx(1 - basis.explained, abs=1e-5)


def test_vectors_of_f16_are_taken_and_projected_as_f32() -> None:
    vectors = some_vectors().astype(np.float16)
    basis = fit_basis([vectors], 2, "reduce")
    assert basis.project(vectors).dtype == np.float32
    np.testing.assert_allclose(basis.components, fit_basis([vectors.astype(np.float32)], 2, "reduce").components)


def test_vectors_that_are_all_alike_explain_nothing() -> None:
    basis = fit_basis([np.ones((9, 4), dtype=np.float32)], 2, "reduce")
    assert basis.explained == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(basis.project(np.ones((1, 4), dtype=np.float32)), [[0, 0]], atol=1e-12)


@pytest.mark.parametrize(("n", "dimension", "k"), [(4, 12, 4), (200, 12, 12), (0, 12, 1)])
def test_too_few_vectors_or_numbers_are_refused(n: int, dimension: int, k: int) -> None:
    with pytest.raises(DataError) as caught:
        fit_basis([some_vectors()[:n]], k, "encoders.minilm.reduce")
    found = f"{n} of {dimension if n else 0}"
    assert str(caught.value) == (
        f"encoders.minilm.reduce: pca:{k} needs more than {k} vectors of more than {k} numbers; found {found}"
    )
