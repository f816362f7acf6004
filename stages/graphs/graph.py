"""Stage `graph`: graphs of items, users, and patches or tokens, from features and from train interactions."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from mmprep.pipeline.graphs.catalogue import GraphName
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import write_json
from mmprep.stages.graphs.request import GraphRequest

Builder = Callable[[GraphRequest], dict[str, Any]]
"""Builds one graph, or one part of it, writes its files and returns the metrics."""


def graph_names(params: GraphsParams) -> list[str]:
    """Names of all graphs that `mmprep graph` builds, as its option `--graph` takes them."""
    return [
        *(f"knn/{encoder}" for encoder in params.encoders),
        *("mixed", "consistent", "cooccurrence", "user_user", "interaction"),
        *(f"intra_item/{encoder}" for encoder in params.intra_item.encoders),
    ]


def run(
    name: str, params: GraphsParams, encoders: Mapping[str, str], layout: Layout, progress: Progress = silent
) -> dict[str, Any]:
    """Build one graph and write its edges.

    Args:
        name: as mmprep.pipeline.graphs.catalogue describes it, such as `knn/minilm` or `cooccurrence`.
        params: section `graphs`.
        encoders: the encoder of each modality that training uses, for graphs that join modalities.
        layout: of the dataset.
        progress: reports long steps.

    Raises:
        ParamsError: there is no such graph.
        MissingInputError: the features or the split interactions are missing.
        DataError: they cannot be used, or k is too large.
    """
    graph = GraphName.parse_request(name)
    metrics = load_builder(graph.kind)(GraphRequest(graph, params, encoders, layout, progress))
    write_json(layout.metrics(graph.metrics), metrics)
    return metrics


def load_builder(kind: str) -> Builder:
    """Import the builder of a kind of graph."""
    build: Builder = import_module(builder_module(kind)).build
    return build


def builder_module(kind: str) -> str:
    """Module whose `build` builds a kind of graph; imported by name, so no graph depends on another kind's code."""
    return f"mmprep.stages.graphs.{kind}"
