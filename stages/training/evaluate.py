"""Stage `evaluate`: a trained recommender's test metrics and every user's recommendations."""

from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from mmprep.models.training.evaluator import Ranking, evaluate, match_hits, rank
from mmprep.models.training.group_metrics import metrics_by_group
from mmprep.models.training.metrics import CUTOFFS, ranking_metrics
from mmprep.models.training.params import EvaluateParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.interactions import SplitMatrices, read_splits
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import ITEMS, RECOMMENDATIONS, USERS
from mmprep.stages.training.run import TrainedRun


def run(name: str, params: EvaluateParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Rank all items for all users with a trained recommender; write the top items and their test metrics.

    The metrics are computed from the written lists, so they can be recomputed from the files.

    Returns:
        The test metrics.

    Raises:
        MissingInputError: the recommender is not trained.
        DataError: its files are damaged, or of another dataset or split.
    """
    del progress  # takes seconds
    files = layout.run(name)
    splits = read_splits(layout)
    trained = TrainedRun.open(files, name)
    # A recommender trained on another split has seen items of the current test split.
    trained.require_fresh(layout, (layout.interactions, layout.users, layout.items))
    users, items = trained.embeddings(splits.n_users, splits.n_items)
    mask = csr_array(splits.train + splits.val) if params.mask_val else splits.train
    active_users = np.flatnonzero(np.diff(splits.train.indptr))
    ranking = rank(users, items, active_users, mask, max(CUTOFFS))
    matched = match_hits(ranking, splits.test)
    metrics = ranking_metrics(matched.hits, matched.relevant)
    inputs = [files.embeddings, layout.interactions, layout.users, layout.items]
    provenance = record("evaluate", layout, params, inputs, ("torch",), recommender=name)
    RECOMMENDATIONS.write(to_rows(ranking, layout), files.recommendations, provenance)
    write_json(files.metrics_by_group, metrics_by_group(matched, splits.test, splits.train, params.user_groups))
    write_json(files.metrics, metrics)
    return metrics


def to_rows(ranking: Ranking, layout: Layout) -> pl.DataFrame:
    """The ranking as table RECOMMENDATIONS, without the masked items that fill short lists."""
    users, k = ranking.items.shape
    rows = pl.DataFrame(
        {
            "user": np.repeat(ranking.users.astype(np.int32), k),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), users),
            "item": ranking.items.reshape(-1).astype(np.int32),
            "score": ranking.scores.reshape(-1),
        }
    ).filter(pl.col("score").is_finite())
    named = rows.join(USERS.read(layout.users), on="user", how="left", maintain_order="left")
    titles = ITEMS.read(layout.items, columns=["item", "item_id", "title"])
    return named.join(titles, on="item", how="left", maintain_order="left")


def evaluate_run(trained: TrainedRun, params: EvaluateParams, splits: SplitMatrices) -> dict[str, float]:
    """Compute the test metrics of a complete run and write them into its folder.

    Raises:
        DataError: there is nothing to test on.
    """
    users, items = trained.embeddings(splits.n_users, splits.n_items)
    mask = csr_array(splits.train + splits.val) if params.mask_val else splits.train
    metrics = evaluate(users, items, splits.test, splits.train, mask)
    write_json(trained.files.metrics, metrics)
    return metrics
