import builtins
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs import hnsw as approximate
from mmprep.pipeline.graphs.cosine import equal_rows
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.hnsw import built, candidates, expanded, sampled_recall
from mmprep.pipeline.progress import Advance, silent

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


def unit(vectors: npt.NDArray[Any]) -> Floats:
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def clustered(n: int = 3000, dimension: int = 24, seed: int = 0) -> Floats:
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((n // 30, dimension))
    return unit(centres[chance.integers(0, len(centres), n)] + 0.7 * chance.standard_normal((n, dimension)))


def edges_of(found: Index) -> Edges:
    source, place = np.nonzero(found >= 0)
    return Edges(source.astype(np.int32), found[source, place].astype(np.int32), np.ones(len(source), np.float32))


def exact(rows: Floats, k: int) -> Index:
    return np.argsort(-(rows @ rows.T), axis=1, kind="stable")[:, :k]


def test_candidates_hold_the_nearest_neighbours() -> None:
    rows = clustered()
    found = candidates(rows, 10)
    assert found.shape == (len(rows), 10 * approximate.SURPLUS)
    assert found.dtype == np.int64
    assert sampled_recall(edges_of(found), rows, 10, include_self=True) > 0.99


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def test_same_rows_give_the_same_candidates_on_any_number_of_threads() -> None:
    rows = clustered()
    runs = []
    for count in (1, 4, 4):
        with threads(count):
            runs.append(candidates(rows, 5))
    assert np.array_equal(runs[0], runs[1])
    assert np.array_equal(runs[1], runs[2])


def test_links_do_not_depend_on_threads() -> None:
    rows = clustered()
    links = []
    for count in (1, 4, 4):
        with threads(count):
            index = built(faiss, rows, np.arange(len(rows)), silent)
            links.append(faiss.vector_to_array(index.hnsw.neighbors))
    assert np.array_equal(links[0], links[1])
    assert np.array_equal(links[1], links[2])


def test_equal_rows_are_candidates_even_where_the_search_misses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        """An index that finds for each row only row 2."""

        hnsw = SimpleNamespace()

        def search(self, rows: Floats, k: int) -> tuple[Floats, Index]:
            found = np.full((len(rows), k), -1)
            found[:, 0] = 2
            return np.zeros((len(rows), k), dtype=np.float32), found

    rows = clustered(60)[:6]
    rows[4] = rows[1]
    monkeypatch.setattr(approximate, "built", lambda *_: Blind())
    assert candidates(rows, 2)[[1, 2, 4]].tolist() == [[1, 4, 2, -1], [2, -1, -1, -1], [1, 4, 2, -1]]


def test_chunks_change_no_candidate_of_what_was_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.repeat(clustered(400), 2, axis=0)
    expected = candidates(rows, 5)

    def at_once(*arguments: Any) -> Any:  # noqa: ANN401
        with monkeypatch.context() as patch:
            patch.setattr(approximate, "CHUNK_ROWS", 2**20)
            return built(*arguments)

    monkeypatch.setattr(approximate, "built", at_once)
    monkeypatch.setattr(approximate, "CHUNK_ROWS", 7)
    assert np.array_equal(candidates(rows, 5), expected)


def test_many_equal_rows_hide_nobody() -> None:
    rows = clustered()
    rows[500:1500] = rows[7]
    found = candidates(rows, 10)
    assert sampled_recall(edges_of(found), rows, 10, include_self=True) > 0.99
    first = np.r_[7, 500 : 500 + 10 * approximate.SURPLUS - 1]
    for row in (7, 500, 1499):
        assert np.array_equal(found[row], first)


def test_row_is_searched_with_all_that_equal_it() -> None:
    rows = clustered(40)
    rows[11] = rows[30] = rows[3]
    for row in (3, 11, 30):
        assert candidates(rows, 5)[row, :3].tolist() == [3, 11, 30]


def test_fewer_rows_than_asked_for_leave_places_empty() -> None:
    found = candidates(clustered(60)[:4], 3)
    assert (np.sort(found, axis=1) == [-1, -1, 0, 1, 2, 3]).all()


def test_no_candidate_is_named_twice() -> None:
    rows = clustered()
    rows[::3] = rows[1::3]
    for row in candidates(rows, 10):
        named = row[row >= 0]
        assert len(np.unique(named)) == len(named)


def test_equal_rows_are_found() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [0, -1], [0, 1], [1, 0]], dtype=np.float32)
    different, classes = equal_rows(rows)
    assert different.tolist() == [0, 1, 3]
    assert classes.tolist() == [0, 1, 0, 2, 1, 0]


def test_nearer_rows_come_with_their_equals_before_farther_ones() -> None:
    order, ends = np.array([0, 4, 1, 2, 3, 5]), np.array([0, 2, 3, 6])  # {0, 4}, {1}, {2, 3, 5}
    near = np.array([[1, 0, -1], [2, -1, 1], [0, 2, 1]])
    assert expanded(near, order, ends, 4).tolist() == [[1, 0, 4, -1], [2, 3, 5, 1], [0, 4, 2, 3]]


def test_recall_is_the_share_of_the_true_neighbours() -> None:
    rows = clustered(300)
    found = exact(rows, 10)
    assert sampled_recall(edges_of(found), rows, 10, include_self=True) == 1
    farthest = np.argsort(rows @ rows.T, axis=1)[:, :3]
    found[:, 2:5] = farthest
    assert sampled_recall(edges_of(found), rows, 10, include_self=True) == pytest.approx(0.7)


def test_neighbour_as_similar_as_the_last_counts() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    last = 10 * (np.arange(40)[:, None] // 10) + np.arange(5, 10)
    assert sampled_recall(edges_of(last), rows, 5, include_self=True) == 1
    assert sampled_recall(edges_of((last + 10) % 40), rows, 5, include_self=True) == 0


def test_recall_without_oneself_does_not_count_oneself() -> None:
    rows = clustered(300)
    assert sampled_recall(edges_of(exact(rows, 5)), rows, 5, include_self=False) == pytest.approx(0.8)
    assert sampled_recall(edges_of(exact(rows, 6)[:, 1:]), rows, 5, include_self=False) == 1


def test_neighbour_named_twice_counts_once() -> None:
    rows = clustered(300)
    found = exact(rows, 4)
    found[:, 1] = found[:, 0]
    assert sampled_recall(edges_of(found), rows, 4, include_self=True) == pytest.approx(0.75)


def test_recall_looks_at_as_many_rows_as_asked_for() -> None:
    rows = clustered(300)
    found = exact(rows, 1)
    found[:150] = 299  # wrong for half of the rows
    recalls = {sampled_recall(edges_of(found), rows, 1, include_self=True, sample=20, seed=seed) for seed in range(5)}
    assert all(round(20 * recall, 6).is_integer() for recall in recalls)
    assert len(recalls) > 1


def test_progress_shows_each_row_indexed_and_searched() -> None:
    rows = clustered(300)
    rows[100:200] = rows[0]
    shown: dict[str, list[int]] = {}

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        assert total is not None
        assert unit == "items"
        shown[task] = [total, 0]

        def advance(units: int, remark: str) -> None:
            del remark
            shown[task][1] += units

        yield advance

    candidates(rows, 5, progress)
    assert shown == {"indexing vectors": [200, 200], "searching neighbours": [200, 200]}


def test_missing_faiss_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Callable[..., Any] = builtins.__import__

    def without_faiss(name: str, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        if name == "faiss":
            raise ImportError(name)
        return load(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(ParamsError) as caught:
        candidates(clustered(60), 3)
    assert str(caught.value) == (
        "graphs.knn.exact_up_to: more items than that, and FAISS, which searches them approximately, is not installed; "
        "run `pip install -c constraints.txt 'mmprep[faiss]'` or raise graphs.knn.exact_up_to"
    )


def test_faiss_is_loaded_only_when_it_searches() -> None:
    command = "import sys, mmprep.pipeline.graphs.hnsw; print('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout == "False\n"
