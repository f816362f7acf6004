"""Reader of graphs as sparse matrices, with freshness checks."""

from pathlib import Path
from typing import Any

from scipy.sparse import csr_array

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.catalogue import GraphName
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import require_fresh
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import EDGES


def read_graph(layout: Layout, name: str) -> csr_array:
    """Read a graph's weights, [sources, targets].

    Args:
        layout: paths of the dataset.
        name: path below graphs/DATASET, such as `cooccurrence`, `knn/minilm` or `interaction/symmetric`.

    Raises:
        MissingInputError: the graph is not built.
        DataError: it is damaged or stale.
    """
    path = layout.graph(name)
    frame = EDGES.read(path)
    provenance = read_provenance(path)
    require_graph_is_fresh(layout, path, provenance)
    return Edges.from_frame(frame).to_matrix(*shape_of(path, provenance))


def shape_of(path: Path, provenance: dict[str, Any]) -> tuple[int, int]:
    """Numbers of source and target nodes of a graph.

    Raises:
        DataError: the provenance does not record them, as mmprep did not write the graph.
    """
    shape = provenance.get("shape")
    if not isinstance(shape, list) or [type(size) for size in shape] != [int, int] or min(shape) < 0:
        raise DataError(f"{path}: does not record its number of nodes; run `mmprep graph` again")
    return shape[0], shape[1]


def read_raw(layout: Layout, name: str) -> csr_array:
    """Read a graph `knn/ENCODER` with plain cosines as weights, to be weighted and normalised by the caller.

    Raises:
        MissingInputError, DataError: as `read_graph`, or the graph has other weights or is normalised.
    """
    matrix = read_graph(layout, name)
    params = read_provenance(layout.graph(name))["params"]
    for key, expected in (("weight", "cosine"), ("normalise", "none")):
        if params[key] != expected:
            raise DataError(
                f"{layout.graph(name)}: found {key} {params[key]}, expected {expected}, as what is made of it weights "
                f"and normalises it; set graphs.knn.{key} and run `mmprep graph --graph {name}`"
            )
    return matrix


def require_graph_is_fresh(layout: Layout, path: Path, provenance: dict[str, Any]) -> None:
    """Check that a graph was built from the current inputs, recursively if those are graphs.

    Raises:
        DataError: it is stale.
    """
    again = GraphName.parse(provenance.get("graph", path.stem)).command
    require_fresh(path, provenance["inputs"], layout, again)
    for name in provenance["inputs"]:
        if name.startswith("graphs/"):
            require_graph_is_fresh(layout, layout.root / name, read_provenance(layout.root / name))
