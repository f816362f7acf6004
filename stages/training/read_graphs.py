"""Graphs of a recommender, as matrices."""

from collections.abc import Iterator
from pathlib import Path

from scipy.sparse import csr_array

from mmprep.pipeline.graphs.reader import read_graph, read_raw
from mmprep.stages.training.training_data import Encoders, InputRequest


def read(request: InputRequest) -> tuple[dict[str, csr_array], list[Path]]:
    """Read the weights [sources, targets] of each graph, and name the files.

    Raises:
        MissingInputError: a graph is not built.
        DataError: it is damaged, or was built of something else than there is now.
    """
    layout, kinds = request.layout, request.description.graphs
    files = {key: name for kind in kinds for key, name in graph_files(kind, request.encoders)}
    graphs = {key: (read_raw if name.startswith("knn/") else read_graph)(layout, name) for key, name in files.items()}
    return graphs, [layout.graph(name) for name in files.values()]


def graph_files(kind: str, encoders: Encoders) -> Iterator[tuple[str, str]]:
    """The name of each graph of a kind, as recommenders ask for it and as its file is called.

    None of `intra_item`, which come with the patches and tokens among which they are.
    """
    if kind == "knn":
        yield from ((f"knn/{modality}", f"knn/{encoder}") for modality, encoder in encoders.items())
    elif kind == "consistent":
        yield from ((f"consistent/{modality}", f"consistent/{modality}") for modality in encoders)
    elif kind == "interaction":
        yield from ((f"interaction/{part}", f"interaction/{part}") for part in ("symmetric", "user_mean", "item_mean"))
    elif kind != "intra_item":
        yield kind, kind
