"""Homophily against a double loop over pairs and users."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from worlds import World, binary, made_by_hand, write_items, write_world

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Advance
from mmprep.pipeline.tables.schemas import EDGES
from mmprep.stages.graphs.homophily import run

Pairs = Sequence[tuple[int, int]]

N_USERS, N_ITEMS = 4, 6
# Items 0, 1 and 2 share users, and so do 2 and 3; nobody has item 5. Val and test join others.
TRAIN = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 2), (2, 3), (3, 4)]
VAL, TEST = [(0, 4), (0, 5)], [(1, 5), (2, 5)]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_world(World(*(binary(pairs, (N_USERS, N_ITEMS)) for pairs in (TRAIN, VAL, TEST))), layout)
    return layout


def write(layout: Layout, name: str, pairs: Pairs, n_items: int = N_ITEMS) -> None:
    ends = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    frame = Edges(ends[:, 0], ends[:, 1], np.ones(len(ends), dtype=np.float32)).to_frame()
    made = made_by_hand(layout, [layout.items], graph=name, shape=[n_items, n_items])
    EDGES.write(frame, layout.graph(name), made)


def users_of(item: int, train: Pairs) -> set[int]:
    return {user for user, other in train if other == item}


def by_loops(pairs: Pairs, train: Pairs) -> float:
    """The share of pairs of different items with a common user; of none, 0."""
    together = [bool(users_of(a, train) & users_of(b, train)) for a, b in pairs if a != b]
    return sum(together) / len(together) if together else 0.0


def test_share_of_edges_between_items_bought_together_against_random_pairs(layout: Layout) -> None:
    pairs = [(0, 1), (0, 3), (1, 2), (2, 3), (2, 4), (4, 5), (5, 0)]
    write(layout, "knn/minilm", pairs)
    found = run(layout)
    random = by_loops(list(permutations(range(N_ITEMS), 2)), TRAIN)
    assert (found["random"], found["knn/minilm"]) == (8 / 30, 3 / 7)
    assert found == {
        "random": pytest.approx(random),
        "knn/minilm": pytest.approx(by_loops(pairs, TRAIN)),
        "knn/minilm_times_random": pytest.approx(by_loops(pairs, TRAIN) / random),
    }


@pytest.mark.parametrize("seed", range(8))
def test_any_world_has_the_shares_of_the_double_loop(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout, shape = Layout(tmp_path, "toy"), (5, N_ITEMS)
    train = sorted({(int(u), int(i)) for u, i in rng.integers(0, shape, (12, 2))})
    edges = sorted({(int(a), int(b)) for a, b in rng.integers(0, N_ITEMS, (15, 2))})
    write_world(World(binary(train, shape), *[binary([(0, 0)], shape)] * 2), layout)
    write(layout, "mixed", edges)
    found = run(layout)
    assert found["random"] == pytest.approx(by_loops(list(permutations(range(N_ITEMS), 2)), train))
    assert found["mixed"] == pytest.approx(by_loops(edges, train))


def test_edges_of_an_item_to_itself_do_not_count(layout: Layout) -> None:
    write(layout, "knn/minilm", [(0, 0), (0, 1), (1, 1), (2, 2), (3, 0), (5, 5)])
    assert run(layout)["knn/minilm"] == 1 / 2
    write(layout, "knn/minilm", [(item, item) for item in range(N_ITEMS)])
    assert run(layout)["knn/minilm"] == 0


def test_graph_of_bought_pairs_alone_is_far_from_random(layout: Layout) -> None:
    write(layout, "cooccurrence", [(0, 1), (0, 2), (1, 0), (3, 2)])
    found = run(layout)
    assert (found["cooccurrence"], found["cooccurrence_times_random"]) == (1, pytest.approx(30 / 8))


def test_graph_without_edges_has_no_share(layout: Layout) -> None:
    write(layout, "mixed", [])
    assert (run(layout)["mixed"], run(layout)["mixed_times_random"]) == (0, 0)


def test_every_item_graph_is_measured_and_no_other(layout: Layout) -> None:
    names = ["knn/minilm", "mixed", "consistent/image", "cooccurrence"]
    for name in [*names, "user_user", "interaction/symmetric"]:
        write(layout, name, [(0, 1)])
    assert list(run(layout)) == ["random", *(key for name in names for key in (name, f"{name}_times_random"))]


def test_metrics_are_written(layout: Layout) -> None:
    write(layout, "mixed", [(0, 1), (4, 5)])
    found = run(layout)
    assert json.loads(layout.metrics("homophily").read_text()) == found


def test_progress_is_told_of_every_graph(layout: Layout) -> None:
    told: list[object] = []

    @contextmanager
    def listen(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        told.append((task, total, unit))
        yield lambda units, remark: told.append((units, remark))

    for name in ("knn/minilm", "mixed"):
        write(layout, name, [(0, 1)])
    run(layout, listen)
    assert told == [("homophily", 2, "graphs"), (1, "knn/minilm"), (1, "mixed")]


def test_no_item_graph_names_the_command(layout: Layout) -> None:
    write(layout, "user_user", [(0, 1)])
    with pytest.raises(MissingInputError, match="no graph of items; run `mmprep graph` first"):
        run(layout)
    assert not layout.metrics("homophily").exists()


def test_stale_graph_is_refused_and_nothing_is_written(layout: Layout) -> None:
    write(layout, "knn/minilm", [(0, 1)])
    made = made_by_hand(layout, [layout.graph("knn/minilm")], graph="mixed", shape=[N_ITEMS, N_ITEMS])
    EDGES.write(EDGES.read(layout.graph("knn/minilm")), layout.graph("mixed"), made)
    run(layout)
    before = layout.metrics("homophily").read_bytes()
    write(layout, "knn/minilm", [(0, 2)])
    with pytest.raises(DataError) as caught:
        run(layout)
    assert str(caught.value) == (
        f"{layout.graph('mixed')}: made of another {layout.graph('knn/minilm')}; run `mmprep graph --graph mixed`"
    )
    assert layout.metrics("homophily").read_bytes() == before


def test_stale_split_is_refused(layout: Layout) -> None:
    write_items(layout, [{"title": "Another"}] * N_ITEMS)
    write(layout, "mixed", [(0, 1)])
    with pytest.raises(DataError, match=r"made of another .*; run `mmprep split`"):
        run(layout)


def test_graph_of_more_items_than_there_are_is_refused(layout: Layout) -> None:
    write(layout, "mixed", [(0, N_ITEMS)])
    with pytest.raises(DataError, match="nodes beyond the dataset's 6"):
        run(layout)
    write(layout, "mixed", [(0, N_ITEMS)], N_ITEMS + 1)
    with pytest.raises(DataError) as caught:
        run(layout)
    path = layout.graph("mixed")
    assert str(caught.value) == f"{path}: found 7 items, expected the dataset's 6; run `mmprep graph --graph mixed`"


def test_empty_train_split_is_refused_and_nothing_is_written(layout: Layout) -> None:
    write_world(World(binary([], (N_USERS, N_ITEMS)), *[binary([(0, 1)], (N_USERS, N_ITEMS))] * 2), layout)
    write(layout, "mixed", [(0, 1)])
    with pytest.raises(DataError) as caught:
        run(layout)
    assert str(caught.value) == (
        f"{layout.interactions}: no train interactions, so no items have a common user; see split.rule"
    )
    assert not layout.metrics("homophily").exists()


def test_train_of_lone_purchases_has_nothing_to_compare_with(layout: Layout) -> None:
    write_world(World(*(binary([(0, 0), (1, 1)], (N_USERS, N_ITEMS)) for _ in range(3))), layout)
    write(layout, "mixed", [(0, 1)])
    assert run(layout) == {"random": 0, "mixed": 0, "mixed_times_random": 0}
