"""Stage `train`: one recommender fitted to the train interactions, stopped by the validation ones."""

import csv
from typing import Any

import torch
from safetensors.torch import save_file

from models.recommenders.base import Recommender, RecommenderParams, TrainingData
from models.recommenders.catalogue import describe
from models.training.params import TrainParams
from models.training.trainer import Fit, build, fit
from pipeline.features import features_of, part_paths
from pipeline.files import atomic_file, sha256, write_json
from pipeline.layout import Layout, RunLayout
from pipeline.matrices import read_splits
from pipeline.progress import Progress, silent
from pipeline.provenance import record


def run(
    name: str,
    params: TrainParams,
    recommender_params: RecommenderParams,
    layout: Layout,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train one recommender and write its best epoch: checkpoint, embeddings, config and history.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: the split interactions or the features are not there.
        DataError: training diverged, or there is nothing to validate on.
    """
    description = describe(name)
    encoders = modality_encoders(params) if description.multimodal else {}
    splits = read_splits(layout)
    data = TrainingData(
        train=splits.train,
        val=splits.val,
        features={
            modality: features_of(layout, encoder).matrix(splits.n_items) for modality, encoder in encoders.items()
        },
    )
    recommender = build(description.load(), data, recommender_params, params.seed)
    result = fit(recommender, data, params, recommender_params.learning_rate, progress)

    files = layout.run(name)
    metrics = {"best_epoch": result.best_epoch, "epochs": len(result.history), **validation(result)}
    write_weights(recommender, files)
    write_history(result, files)
    write_json(files.training, metrics)
    inputs = [layout.interactions, layout.users, layout.items]
    inputs += [part for encoder in encoders.values() for part in part_paths(layout.features(encoder))]
    provenance = record(
        "train",
        layout,
        recommender_params,
        inputs,
        ("torch",),
        recommender=name,
        features=encoders,
        train={key: getattr(params, key) for key in ("batch_size", "max_epochs", "patience", "seed")},
        outputs={path.name: sha256(path) for path in (files.checkpoint, files.embeddings)},
    )
    # Written last: `evaluate` compares the digests in it, so a killed run is not taken for a whole one.
    write_json(files.config, provenance.to_dict())
    return metrics


def modality_encoders(params: TrainParams) -> dict[str, str]:
    """The encoder of each modality that is used."""
    return {modality: name for modality, name in (("image", params.image), ("text", params.text)) if name}


def validation(result: Fit) -> dict[str, float]:
    """The validation metrics of the best epoch, as `val_recall@20` and so on."""
    return {f"val_{key}": value for key, value in result.best.items() if "@" in key}


def write_weights(recommender: Recommender, files: RunLayout) -> None:
    """Write the parameters, and the embeddings that rank, as safetensors."""
    recommender.eval()
    with torch.inference_mode():
        users, items = recommender.embeddings()
    embeddings = {"users": users, "items": items}
    for path, tensors in ((files.checkpoint, recommender.state_dict()), (files.embeddings, embeddings)):
        with atomic_file(path) as temporary:
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, temporary)


def write_history(result: Fit, files: RunLayout) -> None:
    """Write a CSV row an epoch, for `dvc plots show`."""
    with atomic_file(files.history) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, fieldnames=list(result.history[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(result.history)
