"""Input and output of a graph builder: the request, and the built graph, which writes itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.catalogue import GraphName
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.graphs.statistics import summarise
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.storage.files import atomic_folder
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import EDGES

EdgesAndShape = tuple[Edges, tuple[int, int]]
"""Edges, and the numbers of source and target nodes."""


@dataclass(frozen=True)
class GraphRequest:
    """Parameters and inputs of one graph.

    Attributes:
        name: of the graph, or of the part that is built by itself, such as `knn/minilm` or `cooccurrence`.
        params: section `graphs`.
        encoders: the encoder of each modality that training uses.
        layout: of the dataset.
        progress: reports long steps.
    """

    name: GraphName
    params: GraphsParams
    encoders: Mapping[str, str]
    layout: Layout
    progress: Progress

    def modalities(self) -> Mapping[str, str]:
        """The encoder of each modality, for graphs that join modalities.

        Raises:
            ParamsError: training uses no modality.
        """
        if not self.encoders:
            raise ParamsError(
                f"graph {self.name}: train.image, train.text and train.audio are all empty, so there is nothing to join"
            )
        return self.encoders


@dataclass(frozen=True)
class BuiltGraph:
    """Edges of a graph, and the metadata recorded with them.

    Attributes:
        parts: edges by part, one file each; a graph of one file has the part "".
        section: the parameters it was built with.
        inputs: the files it was built from.
        metrics: metrics specific to this kind of graph, added to those of all graphs.
        libraries: distributions whose version can change the edges.
    """

    parts: Mapping[str, EdgesAndShape]
    section: Params
    inputs: list[Path]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()

    def write(self, request: GraphRequest) -> dict[str, Any]:
        """Write the graph's file, or its folder with one file per part, atomically.

        Returns:
            The metrics; those of parts are named `PART_edges` and so on.
        """
        layout, name = request.layout, str(request.name)
        provenance = {
            part: record("graph", layout, self.section, self.inputs, self.libraries, graph=name, shape=list(shape))
            for part, (_, shape) in self.parts.items()
        }
        if "" in self.parts:
            EDGES.write(self.parts[""][0].to_frame(), layout.graph(name), provenance[""])
        else:
            with atomic_folder(layout.graph_folder(name)) as folder:
                for part, (edges, _) in self.parts.items():
                    EDGES.write(edges.to_frame(), folder / f"{part}.parquet", provenance[part])
        return self._metrics(bipartite=request.name.description.nodes == "users and items")

    def _metrics(self, *, bipartite: bool) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for part, (edges, (n_sources, n_targets)) in self.parts.items():
            summary = summarise(edges, n_sources, n_targets if bipartite else None)
            metrics |= {f"{part}_{key}" if part else key: value for key, value in summary.items()}
        return metrics | dict(self.metrics)
