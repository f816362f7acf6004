import numpy as np
import pytest

from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.statistics import share, summarise


def edges(*triples: tuple[int, int, float]) -> Edges:
    source, target, weight = zip(*triples, strict=True) if triples else ((), (), ())
    return Edges(np.array(source, dtype="i4"), np.array(target, dtype="i4"), np.array(weight, dtype="f4"))


def test_edges_are_summarised() -> None:
    # Item 3 has but itself, item 4 nothing.
    found = summarise(edges((0, 1, 0.5), (0, 2, 0.25), (1, 0, 1.0), (2, 0, 1.0), (3, 3, 0.25)), 5)
    assert found == {
        "edges": 5,
        "mean_neighbours": 0.8,
        "without_neighbours": 2,
        "share_without_neighbours": 0.4,
        "mean_weight": 0.6,
        **dict(zip((f"neighbours_p{p}" for p in (0, 25, 50, 75, 100)), (0, 0, 1, 1, 2), strict=True)),
        **dict(zip((f"chosen_p{p}" for p in (0, 25, 50, 75, 100)), (0, 0, 1, 1, 2), strict=True)),
    }


def test_edges_between_different_nodes_are_never_to_oneself() -> None:
    found = summarise(edges((0, 0, 1.0), (1, 0, 1.0)), 2, 3)
    assert (found["without_neighbours"], found["neighbours_p0"], found["chosen_p100"]) == (0, 1, 2)
    assert found["mean_neighbours"] == 1
    assert found["chosen_p50"] == 0  # of three, two are chosen by none


def test_graph_without_edges_or_nodes() -> None:
    assert summarise(edges(), 3)["share_without_neighbours"] == 1
    assert set(summarise(edges(), 0).values()) == {0}


@pytest.mark.parametrize(("part", "whole", "expected"), [(1, 4, 0.25), (0, 3, 0), (0, 0, 0)])
def test_share_of_nothing_is_nothing(part: int, whole: int, expected: float) -> None:
    assert share(part, whole) == expected
