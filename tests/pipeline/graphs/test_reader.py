from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import made_by_hand, write_items, write_users

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.graphs.reader import read_graph, read_raw
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import EDGES

ROWS = {"source": [0, 0, 2], "target": [1, 0, 2], "weight": [0.5, 0.25, 1.0]}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_items(layout, [{}] * 3)
    write_users(layout, 4)
    return layout


def write(layout: Layout, name: str = "knn/minilm", shape: tuple[int, int] = (3, 3), **params: str) -> None:
    inputs = {layout.relative(layout.items): sha256(layout.items)}
    params = {"weight": "cosine", "normalise": "none", **params}
    made = Provenance("graph", params, inputs, {}, {"graph": name, "shape": list(shape)})
    EDGES.write(pl.DataFrame(ROWS), layout.graph(name), made)


def test_graph_is_read_with_its_own_shape(layout: Layout) -> None:
    write(layout, shape=(3, 8))
    found = read_graph(layout, "knn/minilm")
    assert found.shape == (3, 8)
    np.testing.assert_array_equal(found.toarray()[:, :3], [[0.25, 0.5, 0], [0, 0, 0], [0, 0, 1]])


def test_graph_that_is_not_there_names_the_command(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="not found; run `mmprep graph` first"):
        read_graph(layout, "mixed")


def test_graph_of_other_items_is_refused(layout: Layout) -> None:
    write(layout)
    write_items(layout, [{"title": "Another"}] * 3)
    with pytest.raises(DataError) as caught:
        read_graph(layout, "knn/minilm")
    assert str(caught.value) == (
        f"{layout.graph('knn/minilm')}: made of another {layout.items}; run `mmprep graph --graph knn/minilm`"
    )
    layout.items.unlink()
    with pytest.raises(DataError, match=r"made of .*items\.parquet, which is gone; run `mmprep graph"):
        read_graph(layout, "knn/minilm")


def test_graph_of_a_stale_graph_is_refused(layout: Layout) -> None:
    write(layout)
    made = made_by_hand(layout, [layout.graph("knn/minilm")], graph="mixed", shape=[3, 3])
    EDGES.write(pl.DataFrame(ROWS), layout.graph("mixed"), made)
    assert read_graph(layout, "mixed").nnz == 3
    write_items(layout, [{"title": "Another"}] * 3)
    with pytest.raises(DataError) as caught:
        read_graph(layout, "mixed")
    assert str(caught.value) == (
        f"{layout.graph('knn/minilm')}: made of another {layout.items}; run `mmprep graph --graph knn/minilm`"
    )


def test_graph_with_nodes_beyond_its_shape_is_refused(layout: Layout) -> None:
    write(layout, shape=(3, 2))
    with pytest.raises(DataError, match="nodes beyond"):
        read_graph(layout, "knn/minilm")


@pytest.mark.parametrize(
    "notes", [{}, {"shape": None}, {"shape": [3]}, {"shape": ["3", 3]}, {"shape": [3.0, 3]}, {"shape": [3, -3]}]
)
def test_graph_that_does_not_tell_its_shape_is_refused(layout: Layout, notes: dict[str, Any]) -> None:
    EDGES.write(pl.DataFrame(ROWS), layout.graph("mixed"), made_by_hand(layout, **notes))
    with pytest.raises(DataError, match=r"does not record its number of nodes; run `mmprep graph` again"):
        read_graph(layout, "mixed")


def test_graph_with_a_node_below_0_is_refused(layout: Layout) -> None:
    made = made_by_hand(layout, shape=[3, 3])
    EDGES.write(pl.DataFrame(ROWS | {"target": [1, -1, 2]}), layout.graph("mixed"), made)
    with pytest.raises(DataError, match="nodes beyond"):
        read_graph(layout, "mixed")


@pytest.mark.parametrize(("key", "value"), [("weight", "binary"), ("normalise", "row")])
def test_weights_that_were_changed_are_no_raw_ones(layout: Layout, key: str, value: str) -> None:
    write(layout)
    assert read_raw(layout, "knn/minilm").nnz == 3
    write(layout, **{key: value})
    expected = "cosine" if key == "weight" else "none"
    with pytest.raises(DataError) as caught:
        read_raw(layout, "knn/minilm")
    assert str(caught.value) == (
        f"{layout.graph('knn/minilm')}: found {key} {value}, expected {expected}, as what is made of it weights and "
        f"normalises it; set graphs.knn.{key} and run `mmprep graph --graph knn/minilm`"
    )
