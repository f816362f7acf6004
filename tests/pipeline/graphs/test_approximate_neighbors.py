from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs import hnsw as approximate
from mmprep.pipeline.graphs import knn as neighbors
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.hnsw import nearest_among
from mmprep.pipeline.graphs.knn import nearest
from mmprep.pipeline.progress import Progress


def some(n: int = 300, zero: int | None = None) -> Cosines:
    vectors = np.random.default_rng(0).normal(size=(n, 12)).astype(np.float32)
    if zero is not None:
        vectors[zero] = 0
    return Cosines.of(vectors, np.arange(n, dtype=np.int32), Path("features/minilm"))


def as_tuples(edges: Edges) -> list[tuple[int, int, float]]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that finds the k best, itself among them, but not first."""

    def find(rows: npt.NDArray[np.float32], k: int, progress: Progress) -> npt.NDArray[np.int64]:
        del progress
        best = np.argsort(-(rows @ rows.T), axis=1, kind="stable")[:, :k]
        return np.hstack([best[:, ::-1], np.full((len(rows), 3), -1)])

    monkeypatch.setattr(approximate, "candidates", find)


@pytest.mark.usefixtures("perfect")
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("zero", [None, 7])
def test_neighbours_among_all_are_the_exact_ones(
    monkeypatch: pytest.MonkeyPatch, include_self: bool, zero: int | None
) -> None:
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 37)
    expected = nearest(some(zero=zero), 5, include_self=include_self)
    found, recall = nearest_among(some(zero=zero), 5, include_self=include_self)
    assert as_tuples(found.edges) == as_tuples(expected.edges)
    assert recall == 1.0


def test_item_of_which_fewer_are_found_has_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        approximate, "candidates", lambda rows, *_: np.tile([[-1, 4, -1]], (len(rows), 1)).astype(np.int64)
    )
    found, recall = nearest_among(some(20), 2, include_self=False)
    assert found.edges.source.tolist() == [row for row in range(20) if row != 4]
    assert set(found.edges.target.tolist()) == {4}
    assert (found.cut, recall < 0.5) == (0, True)


def test_k_beyond_the_items_is_refused() -> None:
    with pytest.raises(DataError, match="k = 30 neighbours asked for, but only 29 items could be"):
        nearest_among(some(30), 30, include_self=False)
