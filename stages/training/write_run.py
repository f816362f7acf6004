"""Write the files of a training run, config.json last."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from mmprep.models.recommenders.base import Recommender
from mmprep.models.training.checkpoint import write_tensors
from mmprep.models.training.trainer import FitResult
from mmprep.pipeline.layout import RunLayout
from mmprep.pipeline.storage.files import atomic_file, write_json
from mmprep.stages.training.run import weights_digests


def write_run(
    recommender: Recommender, result: FitResult, provenance: Mapping[str, Any], files: RunLayout
) -> dict[str, Any]:
    """Write all files of a run; return the number of epochs, the best epoch and its validation metrics."""
    metrics = {"best_epoch": result.best_epoch, "epochs": len(result.history), **validation(result)}
    write_weights(recommender, files)
    write_history(result, files)
    write_json(files.training, metrics)
    write_json(files.training_cost, asdict(result.cost))
    # Written last: readers compare the digests in it, so an interrupted run is not mistaken for a complete one.
    write_json(files.config, {**provenance, "outputs": weights_digests(files)})
    return metrics


def validation(result: FitResult) -> dict[str, float]:
    """The validation metrics of the best epoch, as `val_recall@20` and so on."""
    return {f"val_{key}": value for key, value in result.best.items() if "@" in key}


def write_weights(recommender: Recommender, files: RunLayout) -> None:
    """Write the parameters, and the embeddings used for ranking, as safetensors."""
    recommender.eval()
    with torch.inference_mode():
        users, items = recommender.embeddings()
    embeddings = {"users": users, "items": items}
    for path, tensors in ((files.checkpoint, recommender.state_dict()), (files.embeddings, embeddings)):
        write_tensors(path, tensors)


def write_history(result: FitResult, files: RunLayout) -> None:
    """Write one CSV row per epoch, for `dvc plots show`; without validation metrics if it was not validated."""
    columns = dict.fromkeys(column for row in result.history for column in row)
    with atomic_file(files.history) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, fieldnames=list(columns), lineterminator="\n")
        rows.writeheader()
        rows.writerows(result.history)
