"""Grid search over a recommender's parameters: train every combination, test the one with the best validation."""

import csv
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmprep.models.recommenders.base import RecommenderParams
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.models.training.trainer import DivergedError
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout, RunLayout, SearchLayout
from mmprep.pipeline.progress import Progress, silent, with_title
from mmprep.pipeline.storage.files import atomic_file, read_json, write_json
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.stages.training.evaluate import evaluate_run
from mmprep.stages.training.run import VALIDATION, TrainedRun
from mmprep.stages.training.search_space import Combination, combinations
from mmprep.stages.training.train import Training, prepare

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialResult:
    """Training result of one combination.

    Attributes:
        combination: the values that were tried.
        params: all of the recommender's parameters.
        key: the name of its run's folder.
        outcome: the epochs and the validation metrics; only the reason if training diverged.
    """

    combination: Combination
    params: RecommenderParams
    key: str
    outcome: Mapping[str, Any]

    @property
    def value(self) -> float:
        """The metric by which combinations are compared; -1 if training diverged."""
        return float(self.outcome.get(VALIDATION, -1.0))

    @property
    def row(self) -> dict[str, Any]:
        """As a row of the table."""
        return {**self.combination, **self.outcome, "run": self.key}


def run(
    name: str,
    ranges: Mapping[str, Sequence[Any]],
    params: TrainParams,
    recommender_params: RecommenderParams,
    evaluation: EvaluateParams,
    layout: Layout,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a recommender with every combination of values and choose by validation Recall@20, never by test.

    Inputs are read once. A combination that was trained before, from the same inputs, is not trained again. One that
    diverges gets a row of the table without metrics. On ties the first combination is chosen.

    Args:
        name: the recommender.
        ranges: the values to try of each parameter, `{"layers": [1, 2, 3]}`.
        params: section `train`.
        recommender_params: the values of the parameters that are not searched.
        evaluation: section `evaluate`.
        layout: of the dataset.
        progress: shows each training.

    Returns:
        `chosen` (the values), `best_epoch`, `epochs`, the validation metrics, the test metrics of the chosen
        combination only, the name of its `run`, and the number of `combinations`.

    Raises:
        ParamsError: a range has an unknown parameter or a value that it cannot have.
        MissingInputError: the split interactions, the features or the graphs are missing.
        DataError: every combination diverged, or there is nothing to validate or test on.
    """
    grid = combinations(ranges, recommender_params)
    training, files = prepare(name, params, recommender_params, layout, evaluation.every), layout.search(name)
    trials: list[TrialResult] = []
    for number, (combination, combined) in enumerate(grid, start=1):
        title = f"{described(combination)} ({number} of {len(grid)})"
        trials.append(
            train(combination, replace(training, recommender_params=combined), files, with_title(title, progress))
        )
        write_table(trials, files)
    best = max(trials, key=lambda each: each.value)
    if best.value < 0:
        raise DataError(f"{files.table}: every combination diverged; search lower values of learning_rate")
    trained = TrainedRun.open(files.run(best.key), name)
    test_metrics = evaluate_run(trained, evaluation, read_splits(layout))
    summary = {"chosen": best.combination, **best.outcome, **test_metrics, "run": best.key, "combinations": len(trials)}
    made_from = {"evaluate": evaluation.model_dump(mode="json"), "ranges": dict(ranges), "config": trained.values}
    write_json(files.best, {**summary, "made_from": made_from})
    return summary


def train(combination: Combination, training: Training, files: SearchLayout, progress: Progress) -> TrialResult:
    """Train with one combination, unless that was done before."""
    key = hashlib.sha256(json.dumps(training.provenance, sort_keys=True).encode()).hexdigest()[:16]
    run_files = files.run(key)
    outcome = training.finished(run_files) or diverged_before(run_files)
    if outcome is None:
        try:
            outcome = training.run(run_files, progress)
        except DivergedError as error:
            logger.warning("%s: %s", described(combination), error)
            outcome = {"diverged": str(error)}
            write_json(run_files.training, outcome)
    return TrialResult(combination, training.recommender_params, key, outcome)


def diverged_before(files: RunLayout) -> dict[str, Any] | None:
    """Outcome of an earlier run that diverged; None if none did. The folder's name is a digest of all its inputs."""
    try:
        outcome = read_json(files.training)
    except (OSError, ValueError):
        return None
    return outcome if outcome.keys() == {"diverged"} else None


def described(combination: Combination) -> str:
    """The values as written on the command line."""
    return ", ".join(f"{key}={value}" for key, value in combination.items())


def write_table(trials: Sequence[TrialResult], files: SearchLayout) -> None:
    """Write one CSV row per combination, in the order of the ranges."""
    columns = list(dict.fromkeys(key for each in trials for key in each.row))
    with atomic_file(files.table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        rows.writeheader()
        rows.writerows(each.row for each in trials)
