"""Stage `graph`: graphs of items, users, and patches or tokens, from features and from train interactions."""

from collections.abc import Mapping
from typing import Any

from mmprep.pipeline.graphs import intra_item
from mmprep.pipeline.graphs.catalogue import GraphDescription, describe
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.graphs.statistics import summarise
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import atomic_folder, write_json
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.table import EDGES
from mmprep.stages.graphs.graph_builders import BUILDERS, Asked, Built


def graph_names(params: GraphsParams) -> list[str]:
    """The graphs that `mmprep graph` builds, as they are asked for one by one."""
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
        progress: shown what takes long.

    Raises:
        ParamsError: there is no such graph.
        MissingInputError: the features or the split interactions are not there.
        DataError: they cannot be used, or k is too large.
    """
    description, part = describe(name)
    if description.kind == "intra_item":
        metrics = intra_item.build(layout, part, params.intra_item, progress)
    else:
        built = BUILDERS[description.kind](part, Asked(params, encoders, layout, progress))
        write(name, built, layout)
        metrics = measure(built, description)
    write_json(layout.metrics(f"graph-{name.replace('/', '-')}"), metrics)
    return metrics


def write(name: str, built: Built, layout: Layout) -> None:
    """Write a graph's file, or its folder with a file a part, all at once."""
    provenance = {
        part: record("graph", layout, built.section, built.inputs, built.libraries, graph=name, shape=list(shape))
        for part, (_, shape) in built.parts.items()
    }
    if "" in built.parts:
        EDGES.write(built.parts[""][0].to_frame(), layout.graph(name), provenance[""])
        return
    with atomic_folder(layout.graph_folder(name)) as folder:
        for part, (edges, _) in built.parts.items():
            EDGES.write(edges.to_frame(), folder / f"{part}.parquet", provenance[part])


def measure(built: Built, description: GraphDescription) -> dict[str, Any]:
    """The stage's metrics; those of parts are named `PART_edges` and so on."""
    metrics: dict[str, Any] = {}
    for part, (edges, (n_sources, n_targets)) in built.parts.items():
        found = summarise(edges, n_sources, n_targets if description.nodes == "users and items" else None)
        metrics |= {f"{part}_{key}" if part else key: value for key, value in found.items()}
    return metrics | dict(built.metrics)
