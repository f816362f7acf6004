"""Cosine similarities against plain arithmetic."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs import cosine as similarity
from mmprep.pipeline.graphs.cosine import Cosines

Vectors = npt.NDArray[np.float32]


def cosines(vectors: Vectors) -> Cosines:
    return Cosines.of(vectors, np.arange(len(vectors), dtype=np.int32), Path("features/minilm"))


def some(n: int = 40, dimension: int = 33, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)


def everyone(found: Cosines) -> Vectors:
    left, right = np.indices((len(found), len(found))).reshape(2, -1)
    return found.exact(left, right).reshape(len(found), -1)


def test_similarity_is_the_cosine_rounded_once() -> None:
    vectors = some()
    wide = vectors.astype(np.longdouble)
    lengths = np.sqrt((wide**2).sum(axis=1))
    expected = ((wide @ wide.T) / (lengths * lengths[:, None])).astype(np.float32)
    np.testing.assert_array_equal(everyone(cosines(vectors)), expected)


def test_similarity_of_a_pair_is_mutual_and_that_with_oneself_one() -> None:
    found = everyone(cosines(some()))
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)


@pytest.mark.parametrize("factor", [3.0, 0.1, 1e30, 1e-30])
def test_same_direction_gives_the_same_similarities(factor: float) -> None:
    vectors = np.round(some() * 4)  # whole numbers, which a factor may round
    found = cosines(np.vstack([vectors, (vectors * factor).astype(np.float32)]))
    left, right = np.arange(40), np.arange(40, 80)
    np.testing.assert_array_equal(found.exact(left, right), 1)


@pytest.mark.parametrize("numbers", [1, 33, 100, 10**6])
def test_pieces_change_no_bit(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    expected, mean = everyone(cosines(some())), cosines(some()).mean
    monkeypatch.setattr(similarity, "PIECE_NUMBERS", numbers)
    np.testing.assert_array_equal(everyone(cosines(some())), expected)
    assert cosines(some()).mean == pytest.approx(mean, rel=1e-15)


def test_vector_of_zeros_is_similar_to_nothing() -> None:
    vectors = some()
    vectors[3] = 0
    found = everyone(cosines(vectors))
    assert not found[3].any()
    assert not found[:, 3].any()
    assert not cosines(vectors).unit[3].any()


@settings(max_examples=60, deadline=None)
@given(dimension=st.integers(1, 2000), seed=st.integers(0, 10_000), scale=st.sampled_from([1e-35, 1.0, 1e35]))
def test_products_are_never_further_off_than_the_error(dimension: int, seed: int, scale: float) -> None:
    vectors = (some(12, dimension, seed) * scale).astype(np.float32)
    vectors[6:] = vectors[:6] * np.float32(1.1)  # nearly 1, where roundings are largest
    found = cosines(vectors)
    forwards = found.unit @ found.unit.T
    backwards = np.array([[sum((a * b).tolist(), np.float32(0)) for b in found.unit] for a in found.unit[:1]])
    for product, exact in ((forwards, everyone(found)), (backwards, everyone(found)[:1])):
        assert np.abs(product - exact.astype(np.float64)).max() <= found.error


def test_error_allows_for_roundings_that_all_go_one_way() -> None:
    found = cosines(np.ones((1, 1801), dtype=np.float32))
    product = np.cumsum(found.unit[0] ** 2, dtype=np.float32)[-1]
    assert found.error / 8 < abs(float(product) - 1) <= found.error


def test_mean_is_that_of_the_whole_matrix() -> None:
    for vectors in (some(), some(7, 3), np.abs(some(100, 5))):
        wide = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        assert cosines(vectors).mean == pytest.approx((wide @ wide.T).mean(), rel=1e-12)


@pytest.mark.parametrize("pieces", [1, 50, 2**17])
def test_order_of_the_items_changes_no_bit_of_the_mean(monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    monkeypatch.setattr(similarity, "PIECE_NUMBERS", pieces)
    vectors, rng = np.abs(some(500, 20)), np.random.default_rng(1)
    means = {cosines(vectors[rng.permutation(500)]).mean for _ in range(20)}
    assert len(means) == 1
    assert means == {cosines(np.vstack([vectors, np.zeros((700, 20), dtype=np.float32)])).mean}


def test_mean_of_a_known_case() -> None:
    # Two items at a right angle: each is 1 to itself and 0 to the other. A third has no vector.
    assert cosines(np.array([[2, 0], [0, 5], [0, 0]], dtype=np.float32)).mean == float(Fraction(1, 2))
    assert cosines(np.zeros((0, 4), dtype=np.float32)).mean == 0.0
    assert cosines(np.zeros((2, 4), dtype=np.float32)).mean == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    vectors = some()
    vectors[4, 2] = vectors[9, 0] = bad
    with pytest.raises(DataError) as caught:
        Cosines.of(vectors, np.arange(100, 140, dtype=np.int32), Path("features/minilm"))
    assert str(caught.value) == (
        "features/minilm: found NaN or infinite numbers in the vectors of 2 items, item 104 first, expected finite "
        "ones; run `mmprep extract --encoder minilm` again"
    )


def test_largest_finite_numbers_are_not_taken_for_infinite() -> None:
    found = cosines(np.full((2, 5), np.finfo(np.float32).max, dtype=np.float32))
    assert everyone(found).tolist() == [[1, 1], [1, 1]]


def test_equal_vectors_share_a_number() -> None:
    vectors = some()
    assert cosines(vectors).duplicates() is None
    vectors[[5, 9]] = vectors[1]
    classes = cosines(vectors).duplicates()
    assert classes is not None
    assert classes[1] == classes[5] == classes[9]
    assert len(set(classes.tolist())) == 38


def test_those_of_some_items() -> None:
    found = cosines(some()).take(np.array([3, 8]))
    assert found.exact(np.array([0]), np.array([1])) == cosines(some()).exact(np.array([3]), np.array([8]))
