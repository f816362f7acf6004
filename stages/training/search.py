"""A grid search over a recommender's parameters: every combination trained, and the best on validation tested."""

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
    """What training with one combination gave.

    Attributes:
        combination: the values that were tried.
        params: all of the recommender's parameters.
        key: the name of its run's folder.
        told: the epochs and the validation metrics; only the reason if training diverged.
    """

    combination: Combination
    params: RecommenderParams
    key: str
    told: Mapping[str, Any]

    @property
    def value(self) -> float:
        """By which combinations are compared."""
        return float(self.told.get(VALIDATION, -1.0))

    @property
    def row(self) -> dict[str, Any]:
        """As a row of the table."""
        return {**self.combination, **self.told, "run": self.key}


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

    What is read is read once. A combination that was trained before, from the same inputs, is not trained again. One
    that diverges is a row of the table without metrics. Of equal combinations the first is chosen.

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
        combination alone, the name of its `run`, and how many `combinations` there are.

    Raises:
        ParamsError: a range has an unknown parameter or a value that it cannot have.
        MissingInputError: the split interactions, the features or the graphs are not there.
        DataError: every combination diverged, or there is nothing to validate or test on.
    """
    grid = combinations(ranges, recommender_params)
    training, files = prepare(name, params, recommender_params, layout), layout.search(name)
    found: list[TrialResult] = []
    for place, (combination, combined) in enumerate(grid, start=1):
        title = f"{described(combination)} ({place} of {len(grid)})"
        found.append(
            train(combination, replace(training, recommender_params=combined), files, with_title(title, progress))
        )
        write_table(found, files)
    best = max(found, key=lambda each: each.value)
    if best.value < 0:
        raise DataError(f"{files.table}: every combination diverged; search lower values of learning_rate")
    trained = TrainedRun.open(files.run(best.key), name)
    tested = evaluate_run(trained, evaluation, read_splits(layout))
    told = {"chosen": best.combination, **best.told, **tested, "run": best.key, "combinations": len(found)}
    made_from = {"evaluate": evaluation.model_dump(mode="json"), "ranges": dict(ranges), "config": trained.values}
    write_json(files.best, {**told, "made_from": made_from})
    return told


def train(combination: Combination, training: Training, files: SearchLayout, progress: Progress) -> TrialResult:
    """Train with one combination, unless that was done before."""
    key = hashlib.sha256(json.dumps(training.provenance, sort_keys=True).encode()).hexdigest()[:16]
    run_files = files.run(key)
    told = training.finished(run_files) or diverged_before(run_files)
    if told is None:
        try:
            told = training.run(run_files, progress)
        except DivergedError as error:
            logger.warning("%s: %s", described(combination), error)
            told = {"diverged": str(error)}
            write_json(run_files.training, told)
    return TrialResult(combination, training.recommender_params, key, told)


def diverged_before(files: RunLayout) -> dict[str, Any] | None:
    """What an earlier run has told of a combination that diverged; its folder's name tells all that led to it."""
    try:
        told = read_json(files.training)
    except (OSError, ValueError):
        return None
    return told if told.keys() == {"diverged"} else None


def described(combination: Combination) -> str:
    """The values as a user would write them."""
    return ", ".join(f"{key}={value}" for key, value in combination.items())


def write_table(found: Sequence[TrialResult], files: SearchLayout) -> None:
    """Write a CSV row a combination, in the order of the ranges."""
    columns = list(dict.fromkeys(key for each in found for key in each.row))
    with atomic_file(files.table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        rows.writeheader()
        rows.writerows(each.row for each in found)
