"""Stage `train`: one recommender fitted to the train interactions, stopped by the validation ones."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmprep.models.device import best_device
from mmprep.models.recommenders.base import Recommender, RecommenderParams, TrainingData
from mmprep.models.recommenders.catalogue import RecommenderDescription, describe
from mmprep.models.training.checkpoint import UnfinishedFile, write_tensors
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import Steps
from mmprep.models.training.trainer import DivergedError, Fit, build, fit
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import atomic_file, sha256, write_json
from mmprep.pipeline.tables.provenance import Provenance, record
from mmprep.stages.training.training_data import read_training_data


def run(
    name: str,
    params: TrainParams,
    recommender_params: RecommenderParams,
    layout: Layout,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train one recommender and write its best epoch: checkpoint, embeddings, config and history.

    A training that was killed continues from the last epoch that it saved, and gives the same bytes.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: the split interactions or the features are not there.
        DataError: training diverged, or there is nothing to validate on.
    """
    return prepare(name, params, recommender_params, layout).run(layout.run(name), progress)


@dataclass(frozen=True)
class Training:
    """A training that may begin: all that determines it, read and checked.

    Attributes:
        description: which recommender.
        params: section `train`.
        recommender_params: the recommender's own section.
        data: what it is trained and validated on.
        origin: the provenance of what it writes, but for what `provenance` adds.
    """

    description: RecommenderDescription
    params: TrainParams
    recommender_params: RecommenderParams
    data: TrainingData
    origin: Provenance

    @property
    def provenance(self) -> dict[str, Any]:
        """All that determines the result, as the config tells it."""
        used = {key: getattr(self.params, key) for key in ("batch_size", "max_epochs", "patience", "seed")}
        return replace(
            self.origin,
            params=self.recommender_params.model_dump(mode="json"),
            notes={**self.origin.notes, "train": used},
        ).to_dict()

    def run(self, files: RunLayout, progress: Progress = silent) -> dict[str, Any]:
        """Train, or continue a training that was killed, and write the best epoch.

        Raises:
            DataError: training diverged, or there is nothing to validate on.
        """
        # The last digits depend on the device, so a training stays on its own.
        unfinished = UnfinishedFile(files.unfinished, {**self.provenance, "device": best_device().type})
        recommender = build(self.description.load(), self.data, self.recommender_params, self.params.seed)
        try:
            steps = Steps.of(self.recommender_params)
            result = fit(recommender, self.data, self.params, steps, progress, unfinished)
        except DivergedError:
            unfinished.remove()
            raise
        metrics = write_run(recommender, result, self.provenance, files)
        unfinished.remove()
        return metrics

    def finished(self, files: RunLayout) -> dict[str, Any] | None:
        """What an earlier run of this very training has told, if it ended and its files are whole."""
        try:
            config = json.loads(files.config.read_text(encoding="utf-8"))
            metrics = json.loads(files.training.read_text(encoding="utf-8"))
            whole = config == {**self.provenance, "outputs": digests(files)}
        except (OSError, ValueError):
            return None
        return metrics if whole and isinstance(metrics, dict) else None


def prepare(name: str, params: TrainParams, recommender_params: RecommenderParams, layout: Layout) -> Training:
    """Read what a recommender is trained on.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: the split interactions, the features or the graphs are not there.
        DataError: one is damaged or of another dataset.
    """
    description = describe(name)
    encoders = params.token_encoders if description.tokens else params.modalities if description.multimodal else {}
    read = read_training_data(description, encoders, layout, params.token_memory)
    notes: dict[str, Any] = {"recommender": name, "features": encoders}
    if read.pseudo_tokens:
        notes["pseudo_tokens"] = read.pseudo_tokens
    origin = record("train", layout, recommender_params, read.inputs, ("torch",), **notes)
    return Training(description, params, recommender_params, read.data, origin)


def write_run(recommender: Recommender, result: Fit, provenance: Mapping[str, Any], files: RunLayout) -> dict[str, Any]:
    """Write all files of a run; the number of epochs, the best one and its validation metrics."""
    metrics = {"best_epoch": result.best_epoch, "epochs": len(result.history), **validation(result)}
    write_weights(recommender, files)
    write_history(result, files)
    write_json(files.training, metrics)
    write_json(files.cost, asdict(result.cost))
    # Written last: `evaluate` compares the digests in it, so a killed run is not taken for a whole one.
    write_json(files.config, {**provenance, "outputs": digests(files)})
    return metrics


def digests(files: RunLayout) -> dict[str, str]:
    """The SHA-256 of a run's weights by file name."""
    paths: tuple[Path, ...] = (files.checkpoint, files.embeddings)
    return {path.name: sha256(path) for path in paths}


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
        write_tensors(path, tensors)


def write_history(result: Fit, files: RunLayout) -> None:
    """Write a CSV row an epoch, for `dvc plots show`."""
    with atomic_file(files.history) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, fieldnames=list(result.history[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(result.history)
