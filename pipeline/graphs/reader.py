"""Reading graphs as matrices, and whether they are of the dataset that there is now."""

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
        layout: of the dataset.
        name: below graphs/DATASET, such as `cooccurrence`, `knn/minilm` or `interaction/symmetric`.

    Raises:
        MissingInputError: the graph is not built.
        DataError: it is damaged, or was built of something else than there is now.
    """
    path = layout.graph(name)
    frame = EDGES.read(path)
    provenance = read_provenance(path)
    require_graph_is_fresh(layout, path, provenance)
    return Edges.from_frame(frame).to_matrix(*shape_of(path, provenance))


def shape_of(path: Path, provenance: dict[str, Any]) -> tuple[int, int]:
    """How many nodes a graph's edges can start from and end at.

    Raises:
        DataError: it does not tell, as somebody else wrote it.
    """
    shape = provenance.get("shape")
    if not isinstance(shape, list) or [type(size) for size in shape] != [int, int] or min(shape) < 0:
        raise DataError(f"{path}: does not tell how many nodes it has; run `mmprep graph` again")
    return shape[0], shape[1]


def read_raw(layout: Layout, name: str) -> csr_array:
    """Read a graph `knn/ENCODER` with cosines as weights, for readers that weight and normalise it by themselves.

    Raises:
        MissingInputError, DataError: as `read_graph`, or its weights are others.
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
    """Check that a graph is built of what lies there now, and so on where that is a graph.

    Raises:
        DataError: it is not.
    """
    again = GraphName.parse(provenance.get("graph", path.stem)).command
    require_fresh(path, provenance["inputs"], layout, again)
    for name in provenance["inputs"]:
        if name.startswith("graphs/"):
            require_graph_is_fresh(layout, layout.root / name, read_provenance(layout.root / name))
