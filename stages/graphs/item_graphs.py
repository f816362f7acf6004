"""Item graphs of a dataset on disk: the meaning of their weights, and the edges of one item."""

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
    """Meaning of a graph's edge weights.

    Attributes:
        name: a word or two.
        meaning: a clause.
        digits: decimal places to show.
        full: the largest possible weight; None if unbounded.
    """

    name: str
    meaning: str
    digits: int = 4
    full: float | None = None


@dataclass(frozen=True)
class ItemGraph:
    """An item graph on disk.

    Attributes:
        name: of the graph, or of one of its parts.
        path: of its edges.
        provenance: of its file.
    """

    name: GraphName
    path: Path
    provenance: dict[str, Any]

    @property
    def made_by(self) -> str:
        """The command that builds it."""
        return self.name.command

    @property
    def rule(self) -> str:
        """How its edges are chosen, with the parameters' values in place of their names."""
        params = self.provenance["params"]
        return re.sub(r"\b(k|min_count)\b", lambda key: str(params.get(key[0], key[0])), self.name.description.rule)

    @property
    def weighing(self) -> EdgeWeightMeaning:
        """Meaning of its weights."""
        return weighing(self.name.kind, self.provenance["params"])

    def edges_of(self, item: int) -> pl.DataFrame:
        """Targets and weights of an item's outgoing edges, the largest weight first.

        Reads only the row groups that may contain any, as the file may hold the edges of millions of items.

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
    """All item graphs of a dataset, in catalogue order.

    Raises:
        MissingInputError: it has none.
        DataError: a file was not written by mmprep.
    """
    graphs = [
        ItemGraph(name, layout.graph(str(name)), read_origin(layout.graph(str(name))))
        for description in DESCRIPTIONS
        if description.nodes == "items"
        for name in names_of(description, layout)
    ]
    if not graphs:
        raise MissingInputError(f"{layout.graph('*').parent}: no graph of items; run `mmprep graph` first")
    return graphs


def read_origin(path: Path) -> dict[str, Any]:
    """The provenance of a graph; raises DataError if it lacks the inputs or the parameters."""
    provenance = read_provenance(path)
    for key in ("inputs", "params"):
        if not isinstance(provenance.get(key), dict):
            raise DataError(f"{path}: damaged provenance: no {key}; remove it and run `mmprep graph`")
    return provenance


def names_of(description: GraphDescription, layout: Layout) -> Iterator[GraphName]:
    """Names of a kind's graphs whose files exist."""
    if description.a_part_each:
        folder = layout.graph_folder(description.kind)
        yield from (GraphName(description.kind, path.stem) for path in sorted(folder.glob("[!.]*.parquet")))
    elif layout.graph(description.kind).exists():
        yield GraphName(description.kind)


def weighing(kind: str, params: dict[str, Any]) -> EdgeWeightMeaning:
    """Meaning of the weights of a kind of graph.

    Args:
        kind: of item graph.
        params: the section that the graph was built with; missing keys count as their defaults.
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
            "weight", f"weights are 1 for each neighbour{by}, so the order says nothing about similarity"
        )
    meaning = f"weights are cosine similarities of the vectors{by}"
    return EdgeWeightMeaning("weight", meaning) if by else EdgeWeightMeaning("cosine", meaning, full=1)
