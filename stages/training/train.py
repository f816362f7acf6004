"""Stage `train`: fit one recommender to the train interactions, with early stopping on the validation ones."""

from dataclasses import dataclass, replace
from typing import Any

from mmprep.models.device import best_device
from mmprep.models.recommenders.base import RecommenderParams, TrainingData
from mmprep.models.recommenders.catalogue import RecommenderDescription, describe
from mmprep.models.training.checkpoint import ResumeFile
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import DivergedError, build, fit
from mmprep.pipeline.errors import MmprepError
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.tables.provenance import Provenance, record
from mmprep.stages.training.run import TrainedRun
from mmprep.stages.training.training_data import read_training_data
from mmprep.stages.training.write_run import write_run


def run(
    name: str,
    params: TrainParams,
    recommender_params: RecommenderParams,
    layout: Layout,
    progress: Progress = silent,
    validate_every: int = 1,
) -> dict[str, Any]:
    """Train one recommender and write its best epoch: checkpoint, embeddings, config and history.

    An interrupted training resumes from its last saved epoch and writes the same bytes. `validate_every` is the number
    of epochs between validations, `evaluate.every`.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: the split interactions or the features are missing.
        DataError: training diverged, or there is nothing to validate on.
    """
    return prepare(name, params, recommender_params, layout, validate_every).run(layout.run(name), progress)


@dataclass(frozen=True)
class Training:
    """A training ready to run: everything that determines it, read and checked.

    Attributes:
        description: of the recommender.
        params: section `train`.
        recommender_params: the recommender's own section.
        validate_every: number of epochs between validations.
        data: training and validation data.
        origin: the provenance of its outputs, without what `provenance` adds.
    """

    description: RecommenderDescription
    params: TrainParams
    recommender_params: RecommenderParams
    validate_every: int
    data: TrainingData
    origin: Provenance

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything that determines the result, as config.json records it."""
        used = {key: getattr(self.params, key) for key in ("batch_size", "max_epochs", "patience", "seed")}
        return replace(
            self.origin,
            params=self.recommender_params.model_dump(mode="json"),
            notes={**self.origin.notes, "train": used, "evaluate": {"every": self.validate_every}},
        ).to_dict()

    def run(self, files: RunLayout, progress: Progress = silent) -> dict[str, Any]:
        """Train, or resume an interrupted training, and write the best epoch.

        Raises:
            DataError: training diverged, or there is nothing to validate on.
        """
        # The last digits depend on the device, so a training resumes only on its own.
        resume_file = ResumeFile(files.resume_file, {**self.provenance, "device": best_device().type})
        recommender = build(self.description.load(), self.data, self.recommender_params, self.params.seed)
        try:
            learning_rate = LearningRateDecay.of(self.recommender_params)
            result = fit(recommender, self.data, self.params, learning_rate, progress, resume_file, self.validate_every)
        except DivergedError:
            resume_file.remove()
            raise
        metrics = write_run(recommender, result, self.provenance, files)
        resume_file.remove()
        return metrics

    def finished(self, files: RunLayout) -> dict[str, Any] | None:
        """Training metrics of an earlier, identical run; None unless it ended and its files are intact."""
        try:
            run = TrainedRun.open(files, self.description.name)
            return run.training() if run.is_whole_result_of(self.provenance) else None
        except (MmprepError, OSError):
            return None


def prepare(
    name: str,
    params: TrainParams,
    recommender_params: RecommenderParams,
    layout: Layout,
    validate_every: int = 1,
) -> Training:
    """Read and check everything that a recommender's training needs.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: the split interactions, the features or the graphs are missing.
        DataError: one is damaged or of another dataset.
    """
    description = describe(name)
    encoders = params.token_encoders if description.tokens else params.modalities if description.multimodal else {}
    loaded = read_training_data(description, encoders, layout, params.token_memory)
    notes: dict[str, Any] = {"recommender": name, "features": encoders}
    if loaded.pseudo_tokens:
        notes["pseudo_tokens"] = loaded.pseudo_tokens
    origin = record("train", layout, recommender_params, loaded.inputs, ("torch",), **notes)
    return Training(description, params, recommender_params, validate_every, loaded.data, origin)
