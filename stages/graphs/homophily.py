"""Stage `homophily`: share of item-graph edges whose items have a common user, against random pairs."""

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
    """Measure, for each item graph of a dataset, the share of edges whose items have a common user in train.

    Self-loops do not count. `random` is the same share over all pairs of different items, and `GRAPH_times_random` the
    ratio of the two. A separate stage, so that feature graphs need not be rebuilt when the split changes.

    Raises:
        MissingInputError: there is no item graph.
        DataError: a graph or the split is damaged or stale, or train is empty.
    """
    graphs = item_graphs(layout)
    train = read_splits(layout).train
    if not train.nnz:
        raise DataError(f"{layout.interactions}: no train interactions, so no items have a common user; see split.rule")
    random = co_bought_share(train)
    metrics: dict[str, Any] = {"random": random}
    with progress("homophily", len(graphs), "graphs") as advance:
        for graph in graphs:
            name, n_items = str(graph.name), int(train.shape[1])
            edges = read_graph(layout, name).tocoo()
            if edges.shape != (n_items, n_items):
                raise DataError(
                    f"{graph.path}: found {edges.shape[0]} items, expected the dataset's {n_items}; "
                    f"run `{graph.made_by}`"
                )
            others = edges.row != edges.col
            together = co_bought(train, edges.row[others], edges.col[others])
            edge_share = share(int(together.sum()), len(together))
            metrics |= {name: edge_share, f"{name}_times_random": edge_share / random if random else 0.0}
            advance(1, name)
    write_json(layout.metrics("homophily"), metrics)
    return metrics
