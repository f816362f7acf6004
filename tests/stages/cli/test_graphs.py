"""The commands of graphs: what they print, and one line for each mistake."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from worlds import World, binary, made_by_hand, two_groups, write_items, write_vectors, write_world

from mmprep.pipeline.graphs.catalogue import DESCRIPTIONS
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import EDGES, SPLIT_INTERACTIONS
from mmprep.stages.cli.main import main

TOYS = Layout(Path("data"), "toys")
ENCODERS = {"vgg16": "image", "minilm": "text"}
PARAMS = """dataset: toys
extract: {encoders: [vgg16, minilm]}
graphs: {encoders: [vgg16, minilm], knn: {k: 5}}
train: {image: vgg16, text: minilm}
"""
BUILT = ["knn/vgg16", "knn/minilm", "mixed", "consistent", "cooccurrence", "user_user", "interaction"]
TITLES = {0: "Shirt [red] [/red] [bold]", 1: "[link=file:///etc/passwd]x[/link]", 2: "\x1b[31mred\x07\n\u202eeve"}


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Undo what `main` does to logging, so that commands do not reach into other tests."""
    root, name = logging.getLogger(), logging.getLevelName(logging.WARNING)
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.addLevelName(logging.WARNING, name)


def mmprep(*arguments: str) -> Result:
    """Run a command in the current folder; whatever happens, there is no traceback."""
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def output(*arguments: str) -> str:
    """What a command prints that must succeed."""
    result = mmprep(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def failure(code: int, *arguments: str) -> str:
    """The one line of a command that must fail with this code."""
    result = mmprep(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").removesuffix("\n")


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with parameters, a split dataset of 60 items in two groups and their features, and no graph."""
    (in_folder / "params.yaml").write_text(PARAMS)
    world = two_groups()
    write_world(world, TOYS)
    for encoder, modality in ENCODERS.items():
        write_vectors(TOYS, encoder, world.features[modality])
    return in_folder


@pytest.fixture
def titled(project: Path) -> Path:
    """The same with titles that would do something to a terminal, a page or rich's markup, photos, and one graph."""
    photos = TOYS.raw / "images"
    photos.mkdir(parents=True)
    Image.new("RGB", (30, 20), "red").save(photos / "0.png")
    photo = {"image": "images/0.png"}
    write_items(TOYS, [{"title": TITLES.get(n, f"Shirt {n}"), **(photo if n < 2 else {})} for n in range(60)])
    ends = np.array([[0, 0, 0, 3], [1, 2, 4, 3]], dtype=np.int32)
    edges = Edges(ends[0], ends[1], np.array([0.75, 0.5, 0.25, 1], dtype=np.float32))
    made = made_by_hand(TOYS, [TOYS.items], graph="knn/minilm", shape=[60, 60])
    EDGES.write(edges.to_frame(), TOYS.graph("knn/minilm"), made)
    return project


def test_graph_builds_every_graph_and_prints_its_metrics(project: Path) -> None:
    assert project == Path.cwd()
    lines = output("graph").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("graph ")] == BUILT
    for name in BUILT:
        metrics = json.loads(TOYS.metrics(f"graph-{name.replace('/', '-')}").read_text())
        start = next(n for n, line in enumerate(lines) if line.startswith(f"graph {name} ("))
        assert [line.split()[0] for line in lines[start + 1 : start + 1 + len(metrics)]] == list(metrics)
    assert len(list(TOYS.graph_folder("").rglob("*.parquet"))) == 10
    assert mmprep("verify").stdout.count("ok       data/graphs/toys/") == 10


def test_graph_builds_the_one_that_is_named(project: Path) -> None:
    assert project == Path.cwd()
    assert output("graph", "--graph", "knn/minilm").startswith("graph knn/minilm (")
    assert [path.name for path in TOYS.graph_folder("").rglob("*.parquet")] == ["minilm.parquet"]


@pytest.mark.parametrize("name", ["knn", "mixed/image", "knn/../../x", "knn//etc/x", "\x1b[31mred", "consitent"])
def test_graph_of_another_name_is_one_line(project: Path, name: str) -> None:
    assert project == Path.cwd()
    message = failure(2, "graph", "--graph", name)
    assert message.startswith(f"graph: found {name!r}, expected a graph")
    assert message.isprintable()
    assert not TOYS.graph_folder("").exists()


def test_graph_without_features_names_the_command(project: Path) -> None:
    assert project == Path.cwd()
    message = failure(3, "graph", "--graph", "knn/alexnet")
    assert message == "data/features/toys/alexnet: no features; run `mmprep extract --encoder alexnet` first"


def test_more_neighbours_than_items_are_one_line(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("k: 5", "k: 61"))
    message = failure(4, "graph", "--graph", "knn/minilm")
    assert message == "k = 61 neighbours asked for, but only 60 items could be; lower graphs.knn.k"


def test_nonsense_in_the_parameters_of_graphs_has_a_line_each(project: Path) -> None:
    bad = "knn: {k: 0, weight: x}, mixed: 5, consistent: {k: 1e20}, cooccurrence: {min_counts: 2}"
    (project / "params.yaml").write_text(f"dataset: toys\ngraphs: {{{bad}}}\n")
    result = mmprep("graph")
    assert (result.exit_code, result.stdout) == (2, "")
    mistakes = [line.removeprefix("error: params.yaml: graphs.").split(":")[0] for line in result.stderr.splitlines()]
    assert mistakes == ["knn.k", "knn.weight", "mixed", "consistent.k", "cooccurrence.min_counts"]


def test_empty_train_is_one_line(project: Path) -> None:
    assert project == Path.cwd()
    write_world(World(binary([], (4, 5)), *[binary([(0, 1)], (4, 5))] * 2), TOYS)
    message = failure(4, "graph", "--graph", "cooccurrence")
    assert message.endswith("no train interactions, so there is nothing to join; see split.rule")


def test_graphs_lists_every_graph_as_it_is_asked_for(in_folder: Path) -> None:
    assert not list(in_folder.iterdir())
    lines = output("graphs").splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [f"{row.usage}: {row.rule}" for row in DESCRIPTIONS]
    assert sum(line.startswith("  joins") for line in lines) == len(DESCRIPTIONS)


def test_homophily_prints_what_it_writes(project: Path) -> None:
    assert project == Path.cwd()
    output("graph")
    first, *lines = output("homophily").splitlines()
    metrics = json.loads(TOYS.metrics("homophily").read_text())
    assert first.startswith("homophily (")
    assert [line.split() for line in lines] == [[key, f"{value:.4f}"] for key, value in metrics.items()]
    assert metrics["cooccurrence"] == 1


def test_homophily_without_a_graph_names_the_command(project: Path) -> None:
    assert project == Path.cwd()
    assert failure(3, "homophily") == "data/graphs/toys: no graph of items; run `mmprep graph` first"


def test_homophily_of_a_stale_graph_is_one_line(titled: Path) -> None:
    assert titled == Path.cwd()
    write_items(TOYS, [{}] * 60)
    interactions = SPLIT_INTERACTIONS.read(TOYS.interactions)
    SPLIT_INTERACTIONS.write(interactions, TOYS.interactions, made_by_hand(TOYS, [TOYS.users, TOYS.items]))
    message = failure(4, "homophily")
    assert message == (
        "data/graphs/toys/knn/minilm.parquet: made of another data/processed/toys/items.parquet; "
        "run `mmprep graph --graph knn/minilm`"
    )


@pytest.mark.parametrize("item", ["i0", "#0"])
def test_neighbours_are_printed_by_rank_with_titles_as_they_are(titled: Path, item: str) -> None:
    assert titled == Path.cwd()
    printed = output("neighbors", item)
    assert printed.startswith("Shirt [red] [/red] [bold] (i0, #0)\n")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert rows == [
        ["1", "i1", "[link=file:///etc/passwd]x[/link]", "0.7500"],
        ["2", "i2", r"\x1b[31mred\x07\n\u202eeve", "0.5000"],
        ["3", "i4", "Shirt 4", "0.2500"],
    ]
    assert printed.replace("\n", "").isprintable()


def test_title_of_the_item_itself_steers_no_terminal(titled: Path) -> None:
    assert titled == Path.cwd()
    printed = output("neighbors", "i2")
    assert printed.startswith(r"\x1b[31mred\x07\n\u202eeve (i2, #2)")
    assert "knn/minilm: has no edge of this item" in printed
    assert printed.replace("\n", "").isprintable()


def test_only_so_many_neighbours_are_printed(titled: Path) -> None:
    assert titled == Path.cwd()
    printed = output("neighbors", "i0", "-k", "1")
    assert ("│ i1 " in printed, "│ i2 " in printed) == (True, False)
    assert mmprep("neighbors", "i0", "-k", "0").exit_code == 2


def test_page_of_neighbours_is_written_and_told(titled: Path) -> None:
    printed = output("neighbors", "i0", "--html", "pages/found.html")
    assert printed.endswith("page: pages/found.html\n")
    assert "│ i1 " in printed
    page = (titled / "pages" / "found.html").read_text()
    assert page.count("<img src=") == 2
    assert page.count("<li>") == 3
    assert "Shirt [red] [/red] [bold]" in page


def test_no_page_is_written_unless_it_is_asked_for(titled: Path) -> None:
    output("neighbors", "i0")
    assert not list(titled.rglob("*.html"))


@pytest.mark.parametrize("more", [[], ["--html", "page.html"]])
def test_unknown_item_is_one_line_and_no_page(titled: Path, more: list[str]) -> None:
    message = failure(4, "neighbors", "\x1b[31mi0", *more)
    assert message.startswith(r"item: found '\x1b[31mi0', expected an id of data/processed/toys/items.parquet")
    assert failure(4, "neighbors", "#60", *more) == (
        "item: found #60, expected one of the 60 of data/processed/toys/items.parquet, #0 to #59"
    )
    assert not list(titled.rglob("*.html"))


def test_page_in_the_place_of_a_folder_is_one_line(titled: Path) -> None:
    (titled / "pages").mkdir()
    result = mmprep("neighbors", "i0", "--html", "pages")
    assert result.exit_code == 4
    assert result.stderr == "error: pages: found a folder, expected a file, such as pages/neighbors.html\n"


def test_neighbours_without_a_graph_name_the_command(project: Path) -> None:
    assert project == Path.cwd()
    assert failure(3, "neighbors", "i0") == "data/graphs/toys: no graph of items; run `mmprep graph` first"


def test_neighbours_in_a_damaged_graph_are_one_line(titled: Path) -> None:
    assert titled == Path.cwd()
    TOYS.graph("knn/minilm").write_bytes(b"PAR1")
    assert "knn/minilm.parquet: not a Parquet file" in failure(4, "neighbors", "i0")


def test_stale_graph_is_a_note_below_its_neighbours(titled: Path) -> None:
    assert titled == Path.cwd()
    write_items(TOYS, [{"title": "New"}] * 60)
    note = output("neighbors", "i0").splitlines()[-1]
    assert note.startswith("note: stale, so it may join other items: made of another data/processed/toys/items.parquet")
    assert note.endswith("run `mmprep graph --graph knn/minilm`")
