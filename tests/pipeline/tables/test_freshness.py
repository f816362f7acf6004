import os
from pathlib import Path

import polars as pl
import pytest
from worlds import made_by_hand, write_items

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import InputDigests, require_fresh
from mmprep.pipeline.tables.provenance import digest_of
from mmprep.pipeline.tables.schemas import EDGES


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A dataset of three items, whose users are not there."""
    layout = Layout(tmp_path / "data", "toy")
    write_items(layout, [{"title": "Mug"}] * 3)
    return layout


def recorded(layout: Layout) -> dict[str, str]:
    return {layout.relative(layout.items): digest_of(layout.items)}


def test_inputs_as_they_were_are_no_difference(layout: Layout) -> None:
    assert InputDigests(layout).difference(recorded(layout)) is None
    assert InputDigests(layout).difference(recorded(layout), [layout.items]) is None
    require_fresh(layout.interactions, recorded(layout), layout, "mmprep split")


def test_another_input_is_named_with_the_command(layout: Layout) -> None:
    inputs = recorded(layout)
    write_items(layout, [{"title": "Cup"}] * 3)
    with pytest.raises(DataError) as caught:
        require_fresh(layout.interactions, inputs, layout, "mmprep split")
    assert str(caught.value) == f"{layout.interactions}: made of another {layout.items}; run `mmprep split`"


def test_an_input_that_was_not_recorded_is_another_one_where_it_is_wanted(layout: Layout) -> None:
    assert InputDigests(layout).difference({}) is None
    assert InputDigests(layout).difference({}, [layout.items]) == f"made of another {layout.items}"


def test_only_the_inputs_in_question_are_compared(layout: Layout) -> None:
    inputs = recorded(layout) | {layout.relative(layout.users): "0"}
    assert InputDigests(layout).difference(inputs, [layout.items]) is None
    assert InputDigests(layout).difference(inputs) == f"made of {layout.users}, which is gone"


@pytest.mark.parametrize(
    "name",
    ["processed/other/items.parquet", "processed/toy/../other/items.parquet", "items.parquet", "/etc/hosts", ""],
)
def test_inputs_of_no_artefact_of_the_dataset_are_not_opened(layout: Layout, name: str) -> None:
    assert InputDigests(layout).difference({name: "0"}) == f"made of {name}, which is none of this dataset's"


def test_damaged_inputs_and_pipes_are_differences_and_do_not_hang(layout: Layout) -> None:
    inputs = recorded(layout)
    layout.items.write_bytes(b"PAR1")
    assert InputDigests(layout).difference(inputs) == f"made of {layout.items}, which is damaged; fix that first"
    layout.items.unlink()
    os.mkfifo(layout.items)
    assert InputDigests(layout).difference(inputs) == f"made of {layout.items}, which is no file any more"


def test_graphs_among_the_inputs_are_followed_where_wanted(layout: Layout) -> None:
    graph = layout.graph("knn/minilm")
    edges = pl.DataFrame(EDGES.schema.empty_table())
    EDGES.write(edges, graph, made_by_hand(layout, [layout.items]))
    inputs = {layout.relative(graph): digest_of(graph)}
    write_items(layout, [{"title": "Cup"}] * 3)
    assert InputDigests(layout).difference(inputs) is None
    assert InputDigests(layout).difference(inputs, through_graphs=True) == (
        f"made of {graph}, which was made of another {layout.items}; fix that first"
    )


def test_a_digest_is_taken_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path] = []
    monkeypatch.setattr(
        "mmprep.pipeline.tables.freshness.digest_of", lambda path: taken.append(path) or digest_of(path)
    )
    inputs, digests = recorded(layout), InputDigests(layout)
    assert digests.difference(inputs) is None
    assert digests.difference(inputs) is None
    assert taken == [layout.items]
