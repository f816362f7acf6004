"""Graphs of a recommender, as matrices."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmprep.pipeline.graphs.catalogue import GraphName
from mmprep.pipeline.graphs.reader import read_graph, read_raw
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.stages.training.input_readers import Encoders, InputRequest

INTERACTION_PARTS = ("symmetric", "user_mean", "item_mean")


def read(request: InputRequest) -> tuple[dict[str, Any], list[Path]]:
    """Read the fields `graphs`, weights [sources, targets] of each, and `graph_k`, and list the files.

    Raises:
        MissingInputError: a graph is not built.
        DataError: it is damaged, or its inputs have changed since.
    """
    layout, kinds = request.layout, request.description.graphs
    names = {str(key): name for kind in kinds for key, name in graph_files(kind, request.encoders)}
    graphs = {key: (read_raw if name.kind == "knn" else read_graph)(layout, str(name)) for key, name in names.items()}
    files = {key: layout.graph(str(name)) for key, name in names.items()}
    graph_k = {key: k for key, file in files.items() if (k := recorded_k(file)) is not None}
    return {"graphs": graphs, "graph_k": graph_k}, list(files.values())


def recorded_k(path: Path) -> int | None:
    """Number of neighbours per node with which a graph was built; None if its kind has none."""
    params = read_provenance(path).get("params")
    k = params.get("k") if isinstance(params, dict) else None
    return k if isinstance(k, int) else None


def graph_files(kind: str, encoders: Encoders) -> Iterator[tuple[GraphName, GraphName]]:
    """Pairs of names of each graph of a kind: the recommender's, by modality, and the file's, by encoder.

    None of `intra_item`, which are read with their patches and tokens.
    """
    if kind == "knn":
        yield from ((GraphName(kind, modality), GraphName(kind, encoder)) for modality, encoder in encoders.items())
        return
    parts: Iterable[str] = {"consistent": encoders, "interaction": INTERACTION_PARTS, "intra_item": ()}.get(kind, ("",))
    yield from ((GraphName(kind, part), GraphName(kind, part)) for part in parts)
