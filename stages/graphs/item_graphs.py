"""The graphs of items that a dataset has: what their weights mean, and the edges of one item."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.graphs.catalogue import DESCRIPTIONS, GraphDescription, GraphName
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import EDGES
from mmprep.pipeline.tables.table import may_contain

SOURCE = EDGES.schema.get_field_index("source")


@dataclass(frozen=True)
class EdgeWeightMeaning:
    """What the weights of a graph are.

    Attributes:
        name: in a word or two.
        meaning: in a sentence.
        digits: behind the point.
        full: the largest that there can be; None if there is no such.
    """

    name: str
    meaning: str
    digits: int = 4
    full: float | None = None


@dataclass(frozen=True)
class ItemGraph:
    """A graph of items that lies on the disk.

    Attributes:
        name: of the graph or part in it.
        path: of its edges.
        provenance: what made it.
    """

    name: GraphName
    path: Path
    provenance: dict[str, Any]

    @property
    def made_by(self) -> str:
        """The command that builds it."""
        return self.name.command

    @property
    def what(self) -> str:
        """How its edges are chosen, with the numbers that were given in the place of their names."""
        params = self.provenance["params"]
        return re.sub(r"\b(k|min_count)\b", lambda key: str(params.get(key[0], key[0])), self.name.description.what)

    @property
    def weighing(self) -> EdgeWeightMeaning:
        """What its weights are."""
        return weighing(self.name.kind, self.provenance["params"])

    def edges_of(self, item: int) -> pl.DataFrame:
        """The targets and weights of an item's own edges, the best first.

        Only the row groups that may have any are read, as the file may hold all edges of millions of items.

        Raises:
            DataError: the file is damaged or has other columns.
        """
        EDGES.check(self.path)
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                groups = [
                    n
                    for n in range(file.num_row_groups)
                    if may_contain(file.metadata.row_group(n).column(SOURCE), item)
                ]
                rows = file.read_row_groups(groups)
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{self.path}: damaged ({reason}); remove it and run `{self.made_by}`") from error
        frame = pl.DataFrame(rows.replace_schema_metadata(None))
        return frame.filter(pl.col("source") == item).select("target", "weight")


def item_graphs(layout: Layout) -> list[ItemGraph]:
    """The graphs of items that a dataset has, in the order of the catalogue.

    Raises:
        MissingInputError: it has none.
        DataError: a file there is none of mmprep's.
    """
    found = [
        ItemGraph(name, layout.graph(str(name)), read_origin(layout.graph(str(name))))
        for description in DESCRIPTIONS
        if description.nodes == "items"
        for name in names_of(description, layout)
    ]
    if not found:
        raise MissingInputError(f"{layout.graph('*').parent}: no graph of items; run `mmprep graph` first")
    return found


def read_origin(path: Path) -> dict[str, Any]:
    """The provenance of a graph; raises DataError where it does not tell the inputs and parameters."""
    provenance = read_provenance(path)
    for key in ("inputs", "params"):
        if not isinstance(provenance.get(key), dict):
            raise DataError(f"{path}: damaged provenance: no {key}; remove it and run `mmprep graph`")
    return provenance


def names_of(description: GraphDescription, layout: Layout) -> Iterator[GraphName]:
    """The names of a kind's graphs whose files are there."""
    if description.a_part_each:
        folder = layout.graph_folder(description.kind)
        yield from (GraphName(description.kind, path.stem) for path in sorted(folder.glob("[!.]*.parquet")))
    elif layout.graph(description.kind).exists():
        yield GraphName(description.kind)


def weighing(kind: str, params: dict[str, Any]) -> EdgeWeightMeaning:
    """What the weights of a kind of graph are.

    Args:
        kind: of items.
        params: the section that made it; what it lacks is taken to be the default.
    """
    weight, normalise = params.get("weight"), params.get("normalise", "none")
    by = "" if normalise == "none" else f", normalised by {normalise}"
    if kind == "cooccurrence":
        return EdgeWeightMeaning("common users", "weights are users who have both items in train", digits=0)
    if kind == "mixed":
        each = {"binary": "1 for each neighbour", "cosine": "cosine similarities"}.get(str(weight), "weights")
        share = params.get("image_weight", "its share")
        return EdgeWeightMeaning(
            "weight", f"weights are the sum over modalities of {each}{by}, the image's times {share}"
        )
    if weight == "binary":
        return EdgeWeightMeaning(
            "weight", f"weights are 1 for each neighbour{by}, so the order tells nothing of similarity"
        )
    meaning = f"weights are cosine similarities of the vectors{by}"
    return EdgeWeightMeaning("weight", meaning) if by else EdgeWeightMeaning("cosine", meaning, full=1)
