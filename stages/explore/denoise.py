"""Verb `denoise`: the reliability that a trained DA-MRS assigns to each train interaction."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from mmprep.models.recommenders.da_mrs import DAMRS
from mmprep.models.training.negative_sampling import NegativeSampler
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import ITEMS, RELIABILITIES, USERS
from mmprep.pipeline.text import printable
from mmprep.stages.training.load_run import LoadedRun, load_run

RECOMMENDER = "da_mrs"
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class DoubtfulInteraction:
    """A train interaction and its reliabilities.

    Attributes:
        user_id: the user's original id.
        item_id: the item's original id.
        title: of the item.
        f: probability that the interaction is observed if the user likes the item.
        g: the same if the user does not.
    """

    user_id: str
    item_id: str
    title: str
    f: float
    g: float

    columns = ("user", "item", "title", "f", "g")

    def row(self) -> tuple[str, ...]:
        """The columns, safe to print."""
        texts = (printable(text) for text in (self.user_id, self.item_id, self.title))
        return (*texts, f"{self.f:.4f}", f"{self.g:.4f}")


def run(layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Write f and g of all train interactions; return a summary.

    They are estimated as in training (docs/papers/da_mrs.md#reliabilities), with the best epoch's parameters; yn is the
    mean over one negative per interaction, drawn with the training's seed.

    Raises:
        MissingInputError: da_mrs is not trained, or its training data is missing.
        DataError: its files are damaged, or its interactions, features or graphs have changed since training.
    """
    del progress  # takes seconds
    loaded = load_run(layout, RECOMMENDER)
    params = recommender_of(loaded).params
    rows = estimate(loaded, layout)
    inputs = [loaded.run.files.checkpoint, *loaded.inputs]
    note = {"recommender": RECOMMENDER, "seed": loaded.run.config.train.seed}
    RELIABILITIES.write(rows, layout.reliabilities, record("denoise", layout, params, inputs, ("torch",), **note))
    return summary(rows) | places(layout)


def estimate(loaded: LoadedRun, layout: Layout) -> pl.DataFrame:
    """Table RELIABILITIES, sorted by user, then item."""
    train = loaded.data.train.tocoo()
    order = np.lexsort((train.col, train.row))
    users, items = train.row[order].astype(np.int64), train.col[order].astype(np.int64)
    rng = np.random.default_rng(loaded.run.config.train.seed)
    sampler = NegativeSampler(loaded.data.train)
    scored = sampler.has_negative(users)  # reliability compares an interaction with a negative
    users, items = users[scored], items[scored]
    negatives = sampler.sample(users, rng)
    triples = (torch.from_numpy(each) for each in (users, items, negatives))
    f, g = recommender_of(loaded).reliabilities(*triples)
    pairs = {"user": users.astype(np.int32), "item": items.astype(np.int32)}
    rows = pl.DataFrame({**pairs, "f": f.numpy(), "g": g.numpy()})
    named = rows.join(USERS.read(layout.users), on="user", how="left", maintain_order="left")
    ids = ITEMS.read(layout.items, ["item", "item_id"])
    return named.join(ids, on="item", how="left", maintain_order="left").select(RELIABILITIES.schema.names)


def recommender_of(loaded: LoadedRun) -> DAMRS:
    """The recommender with its own type."""
    return cast(DAMRS, loaded.recommender)


def summary(rows: pl.DataFrame) -> dict[str, Any]:
    """The number of interactions, quantiles of f and g, and the share of interactions with g above f."""
    metrics: dict[str, Any] = {"interactions": len(rows)}
    for name in ("f", "g"):
        metrics |= {f"{name}_p{100 * q:.0f}": float(np.quantile(rows[name].to_numpy(), q)) for q in QUANTILES}
    return metrics | {"share_g_above_f": float((rows["g"] > rows["f"]).to_numpy().mean())}


def places(layout: Layout) -> dict[str, str]:
    """Paths of the table, and of the graphs that DA-MRS denoises if they are built."""
    graphs = layout.graph_folder("consistent")
    consistent = str(graphs) if any(graphs.glob("*.parquet")) else "none; run `mmprep graph --graph consistent`"
    return {"table": str(layout.reliabilities), "consistent_graphs": consistent}


def least_reliable(layout: Layout, limit: int) -> list[DoubtfulInteraction]:
    """The interactions with the smallest f - g, ascending, from the table that `run` wrote.

    Args:
        layout: the dataset's paths.
        limit: the maximum number of interactions.
    """
    rows = RELIABILITIES.read(layout.reliabilities)
    worst = rows.sort(pl.col("f") - pl.col("g"), "user", "item").head(limit)
    titles = ITEMS.read(layout.items, ["item", "title"])
    named = worst.join(titles, on="item", how="left", maintain_order="left").select(DoubtfulInteraction.__match_args__)
    return [DoubtfulInteraction(*row) for row in named.iter_rows()]
