"""The neighbours of a batch of items."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import made_by_hand, write_items

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.graphs.intra_item_reader import NONE, IntraItemEdges
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables import table as tables
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import INTRA_EDGES

K = 2
# Item 1's last vector is nobody's and has nobody; item 2 has two; items 0, 3 and 4 have no neighbours.
NEIGHBOURS = {
    1: [[2, 1], [2, NONE], [0, 1], [NONE, NONE]],
    2: [[1, NONE], [0, NONE]],
    5: [[3, 2], [NONE, NONE], [3, 0], [0, 2]],
}


def write(path: Path, provenance: Provenance | None = None) -> None:
    rows = [
        (item, source, target, 0.5)
        for item, sources in NEIGHBOURS.items()
        for source, targets in enumerate(sources)
        for target in targets
        if target != NONE
    ]
    frame = pl.DataFrame(rows, schema=INTRA_EDGES.schema.names, orient="row")
    INTRA_EDGES.write(frame, path, provenance or Provenance("graph", {"k": K}, {}, {}, {}))


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> IntraItemEdges:
    path = tmp_path_factory.mktemp("graph") / "patches.parquet"
    write(path)
    return IntraItemEdges.read(path)


def expected(items: Sequence[int], length: int) -> list[list[list[int]]]:
    def places(item: int) -> list[list[int]]:
        sources = NEIGHBOURS.get(item, [])[:length]
        cut = [[target if target < length else NONE for target in targets] for targets in sources]
        return cut + [[NONE] * K] * (length - len(cut))

    return [places(item) for item in items]


@given(items=st.lists(st.integers(0, 9), max_size=12), length=st.integers(1, 6))
def test_neighbours_come_in_the_order_asked_for_and_as_often(
    edges: IntraItemEdges, items: list[int], length: int
) -> None:
    found = edges.gather(items, length)
    assert (found.dtype, found.shape) == (torch.int16, (len(items), length, K))
    assert found.tolist() == expected(items, length)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
def test_a_file_read_in_pieces_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(tables, "PIECE", rows)
    write(tmp_path / "patches.parquet")
    assert IntraItemEdges.read(tmp_path / "patches.parquet").gather(range(7), 4).tolist() == expected(range(7), 4)


def test_a_graph_without_an_edge_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    INTRA_EDGES.write(pl.DataFrame(INTRA_EDGES.schema.empty_table()), path, Provenance("graph", {"k": 3}, {}, {}, {}))
    assert IntraItemEdges.read(path).gather([0, 7], 2).tolist() == [[[NONE] * 3] * 2] * 2


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_items(layout, [{}] * 6)
    provenance = made_by_hand(layout, [layout.items], graph="intra_item/patches")
    write(layout.graph("intra_item/patches"), Provenance("graph", {"k": K}, provenance.inputs, {}, provenance.notes))
    return layout


def test_a_datasets_graph_is_read_by_its_encoder(layout: Layout) -> None:
    assert IntraItemEdges.of(layout, "patches").gather([5, 1], 4).tolist() == expected([5, 1], 4)


def test_a_graph_of_other_items_is_refused(layout: Layout) -> None:
    write_items(layout, [{"title": "another"}])
    with pytest.raises(DataError) as caught:
        IntraItemEdges.of(layout, "patches")
    assert str(caught.value) == (
        f"{layout.graph('intra_item/patches')}: made of another {layout.items}; "
        "run `mmprep graph --graph intra_item/patches`"
    )


def test_a_graph_that_is_not_there_names_the_command(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="not found; run `mmprep graph` first"):
        IntraItemEdges.of(layout, "minilm_tokens")


@pytest.mark.parametrize("keep", [0, 50, -1])
def test_a_file_that_is_cut_off_is_noticed(layout: Layout, keep: int) -> None:
    path = layout.graph("intra_item/patches")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged"):
        IntraItemEdges.of(layout, "patches")
