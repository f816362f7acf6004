"""A training run on disk: the only reader of its config.json, training.json, history.csv and metrics.json.

`write_run` writes a run and `load_run` rebuilds its recommender. They are separate modules, so that a stage that only
reads runs depends on neither, and this one imports no torch, which takes seconds.
"""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from mmprep.pipeline.errors import DataError, first_line
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.storage.files import read_json, require_exists, sha256
from mmprep.pipeline.tables.freshness import require_fresh

if TYPE_CHECKING:
    from torch import Tensor

VALIDATION = "val_recall@20"
"""Metric of training.json used for early stopping and to compare runs."""


class Record(BaseModel):
    """Base of the JSON records that training writes: strict types; keys added by other versions are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)


R = TypeVar("R", bound=Record)


class TrainSettings(Record):
    """The keys of section `train` that determine a run; see `TrainParams`."""

    batch_size: int
    max_epochs: int
    patience: int
    seed: Annotated[int, Field(ge=0)]


class ValidationSettings(Record):
    """The key of section `evaluate` that determines a run; see `EvaluateParams`."""

    every: Annotated[int, Field(ge=1)] = 1


class RunConfig(Record):
    """config.json: the provenance of a run, and the digests of its weights.

    Attributes:
        mmprep: the version that trained the run.
        stage: `train`.
        params: the recommender's section of params.yaml.
        inputs: the digest of each file that was read, by its path below the data folder.
        libraries: the version of each distribution that can change the result.
        recommender: its name.
        features: the encoder of each modality, or of patches and words.
        pseudo_tokens: encoders whose vectors were cut into pieces in place of patches or tokens.
        train: the keys of section `train` that determine the run.
        evaluate: the key of section `evaluate` that determines it.
        outputs: the SHA-256 of checkpoint and embeddings, by file name.
    """

    mmprep: str
    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]
    libraries: dict[str, str]
    recommender: str
    features: dict[str, str]
    pseudo_tokens: list[str] = []
    train: TrainSettings
    evaluate: ValidationSettings = ValidationSettings()
    outputs: dict[str, str]


class TrainingMetrics(Record):
    """training.json: the best epoch, the number of epochs, and the best epoch's validation metrics."""

    best_epoch: int
    epochs: int
    validation: Annotated[float, Field(alias=VALIDATION)]
    __pydantic_extra__: dict[str, float]


@dataclass(frozen=True)
class TrainedRun:
    """A completed training run.

    Attributes:
        files: of the run.
        recommender: its name, for the command in messages.
        config: config.json, as it was when the run was opened.
        values: the same as plain JSON values.
    """

    files: RunLayout
    recommender: str
    config: RunConfig
    values: dict[str, Any]

    @classmethod
    def open(cls, files: RunLayout, recommender: str) -> "TrainedRun":
        """Read and check config.json, which training writes last.

        Raises:
            MissingInputError: there is none: the recommender is not trained.
            DataError: it is damaged.
        """
        return cls(files, recommender, *read_record(files.config, RunConfig, recommender))

    @property
    def made_by(self) -> str:
        """The command that trains the recommender."""
        return train_command(self.recommender)

    def is_whole_result_of(self, provenance: Mapping[str, Any]) -> bool:
        """Whether training with exactly this provenance wrote the current weights.

        Raises:
            OSError: one of them is missing.
        """
        return self.values == {**provenance, "outputs": weights_digests(self.files)}

    def require_output(self, path: Path) -> None:
        """Compare a weights file with its recorded digest.

        Raises:
            MissingInputError: it is missing.
            DataError: the digests differ.
        """
        if sha256(require_exists(path, self.made_by)) != self.config.outputs.get(path.name):
            raise DataError(f"{path}: not what training wrote; run `{self.made_by}` again")

    def require_whole(self) -> None:
        """Compare the weights with their digests, and the history with the number of epochs.

        Raises:
            MissingInputError: a file is missing.
            DataError: one is damaged, or of another training.
        """
        for path in weights(self.files):
            self.require_output(path)
        epochs = self.training()["epochs"]
        if history_epochs(self.files.history) != list(range(1, epochs + 1)):
            raise DataError(f"{self.files.history}: does not have {epochs} epochs; run `{self.made_by}` again")

    def require_fresh(self, layout: Layout, only: Collection[Path] = ()) -> None:
        """Check that the run's inputs have not changed since training.

        Args:
            layout: of the dataset.
            only: compare only these files; by default all that training read.

        Raises:
            DataError: an input has changed; the message names it and the command.
        """
        require_fresh(self.files.folder, self.config.inputs, layout, self.made_by, only)

    def sizes(self) -> tuple[int, int]:
        """Numbers of users and items with an embedding.

        Raises:
            DataError: the file is damaged.
        """
        path = self.files.embeddings
        try:
            with safe_open(path, "numpy") as tensors:
                users, items = (tensors.get_slice(name).get_shape()[0] for name in ("users", "items"))
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: damaged ({error}); run `{self.made_by}` again") from error
        return users, items

    def require_sizes(self, n_users: int, n_items: int) -> None:
        """Check that there is an embedding for each user and item of the dataset.

        Raises:
            DataError: the numbers differ, or the file is damaged.
        """
        users, items = self.sizes()
        if (users, items) != (n_users, n_items):
            raise DataError(
                f"{self.files.embeddings}: found {users} users and {items} items, expected {n_users} and {n_items}; "
                f"run `{self.made_by}` again"
            )

    def embeddings(self, n_users: int, n_items: int) -> "tuple[Tensor, Tensor]":
        """The users' [n_users, d] and items' [n_items, d] embeddings.

        Raises:
            MissingInputError: the file is missing.
            DataError: it is not the one that training wrote, or has another number of users or items.
        """
        from safetensors.torch import load_file

        self.require_output(self.files.embeddings)
        self.require_sizes(n_users, n_items)
        tensors = load_file(self.files.embeddings)
        return tensors["users"], tensors["items"]

    def training(self) -> dict[str, Any]:
        """The training metrics; see `read_training`."""
        return read_training(self.files, self.recommender)


def train_command(recommender: str) -> str:
    """The command that trains a recommender."""
    return f"mmprep train --recommender {recommender}"


def weights(files: RunLayout) -> tuple[Path, Path]:
    """The weights files, whose digests config.json records."""
    return files.checkpoint, files.embeddings


def weights_digests(files: RunLayout) -> dict[str, str]:
    """The SHA-256 of a run's weights by file name."""
    return {path.name: sha256(path) for path in weights(files)}


def read_training(files: RunLayout, recommender: str) -> dict[str, Any]:
    """Read training.json: `best_epoch`, `epochs`, and the best epoch's validation metrics, as `val_recall@20`.

    Raises:
        MissingInputError: there is none.
        DataError: it is damaged.
    """
    return read_record(files.training, TrainingMetrics, recommender)[1]


def read_metrics(files: RunLayout, recommender: str, names: Collection[str]) -> dict[str, float]:
    """Read metrics.json, which `evaluate` writes: the test metrics by name, with `names` among them.

    Raises:
        DataError: the file lacks one of `names`, or is damaged.
    """
    try:
        metrics = {name: float(value) for name, value in read_json(files.metrics).items()}
    except (ValueError, TypeError):
        metrics = {}
    if not metrics.keys() >= set(names):
        again = f"mmprep evaluate --recommender {recommender}"
        raise DataError(f"{files.metrics}: not the metrics of a recommender; run `{again}` again")
    return metrics


def read_record(path: Path, kind: type[R], recommender: str) -> tuple[R, dict[str, Any]]:
    """Read JSON that training wrote, as a record and as plain values.

    Raises:
        MissingInputError: there is no such file.
        DataError: it cannot be read, or does not fit the record; the message names the keys.
    """
    again = train_command(recommender)
    try:
        values = read_json(require_exists(path, again))
        return kind.model_validate(values), values
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not what training wrote ({reason(error)}); run `{again}` again") from error


def reason(error: Exception) -> str:
    """The cause of an error in reading a record, in one line."""
    if isinstance(error, ValidationError):
        keys = dict.fromkeys(str(mistake["loc"][0]) for mistake in error.errors())
        return f"missing or of another type: {', '.join(keys)}"
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def history_epochs(path: Path) -> list[int]:
    """Epoch numbers of history.csv; empty if it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [int(row["epoch"]) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
