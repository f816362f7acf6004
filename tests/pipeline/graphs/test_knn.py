"""Nearest neighbours against a dense computation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs import knn as neighbors
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.knn import candidates, consistent, drop_excess_duplicates, nearest
from mmprep.pipeline.progress import Advance

Vectors = npt.NDArray[np.float32]


def cosines(vectors: Vectors) -> Cosines:
    return Cosines.of(vectors, np.arange(len(vectors), dtype=np.int32), Path("features/minilm"))


def quarters(n: int, zero: tuple[int, ...] = (), seed: int = 0) -> Vectors:
    """Vectors of four ones each, so that cosines are quarters, without any rounding and with many ties."""
    vectors = np.zeros((n, 12), dtype=np.float32)
    rng = np.random.default_rng(seed)
    for vector in vectors:
        vector[rng.choice(12, size=4, replace=False)] = 1
    vectors[list(zero)] = 0
    return vectors


def dense(vectors: Vectors) -> npt.NDArray[np.float32]:
    """The matrix of cosines; zeros for vectors of zeros."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide**2).sum(axis=1))
    lengths[lengths == 0] = np.inf
    return np.array((wide @ wide.T) / lengths / lengths[:, None], dtype=np.float32)


def dense_nearest(vectors: Vectors, k: int, include_self: bool) -> list[tuple[int, int, float]]:
    """The edges by the full matrix and a stable sort."""
    matrix, there = dense(vectors), np.flatnonzero(vectors.any(axis=1))
    edges = []
    for row in there:
        ranked = sorted((-matrix[row, other], other) for other in there if include_self or other != row)
        edges += [(int(row), int(other), -float(weight)) for weight, other in ranked[:k]]
    return edges


def dense_consistent(views: list[Vectors], own: int, k: int) -> list[tuple[int, int, float]]:
    """The consistent edges of one modality by the full matrices."""
    matrices = [dense(view) for view in views]
    agreed = np.ones_like(matrices[0], dtype=bool)
    for matrix in matrices:
        agreed &= (matrix >= np.float32(matrix.mean(dtype=np.float64))) & (matrix != 0)
    edges = []
    for row, similar in enumerate(matrices[own]):
        ranked = sorted((-similar[other], other) for other in np.flatnonzero(agreed[row] & (similar > 0)))
        edges += [(row, int(other), -float(weight)) for weight, other in ranked[:k]]
    return edges


def as_tuples(edges: Edges) -> list[tuple[int, int, float]]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))


def pairs(edges: list[tuple[int, int, float]]) -> list[tuple[int, int]]:
    return [edge[:2] for edge in edges]


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("k", [1, 3, 10, 27])
def test_neighbours_are_those_of_the_dense_matrix(k: int, include_self: bool) -> None:
    vectors = quarters(30, zero=(0, 17))
    edges = nearest(cosines(vectors), k, include_self=include_self).edges
    assert as_tuples(edges) == dense_nearest(vectors, k, include_self)
    assert (edges.source.dtype, edges.target.dtype, edges.weight.dtype) == (np.int32, np.int32, np.float32)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 60),
    dimension=st.integers(1, 6),
    k=st.integers(1, 12),
    groups=st.integers(1, 64),
    rows=st.integers(1, 64),
    seed=st.integers(0, 10_000),
)
def test_neighbours_of_any_vectors_are_nearest(
    n: int, dimension: int, k: int, groups: int, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few different numbers: many vectors are equal, some are zero.
    vectors = rng.integers(-2, 3, (n, dimension)).astype(np.float32)
    available = int(vectors.any(axis=1).sum())
    if k > available:
        with pytest.raises(DataError, match=f"only {available} items could be"):
            nearest(cosines(vectors), k, include_self=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "GROUPS", groups)
        patch.setattr(neighbors, "BLOCK_ROWS", rows)
        found = nearest(cosines(vectors), k, include_self=True)
    assert as_tuples(found.edges) == dense_nearest(vectors, k, include_self=True)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 29, 300])
def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch, rows: int, include_self: bool) -> None:
    vectors = np.random.default_rng(2).normal(size=(300, 40)).astype(np.float32)
    whole = as_tuples(nearest(cosines(vectors), 5, include_self=include_self).edges)
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", rows)
    assert as_tuples(nearest(cosines(vectors), 5, include_self=include_self).edges) == whole


def test_memory_bounds_a_block() -> None:
    assert [block.stop - block.start for block in neighbors.row_blocks(2500)] == [1024, 1024, 452]
    assert next(neighbors.row_blocks(2**20)) == slice(0, 32)
    assert list(neighbors.row_blocks(0)) == []


def test_order_of_the_rows_changes_no_bit() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(200, 33)).astype(np.float32)
    order = rng.permutation(200)
    plain = as_tuples(nearest(cosines(vectors), 6, include_self=True).edges)
    shuffled = as_tuples(nearest(cosines(vectors[order]), 6, include_self=True).edges)
    renamed = [(int(order[source]), int(order[target]), weight) for source, target, weight in shuffled]
    assert sorted(renamed) == sorted(plain)


def off(products: Vectors, right: list[Edges], error: float) -> Vectors:
    """Products that are off by nearly `error` in the worst way: too small where they should win, else too large."""
    wins = np.zeros(products.shape, dtype=bool)
    for edges in right:
        wins[edges.source, edges.target] = True
    return (products + np.where(wins, -0.99 * error, 0.99 * error)).astype(np.float32)


def test_products_that_are_off_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    # As another library or another number of threads would sum them, but much more so, that the margin matters.
    monkeypatch.setattr(Cosines, "error", 0.02)
    vectors = np.random.default_rng(4).normal(size=(400, 64)).astype(np.float32)
    expected = nearest(cosines(vectors), 3, include_self=False)
    exact_candidates = neighbors.candidates

    def from_bad_products(sure: Vectors, _: Vectors, count: int, slack: float) -> tuple[object, object]:
        bad = off(sure, [expected.edges], 0.02)
        return exact_candidates(bad, bad, count, slack)

    monkeypatch.setattr(neighbors, "candidates", from_bad_products)
    found = nearest(cosines(vectors), 3, include_self=False)
    assert as_tuples(found.edges) == as_tuples(expected.edges)
    assert (found.cut, found.tied) == (expected.cut, expected.tied)


def test_similarities_are_right_to_the_last_bit() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    found = as_tuples(nearest(cosines(vectors), 4, include_self=False).edges)
    assert found == dense_nearest(vectors, 4, include_self=False)


@pytest.mark.parametrize("include_self", [True, False])
def test_equal_items_come_by_index(include_self: bool) -> None:
    found = nearest(cosines(np.ones((5, 4), dtype=np.float32)), 2, include_self=include_self)
    if include_self:
        assert as_tuples(found.edges) == [(source, target, 1.0) for source in range(5) for target in (0, 1)]
    else:
        assert found.edges.target.tolist() == [1, 2, 0, 2, 0, 1, 0, 1, 0, 1]
    assert (found.cut, found.tied) == (5, 5)


def test_many_equal_items_are_thinned_before_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 100, axis=0)
    compared = []
    exact = Cosines.exact
    monkeypatch.setattr(Cosines, "exact", lambda self, *ends: compared.append(len(ends[0])) or exact(self, *ends))
    found = nearest(cosines(vectors), 4, include_self=True)
    assert sum(compared) == 300 * 5
    assert found.edges.target.reshape(300, 4)[[0, 150, 299]].tolist() == [
        [0, 1, 2, 3],
        [*range(100, 104)],
        [*range(200, 204)],
    ]


def test_thinning_keeps_the_first_of_each_kind() -> None:
    rows, columns = np.array([0, 0, 0, 0, 1, 1]), np.array([5, 2, 3, 1, 3, 1])
    kept = drop_excess_duplicates(rows, columns, np.array([9, 4, 4, 4, 9, 7]), 2)
    assert sorted(zip(*(each.tolist() for each in kept), strict=True)) == [(0, 1), (0, 2), (0, 5), (1, 1), (1, 3)]
    assert drop_excess_duplicates(rows, columns, None, 2)[0] is rows


def test_ties_at_the_cut_are_counted() -> None:
    # Item 0 has two neighbours at 45 degrees, of which one is left out; the others have no such tie.
    vectors = np.array([[1, 0], [1, 1], [1, -1], [0, 1.5], [-1, -9]], dtype=np.float32)
    found = nearest(cosines(vectors), 1, include_self=False)
    assert (found.cut, found.tied) == (5, 2)  # item 1 has 0 and 3 at 45 degrees
    assert nearest(cosines(vectors), 4, include_self=False).cut == 0


def test_items_whose_vector_is_zero_have_no_edges() -> None:
    edges = nearest(cosines(quarters(10, zero=(3, 9))), 4, include_self=True).edges
    assert set(edges.source.tolist()) == set(range(10)) - {3, 9}
    assert set(edges.target.tolist()) <= set(range(10)) - {3, 9}
    assert np.isfinite(edges.weight).all()


@pytest.mark.parametrize("exponent", [-140, -60, 60, 120])
def test_neighbours_do_not_depend_on_the_length_of_vectors(exponent: int) -> None:
    expected = as_tuples(nearest(cosines(quarters(20)), 5, include_self=True).edges)
    scaled = np.ldexp(quarters(20), exponent)
    assert as_tuples(nearest(cosines(scaled), 5, include_self=True).edges) == expected


@pytest.mark.parametrize(("k", "include_self", "possible"), [(9, True, 8), (8, False, 7), (20, True, 8)])
def test_k_beyond_the_items_is_refused(k: int, include_self: bool, possible: int) -> None:
    with pytest.raises(DataError) as caught:
        nearest(cosines(quarters(10, zero=(0, 1))), k, include_self=include_self)
    assert str(caught.value) == (
        f"k = {k} neighbours asked for, but only {possible} items could be; lower graphs.knn.k"
    )


@pytest.mark.parametrize("include_self", [True, False])
def test_no_vectors_at_all_are_refused(include_self: bool) -> None:
    for vectors in (np.zeros((0, 4), dtype=np.float32), quarters(1, zero=(0,))):
        with pytest.raises(DataError, match="only 0 items could be"):
            nearest(cosines(vectors), 1, include_self=include_self)


def test_progress_is_told_of_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 4)
    told: list[object] = []

    @contextmanager
    def listen(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        told.append((task, total, unit))
        yield lambda units, _: told.append(units)

    nearest(cosines(quarters(10)), 2, include_self=True, progress=listen)
    assert told == [("nearest neighbours", 10, "items"), 4, 4, 2]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_candidates_hold_the_best_and_all_that_is_as_good(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(neighbors, "GROUPS", 4)
    values = np.round(np.random.default_rng(6).normal(size=(9, 203)), 1).astype(np.float32)
    rows, columns = candidates(values, values, count, 0.05)
    found = set(zip(rows.tolist(), columns.tolist(), strict=True))
    for row, numbers in enumerate(values):
        last = np.sort(numbers)[-count]
        assert {(row, int(column)) for column in np.flatnonzero(numbers >= last - 0.05)} <= found
    assert len(found) == len(rows) < values.size / 2


def test_what_is_out_is_no_candidate_although_fewer_are_left_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "GROUPS", 4)
    values = np.full((2, 203), -np.inf, dtype=np.float32)
    values[0, [7, 11, 200]] = 0.5
    rows, columns = candidates(values, values, 5, 0.05)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 7), (0, 11), (0, 200)]


def noisy(seed: int, n: int = 40) -> list[Vectors]:
    """Two modalities that agree about three groups of items, each in its way."""
    rng = np.random.default_rng(seed)
    groups = np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]
    return [
        np.hstack([groups + rng.normal(0, noise, (n, 3)), rng.normal(0, 0.5, (n, 4))]).astype(np.float32)
        for noise in (0.3, 0.6)
    ]


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("k", [1, 4, 50])
def test_consistent_neighbours_are_those_of_the_dense_matrices(
    monkeypatch: pytest.MonkeyPatch, rows: int, k: int
) -> None:
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", rows)
    views = noisy(0)
    found = consistent([cosines(view) for view in views], k)
    for own, each in enumerate(found):
        assert as_tuples(each.edges) == dense_consistent(views, own, k)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_consistent_neighbours_of_any_vectors(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    views = [rng.normal(0, 1, (n, 3)).astype(np.float32) + np.float32(0.4) for _ in range(2)]
    for own, each in enumerate(consistent([cosines(view) for view in views], k)):
        assert as_tuples(each.edges) == dense_consistent(views, own, k)


def mask(views: list[Vectors]) -> set[tuple[int, int]]:
    """All pairs on which the modalities agree."""
    found = consistent([cosines(view) for view in views], len(views[0]))
    return set(pairs([edge for each in found for edge in as_tuples(each.edges)]))


def test_agreement_is_mutual_and_with_oneself() -> None:
    agreed = mask(noisy(1))
    assert agreed == {(target, source) for source, target in agreed}
    assert {(item, item) for item in range(40)} <= agreed


def test_a_further_modality_only_takes_away() -> None:
    first, second = noisy(2)
    assert mask([first, second]) < mask([first])
    assert mask([first, second]) == mask([first]) & mask([second])
    assert mask([first, first]) == mask([first])
    assert mask([first, second, first]) == mask([first, second])


def test_equal_modalities_have_equal_neighbours() -> None:
    view = noisy(3)[0]
    first, second = consistent([cosines(view), cosines(view.copy())], 5)
    assert as_tuples(first.edges) == as_tuples(second.edges)


def test_consistent_neighbours_are_between_one_and_k() -> None:
    for each in consistent([cosines(view) for view in noisy(4)], 5):
        degrees = np.bincount(each.edges.source, minlength=40)
        assert (degrees.min() >= 1, degrees.max()) == (True, 5)
        assert {(item, item) for item in range(40)} <= set(pairs(as_tuples(each.edges)))
        assert (each.edges.weight > 0).all()


def test_item_with_a_zero_vector_in_a_modality_agrees_with_nobody() -> None:
    views = noisy(5)
    views[1][7] = 0
    for each in consistent([cosines(view) for view in views], 5):
        assert 7 not in each.edges.source
        assert 7 not in each.edges.target


def test_items_that_are_all_alike_are_all_consistent() -> None:
    views = [np.full((6, 3), value, dtype=np.float32) for value in (0.1, 7.3)]
    for each in consistent([cosines(view) for view in views], 4):
        assert each.edges.target.tolist() == [0, 1, 2, 3] * 6
        assert each.edges.weight.tolist() == [1.0] * 24


def test_consistent_neighbours_survive_products_that_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cosines, "error", 0.05)
    views = [cosines(view) for view in noisy(6, n=200)]
    expected = [each.edges for each in consistent(views, 4)]
    exact_agreeing = neighbors.agreeing

    def from_bad_products(given: list[Cosines], products: list[Vectors], floors: list[np.float32]) -> object:
        for product in products:
            product[:] = off(product, expected, 0.05)
        return exact_agreeing(given, products, floors)

    monkeypatch.setattr(neighbors, "agreeing", from_bad_products)
    assert [as_tuples(each.edges) for each in consistent(views, 4)] == [as_tuples(edges) for edges in expected]


@pytest.mark.parametrize("sign", [-1, 1])
def test_agreement_is_sure_or_possible_as_products_can_be_off(monkeypatch: pytest.MonkeyPatch, sign: int) -> None:
    monkeypatch.setattr(Cosines, "error", 0.05)
    views, exact = [cosines(view) for view in noisy(8)], [dense(view) for view in noisy(8)]
    floors = [np.float32(view.mean) for view in views]
    agreed = (exact[0] >= floors[0]) & (exact[1] >= floors[1])
    sure, possible = neighbors.agreeing(views, [each + np.float32(0.049 * sign) for each in exact], floors)
    assert not (sure & ~agreed).any()
    assert not (agreed & ~possible).any()
    assert sure.any()
    assert not possible.all()


def repeated(seed: int, n: int = 60) -> list[Vectors]:
    """Two modalities of few different vectors, so that most items are equal to many others in one of them."""
    rng = np.random.default_rng(seed)
    return [quarters(6, seed=seed + modality)[rng.integers(0, 6, n)] for modality in range(2)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("error", [1e-6, 0.3])  # by the second it is sure of few pairs that they agree
def test_consistent_neighbours_among_equal_items(
    monkeypatch: pytest.MonkeyPatch, error: float, k: int, seed: int
) -> None:
    monkeypatch.setattr(Cosines, "error", error)
    views = repeated(seed)
    for own, each in enumerate(consistent([cosines(view) for view in views], k)):
        assert as_tuples(each.edges) == dense_consistent(views, own, k)
        ranked: dict[int, list[float]] = {}
        for row, _, weight in dense_consistent(views, own, len(views[0])):
            ranked.setdefault(row, []).append(weight)
        cut = [weights for weights in ranked.values() if len(weights) > k]
        assert (each.cut, each.tied) == (len(cut), sum(weights[k] == weights[k - 1] for weights in cut))


def test_many_equal_items_are_thinned_before_modalities_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    # All photos of a half are the same, as of a shop's placeholder; the texts tell three groups.
    texts = np.repeat(np.eye(3, dtype=np.float32), 100, axis=0)
    photos = np.repeat(np.eye(2, dtype=np.float32), 150, axis=0)
    compared = []
    exact = Cosines.exact
    monkeypatch.setattr(Cosines, "exact", lambda self, *ends: compared.append(len(ends[0])) or exact(self, *ends))
    consistent([cosines(photos), cosines(texts)], 4)
    assert sum(compared) < 300 * 5 * 4 * 2


def test_similarity_of_0_is_no_agreement_although_the_mean_is_0() -> None:
    around = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    (found,) = consistent([cosines(around)], 4)
    assert as_tuples(found.edges) == [(item, item, 1.0) for item in range(4)]


def test_only_items_with_a_vector_in_every_modality_are_compared() -> None:
    told: list[object] = []

    @contextmanager
    def listen(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        told.append((task, total, unit))
        yield lambda units, _: told.append(units)

    views = noisy(5)
    views[0][3], views[1][7] = 0, 0
    consistent([cosines(view) for view in views], 5, listen)
    assert told == [("consistent neighbours", 38, "items"), 38]
    views[0][:] = 0
    assert [len(each.edges) for each in consistent([cosines(view) for view in views], 5)] == [0, 0]


def test_neighbours_can_be_joined_under_other_numbers() -> None:
    edges = nearest(cosines(quarters(4)), 2, include_self=True).edges
    named = edges.renumbered(np.array([2, 3, 5, 9]))
    assert set(named.source.tolist()) == {2, 3, 5, 9}
    assert named.weight is edges.weight
