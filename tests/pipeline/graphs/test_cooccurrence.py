"""Co-occurrence against pair-by-pair counting."""

import logging
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_array, random_array

from mmprep.pipeline.graphs.common_counts import blocks_of
from mmprep.pipeline.graphs.cooccurrence import Cooccurrence, co_bought, co_bought_share, cooccurrence_graph
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.packed_ranks import Ranks
from mmprep.pipeline.graphs.params import CooccurrenceParams, UserUserParams
from mmprep.pipeline.progress import Advance

Matrix = npt.NDArray[np.float32]
Edge = tuple[int, int, float]

BINARY = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=8),
    elements=st.sampled_from([0.0, 1.0]),
)
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def as_tuples(edges: Edges) -> list[Edge]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))


def common(interactions: Matrix, one: int, other: int) -> int:
    return sum(1 for row in interactions if row[one] and row[other])


def ranked_by_double_loop(interactions: Matrix, min_count: int) -> list[list[Edge]]:
    """All neighbours of each item, the best first, pair by pair."""
    items = range(interactions.shape[1])
    ranked = []
    for source in items:
        counts = [(-common(interactions, source, target), target) for target in items if target != source]
        ranked.append([(source, target, float(-count)) for count, target in sorted(counts) if -count >= min_count])
    return ranked


def shop(users: int = 300, items: int = 80, seed: int = 0) -> csr_array:
    """Interactions, denser for some items, so that there are ties and rows with and without a cut."""
    chance = np.random.default_rng(seed)
    return csr_array((chance.random((users, items)) < 0.3 * chance.random(items) ** 3).astype(np.float32))


def joined(interactions: csr_array, **changed: int) -> Cooccurrence:
    return cooccurrence_graph(interactions, CooccurrenceParams(**changed))


@thorough
@given(
    interactions=BINARY,
    min_count=st.integers(1, 4),
    k=st.integers(1, 9),
    max_degree=st.integers(1, 9),
    block_entries=st.sampled_from([1, 7, 64]),
)
def test_cooccurrence_is_that_of_a_double_loop(
    interactions: Matrix, min_count: int, k: int, max_degree: int, block_entries: int
) -> None:
    params = CooccurrenceParams(min_count=min_count, k=k, max_degree=max_degree)
    found = cooccurrence_graph(csr_array(interactions), params, block_entries=block_entries)
    short = interactions[interactions.sum(axis=1) <= max_degree]
    ranked = ranked_by_double_loop(short, min_count)
    assert as_tuples(found.edges) == [edge for row in ranked for edge in row[:k]]
    assert found.candidates.tolist() == [len(row) for row in ranked]
    assert found.cut == sum(len(row) > k for row in ranked)
    assert found.tied == sum(len(row) > k and row[k][2] == row[k - 1][2] for row in ranked)
    assert found.left_out == len(interactions) - len(short)
    assert found.left_out_interactions == int(interactions.sum() - short.sum())


def test_edges_have_the_types_of_their_table() -> None:
    edges = joined(shop()).edges
    assert (edges.source.dtype, edges.target.dtype, edges.weight.dtype) == (np.int32, np.int32, np.float32)


def test_cooccurrence_of_a_known_shop() -> None:
    interactions = csr_array(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=np.float32))
    assert as_tuples(joined(interactions).edges) == [(0, 1, 2.0), (1, 0, 2.0), (1, 2, 2.0), (2, 1, 2.0)]
    cut = joined(interactions, k=1)
    assert as_tuples(cut.edges) == [(0, 1, 2.0), (1, 0, 2.0), (2, 1, 2.0)]
    assert (cut.cut, cut.tied) == (1, 1)


@pytest.mark.parametrize("block_entries", [1, 7, 80, 10**6])
@pytest.mark.parametrize("cores", [None, 1, 3])
def test_blocks_and_threads_change_nothing(
    block_entries: int, cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = CooccurrenceParams(min_count=1, k=12)
    expected = cooccurrence_graph(shop(), params)
    monkeypatch.setattr("mmprep.pipeline.graphs.common_counts.cpu_count", lambda: cores)
    found = cooccurrence_graph(shop(), params, block_entries=block_entries)
    assert as_tuples(found.edges) == as_tuples(expected.edges)
    assert (found.cut, found.tied) == (expected.cut, expected.tied)
    assert expected.cut > expected.tied > 0


def test_the_order_of_users_changes_nothing() -> None:
    order = np.random.default_rng(1).permutation(300)
    assert as_tuples(joined(shop()[order]).edges) == as_tuples(joined(shop()).edges)


def test_items_joined_by_two_users_are_among_those_joined_by_one() -> None:
    loose, strict = (as_tuples(joined(shop(), min_count=count, k=80).edges) for count in (1, 2))
    assert set(strict) < set(loose)
    assert {weight for *_, weight in set(loose) - set(strict)} == {1.0}


def test_another_train_interaction_joins_the_items_that_it_gives_a_second_user() -> None:
    before = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=np.float32)
    after = before.copy()
    after[2, 0] = 1
    assert as_tuples(joined(csr_array(before)).edges) == []
    assert as_tuples(joined(csr_array(after)).edges) == [(0, 2, 2.0), (2, 0, 2.0)]


def test_the_interactions_stay_as_they_are() -> None:
    interactions = shop()
    joined(interactions, max_degree=5)
    co_bought_share(interactions)
    np.testing.assert_array_equal(interactions.toarray(), shop().toarray())
    assert interactions.dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (3, 4)])
def test_without_interactions_nothing_is_joined(shape: tuple[int, int]) -> None:
    nothing = csr_array(shape, dtype=np.float32)
    found = joined(nothing)
    assert (len(found.edges), found.candidates.tolist(), found.cut, found.tied) == (0, [0] * shape[1], 0, 0)
    assert co_bought_share(nothing) == 0.0


def test_rows_beyond_max_degree_are_told_in_one_line_with_the_key_to_raise(caplog: pytest.LogCaptureFixture) -> None:
    interactions = csr_array(np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=np.float32))
    found = joined(interactions, max_degree=2, min_count=1)
    assert as_tuples(found.edges) == [(0, 1, 1.0), (1, 0, 1.0)]
    assert (found.left_out, found.left_out_interactions) == (2, 7)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "graphs.cooccurrence: 2 of 3 users have more than 2 train interactions and are excluded: 7 interactions "
            "are left out; raise graphs.cooccurrence.max_degree to count them",
        )
    ]


def test_joining_users_names_items_and_their_own_key(caplog: pytest.LogCaptureFixture) -> None:
    cooccurrence_graph(csr_array(shop().T), UserUserParams(max_degree=80))
    assert "of 80 items have more than 80 train" in caplog.text
    assert "raise graphs.user_user.max_degree" in caplog.text


def test_nothing_is_told_when_no_row_is_beyond_max_degree(caplog: pytest.LogCaptureFixture) -> None:
    joined(csr_array(np.ones((2, 3), dtype=np.float32)), max_degree=3)
    assert not caplog.records


def test_a_user_of_many_items_does_not_cost_the_memory_of_their_pairs() -> None:
    items = 3000
    interactions = csr_array(np.ones((1, items), dtype=np.float32))
    params = CooccurrenceParams(min_count=1, k=2, max_degree=items)
    tracemalloc.start()
    found = cooccurrence_graph(interactions, params, block_entries=4 * items)
    share = co_bought_share(interactions, block_entries=4 * items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.edges.target[:6].tolist() == [1, 2, 0, 2, 0, 1]
    assert (share, len(found.edges)) == (1.0, 2 * items)
    pairs = items**2 * 8  # bytes of an index and a count each
    assert peak < pairs / 8


def test_progress_is_of_all_pairs_and_comes_in_pieces() -> None:
    totals, shown = [], []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        assert (task, unit) == ("common neighbours", "pairs")
        totals.append(total)
        yield lambda units, _: shown.append(units)

    pairs = int((np.diff(shop().indptr) ** 2).sum())
    cooccurrence_graph(shop(), CooccurrenceParams(), progress, block_entries=500)
    assert totals == [pairs]
    assert sum(shown) == pairs
    assert len(shown) > 5


@thorough
@given(sizes=st.lists(st.integers(0, 9)), most=st.integers(1, 20), most_rows=st.integers(1, 5))
def test_blocks_are_as_large_as_they_may_be(sizes: list[int], most: int, most_rows: int) -> None:
    blocks = blocks_of(np.array(sizes, dtype=np.int64), most, most_rows)
    assert [place for block in blocks for place in range(block.start, block.stop)] == list(range(len(sizes)))
    for block in blocks:
        rows = block.stop - block.start
        assert rows == 1 or (sum(sizes[block]) <= most and rows <= most_rows)
        if block.stop < len(sizes):
            assert rows == most_rows or sum(sizes[block.start : block.stop + 1]) > most


def test_ranks_hold_the_largest_numbers_that_there_can_be() -> None:
    ranks = Ranks(count_bits=31, column_bits=30)
    last, count, column = np.array([ranks.most_rows - 1]), np.array([2**31 - 1], "i4"), np.array([2**30 - 1], "i4")
    packed = np.concatenate([ranks.pack(last, count, column), ranks.pack(last, count * 0 + 1, column * 0)])
    assert ranks.row(packed).tolist() == [3, 3]
    assert ranks.count(packed).tolist() == [2**31 - 1, 1]
    assert ranks.edges(packed, 5).target.tolist() == [2**30 - 1, 0]
    assert ranks.edges(packed, 5).source.tolist() == [8, 8]
    assert packed[0] < packed[1]


@thorough
@given(interactions=BINARY.filter(lambda matrix: matrix.shape[1] > 0), block_entries=st.sampled_from([1, 7, 1000]))
def test_bought_together_is_having_a_common_user(interactions: Matrix, block_entries: int) -> None:
    n_items = interactions.shape[1]
    source, target = (each.ravel().astype("i4") for each in np.meshgrid(np.arange(n_items), np.arange(n_items)))
    found = co_bought(csr_array(interactions), source, target, block_entries=block_entries)
    expected = [common(interactions, a, b) > 0 for a, b in zip(source, target, strict=True)]
    assert found.tolist() == expected


@thorough
@given(interactions=BINARY, block_entries=st.sampled_from([1, 7, 1000]))
def test_the_share_bought_together_is_that_of_all_pairs(interactions: Matrix, block_entries: int) -> None:
    pairs = list(permutations(range(interactions.shape[1]), 2))
    together = sum(common(interactions, *pair) > 0 for pair in pairs)
    found = co_bought_share(csr_array(interactions), block_entries=block_entries)
    assert found == (together / len(pairs) if pairs else 0.0)


def test_no_pairs_are_asked_and_none_found() -> None:
    none = np.array([], dtype=np.int32)
    assert co_bought(shop(), none, none).tolist() == []


def test_a_bestseller_in_many_pairs_is_looked_up_by_the_other_item() -> None:
    users, items = 2000, 500
    interactions = random_array((users, items), density=0.002, rng=0, format="lil")
    interactions[:, [0]] = 1
    interactions = csr_array(interactions)
    others = np.arange(1, items, dtype=np.int32)
    bestseller = np.zeros_like(others)
    sold = np.asarray(interactions[:, 1:].sum(axis=0)) > 0
    tracemalloc.start()
    for source, target in ((bestseller, others), (others, bestseller)):
        np.testing.assert_array_equal(co_bought(interactions, source, target), sold)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < users * items * 8 / 4
