"""Stage `homophily`: how far neighbours in the item graphs are bought together, against random pairs."""

from typing import Any

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.cooccurrence import co_bought, co_bought_share
from mmprep.pipeline.graphs.reader import read_graph
from mmprep.pipeline.graphs.statistics import share
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.stages.graphs.item_graphs import item_graphs


def run(layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Measure, for each item graph of a dataset, which share of its edges joins items with a common user in train.

    Edges of an item to itself do not count. `random` is that share among all pairs of different items, and
    `GRAPH_times_random` how many times as often edges have a common user. A stage of its own, so that graphs of
    features need not be built again when the split changes.

    Raises:
        MissingInputError: there is no item graph.
        DataError: a graph or the split is damaged or stale, or nothing is in train.
    """
    graphs = item_graphs(layout)
    train = read_splits(layout).train
    if not train.nnz:
        raise DataError(f"{layout.interactions}: no train interactions, so nothing is bought together; see split.rule")
    random = co_bought_share(train)
    metrics: dict[str, Any] = {"random": random}
    with progress("homophily", len(graphs), "graphs") as advance:
        for graph in graphs:
            name, n_items = str(graph.name), int(train.shape[1])
            edges = read_graph(layout, name).tocoo()
            if edges.shape != (n_items, n_items):
                raise DataError(
                    f"{graph.path}: of {edges.shape[0]} items in a dataset of {n_items}; run `{graph.made_by}`"
                )
            others = edges.row != edges.col
            together = co_bought(train, edges.row[others], edges.col[others])
            found = share(int(together.sum()), len(together))
            metrics |= {name: found, f"{name}_times_random": found / random if random else 0.0}
            advance(1, name)
    write_json(layout.metrics("homophily"), metrics)
    return metrics
