"""Verb `neighbors`: an item's nearest neighbours in each item graph of the dataset."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from mmprep.pipeline.errors import MmprepError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import InputDigests
from mmprep.pipeline.text import printable
from mmprep.stages.explore.item_lookup import Item, Items
from mmprep.stages.explore.report import warnings_for
from mmprep.stages.graphs.item_graphs import EdgeWeightMeaning, ItemGraph, item_graphs
from mmprep.stages.sample.words import README as SAMPLE_README


@dataclass(frozen=True)
class Neighbour:
    """A neighbour and the weight of the edge to it."""

    item: Item
    weight: float


@dataclass(frozen=True)
class GraphNeighbours:
    """An item's neighbours in one graph.

    Attributes:
        graph: its name below graphs/DATASET.
        rule: how its edges are chosen.
        weighing: meaning of its weights.
        neighbours: the best first, without the item itself.
        lack: why there are no neighbours; empty if there are any.
        notes: caveats on the neighbours.
    """

    graph: str
    rule: str
    weighing: EdgeWeightMeaning
    neighbours: tuple[Neighbour, ...]
    lack: str
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Table title: the graph and the meaning of its weights."""
        return f"{self.graph}: {self.weighing.meaning}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of `rows`."""
        return "rank", "item", "title", self.weighing.name

    def rows(self) -> list[tuple[str, ...]]:
        """Each neighbour's rank from 1, id, title and weight, safe to print."""
        return [
            (
                str(rank),
                printable(neighbour.item.item_id),
                printable(neighbour.item.title),
                self.format_weight(neighbour.weight),
            )
            for rank, neighbour in enumerate(self.neighbours, start=1)
        ]

    def format_weight(self, weight: float) -> str:
        """A weight as text."""
        return f"{weight:.{self.weighing.digits}f}"


@dataclass(frozen=True)
class ItemNeighbours:
    """An item's neighbours in each item graph of the dataset.

    Attributes:
        item: the item.
        graphs: in catalogue order.
        notes: caveats on all graphs.
    """

    item: Item
    graphs: tuple[GraphNeighbours, ...]
    notes: tuple[str, ...]


def find(layout: Layout, item: str, k: int = 10) -> ItemNeighbours:
    """Find an item's nearest neighbours in each item graph.

    Args:
        layout: the dataset's paths.
        item: its original id, or `#` and its dense index.
        k: maximum number of neighbours per graph.

    Raises:
        ParamsError: k is not positive.
        MissingInputError: there are no items, or no item graphs.
        DataError: there is no such item, or a file is damaged.
    """
    if k < 1:
        raise ParamsError(f"k: found {k}, expected 1 or more")
    items = Items(layout)
    number = items.number_of(item)
    digests = InputDigests(layout)
    graphs = item_graphs(layout)
    graph_neighbours = tuple(neighbours_in(graph, number, k, items, digests) for graph in graphs)
    notes = (*notes_of_dataset(layout), *notes_of_features(graphs, layout))
    return ItemNeighbours(items.at([number])[number], graph_neighbours, notes)


def neighbours_in(graph: ItemGraph, number: int, k: int, items: Items, digests: InputDigests) -> GraphNeighbours:
    """The item's k best neighbours in one graph, without itself."""
    edges = graph.edges_of(number)
    others = edges.filter(pl.col("target") != number)
    rule = graph.rule if len(others) == len(edges) else f"{graph.rule}, itself among them (not shown)"
    nearest = others.head(k)
    known = items.at(nearest["target"])
    neighbours = tuple(Neighbour(known[target], weight) for target, weight in nearest.iter_rows() if target in known)
    notes = [*staleness(graph, digests)]
    if beyond := len(nearest) - len(neighbours):
        notes.append(f"{beyond} of the neighbours left out, as the dataset has no such items; run `{graph.made_by}`")
    return GraphNeighbours(
        graph=str(graph.name),
        rule=rule,
        weighing=graph.weighing,
        neighbours=neighbours,
        lack="" if neighbours else "joins this item to no other" if len(edges) else "has no edge of this item",
        notes=tuple(notes),
    )


def staleness(graph: ItemGraph, digests: InputDigests) -> Iterator[str]:
    """The reason why a graph is stale; nothing if it is not."""
    difference = digests.difference(graph.provenance["inputs"], through_graphs=True)
    if difference is not None:
        yield f"stale, so it may join other items: {difference}; run `{graph.made_by}`"


def notes_of_features(graphs: Iterable[ItemGraph], layout: Layout) -> Iterator[str]:
    """Warnings about the features that graphs were built from, with the names of these graphs."""
    made: dict[str, list[str]] = {}
    for graph in graphs:
        for encoder in encoders_of(graph, layout):
            made.setdefault(encoder, []).append(str(graph.name))
    for encoder, names in made.items():
        folder = layout.features(encoder)
        try:
            warnings = warnings_for(folder) if folder.exists() else []  # else the graph is reported stale
        except MmprepError as error:  # the graphs are readable without them
            warnings = [str(error)]
        yield from (f"{each} (in {', '.join(names)})" for each in warnings)


def encoders_of(graph: ItemGraph, layout: Layout) -> list[str]:
    """The encoders whose features or graphs a graph was built from."""
    parts = [PurePosixPath(name).parts for name in graph.provenance["inputs"]]
    own = [path for path in parts if len(path) == 4 and path[1] == layout.dataset and ".." not in path]
    of_features = {path[2] for path in own if path[0] == "features"}
    of_graphs = {path[3].removesuffix(".parquet") for path in own if (path[0], path[2]) == ("graphs", "knn")}
    return sorted(of_features | of_graphs)


def notes_of_dataset(layout: Layout) -> Iterator[str]:
    """A note if the dataset is an invented one."""
    readme = layout.raw / "README.md"
    if readme.is_file():
        with readme.open("rb") as file:
            if file.readline(200).rstrip().decode(errors="replace") == SAMPLE_README.split("\n", 1)[0]:
                yield f"{layout.dataset} is an invented dataset: there are no such products"
