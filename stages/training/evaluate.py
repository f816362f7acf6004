"""Stage `evaluate`: a trained recommender's test metrics and every user's recommendations."""

import json
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.training.evaluator import Ranking, compare, evaluate, rank
from mmprep.models.training.group_metrics import metrics_by_group
from mmprep.models.training.metrics import CUTOFFS, ranking_metrics
from mmprep.models.training.params import EvaluateParams
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import require, sha256, write_json
from mmprep.pipeline.tables.interactions import SplitMatrices, read_splits
from mmprep.pipeline.tables.provenance import digest_of, record
from mmprep.pipeline.tables.schemas import ITEMS, RECOMMENDATIONS, USERS


def run(name: str, params: EvaluateParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Rank all items for all users with a trained recommender; write the best items, and what they are worth in test.

    The metrics are those of the lists that are written, so anyone can compute them again.

    Returns:
        The test metrics.

    Raises:
        MissingInputError: the recommender is not trained.
        DataError: its embeddings are damaged, or of another dataset or split.
    """
    del progress  # seconds
    files = layout.run(name)
    splits = read_splits(layout)
    users, items = read_embeddings(layout, name, splits)
    mask = csr_array(splits.train + splits.val) if params.mask_val else splits.train
    everyone = np.flatnonzero(np.diff(splits.train.indptr))
    ranking = rank(users, items, everyone, mask, max(CUTOFFS))
    found = compare(ranking, splits.test)
    metrics = ranking_metrics(found.hits, found.relevant)
    inputs = [files.embeddings, layout.interactions, layout.users, layout.items]
    provenance = record("evaluate", layout, params, inputs, ("torch",), recommender=name)
    RECOMMENDATIONS.write(to_rows(ranking, layout), files.recommendations, provenance)
    write_json(files.metrics_by_group, metrics_by_group(found, splits.test, splits.train, params.user_groups))
    write_json(files.metrics, metrics)
    return metrics


def read_embeddings(layout: Layout, name: str, splits: SplitMatrices) -> tuple[Tensor, Tensor]:
    """The users' [n_users, d] and items' [n_items, d] embeddings of a run.

    Raises:
        MissingInputError: the recommender is not trained.
        DataError: the file is not the one that training wrote, or of another dataset or split.
    """
    files = layout.run(name)
    again = f"mmprep train --recommender {name}"
    inputs, written = read_config(files, again)
    require(files.embeddings, again)
    if sha256(files.embeddings) != written:
        raise DataError(f"{files.embeddings}: not what training wrote; run `{again}` again")
    # A recommender that was trained on another split knows items of today's test.
    for path in (layout.interactions, layout.users, layout.items):
        if inputs.get(layout.relative(path)) != digest_of(path):
            raise DataError(f"{files.folder}: trained on another {layout.relative(path)}; run `{again}` again")
    try:
        tensors = load_file(files.embeddings)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{files.embeddings}: damaged ({error}); run `{again}` again") from error
    users, items = tensors["users"], tensors["items"]
    if (len(users), len(items)) != (splits.n_users, splits.n_items):
        raise DataError(
            f"{files.embeddings}: found {len(users)} users and {len(items)} items, expected {splits.n_users} and "
            f"{splits.n_items}; run `{again}` again"
        )
    return users, items


def read_config(files: RunLayout, again: str) -> tuple[dict[str, str], str]:
    """The digests of what a run was trained on, and of the embeddings that it wrote.

    Raises:
        MissingInputError: the recommender is not trained.
        DataError: the config is damaged.
    """
    try:
        config = json.loads(require(files.config, again).read_text(encoding="utf-8"))
        return dict(config["inputs"]), config["outputs"][files.embeddings.name]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{files.config}: damaged; run `{again}` again") from error


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


def evaluate_run(files: RunLayout, params: EvaluateParams, splits: SplitMatrices) -> dict[str, float]:
    """The test metrics of a run that training has just written or found whole; also written into its folder.

    Raises:
        DataError: there is nothing to test on.
    """
    embeddings = load_file(files.embeddings)
    mask = csr_array(splits.train + splits.val) if params.mask_val else splits.train
    metrics = evaluate(embeddings["users"], embeddings["items"], splits.test, splits.train, mask)
    write_json(files.metrics, metrics)
    return metrics
