"""Train and test one recommender with several seeds; report the mean and standard deviation of each metric."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

from mmprep.models.recommenders.base import RecommenderParams
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent, with_title
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.stages.training.evaluate import evaluate_run
from mmprep.stages.training.run import TrainedRun
from mmprep.stages.training.train import prepare

MOST = 1000  # a larger number was probably meant as a seed


def parse_seeds(text: str, first: int) -> tuple[int, ...]:
    """Parse an option `seeds`: a number is a count, starting at `first`; a list such as `0,1,2` names the seeds.

    Raises:
        ParamsError: it is neither, or names fewer than two, or one twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise ParamsError(f"seeds: found {text!r}, expected how many, such as 3, or which, such as 0,1,2")
    numbers = [int(part) for part in parts]
    if len(numbers) == 1 and numbers[0] > MOST:
        raise ParamsError(f"seeds: found {text!r}, expected at most {MOST}")
    seeds = tuple(range(first, first + numbers[0])) if len(numbers) == 1 else tuple(numbers)
    if len(seeds) < 2:
        raise ParamsError(f"seeds: found {text!r}, expected at least two, as one has no spread")
    if len(set(seeds)) < len(seeds) or max(seeds) >= 2**64:
        raise ParamsError(f"seeds: found {text!r}, expected each once and below 2**64")
    return seeds


def run(
    name: str,
    seeds: Sequence[int],
    params: TrainParams,
    recommender_params: RecommenderParams,
    evaluation: EvaluateParams,
    layout: Layout,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train and test a recommender from several seeds; write each run and a summary of all.

    Inputs are read once. A seed whose run is complete is not trained again; an interrupted one is resumed.

    Args:
        name: the recommender.
        seeds: at least two.
        params: section `train`; its own seed is ignored.
        recommender_params: the recommender's section.
        evaluation: section `evaluate`.
        layout: of the dataset.
        progress: shows each training.

    Returns:
        The metrics, `{"mean": ..., "std": ...}` each; test metrics as `recall@20`, validation ones as `val_recall@20`.
        `std` is the sample standard deviation, with n - 1 in the denominator.

    Raises:
        ParamsError: there is no such recommender, or there are too few seeds.
        MissingInputError: the split interactions, the features or the graphs are missing.
        DataError: training diverged, or there is nothing to validate or test on.
    """
    if len(seeds) < 2:
        raise ParamsError(f"seeds: found {len(seeds)}, expected at least two, as one has no spread")
    training, splits = prepare(name, params, recommender_params, layout, evaluation.every), read_splits(layout)
    files = layout.seeds(name)
    runs = []
    for number, seed in enumerate(seeds, start=1):
        seeded = replace(training, params=params.model_copy(update={"seed": seed}))
        run_files, titled = files.run(seed), with_title(f"seed {seed} ({number} of {len(seeds)})", progress)
        training_metrics = seeded.finished(run_files) or seeded.run(run_files, titled)
        test_metrics = evaluate_run(TrainedRun.open(run_files, name), evaluation, splits)
        runs.append({"seed": seed, **training_metrics, **test_metrics})
    summary = summarise(runs)
    made_from = {**training.provenance, "stage": "seeds", "evaluate": evaluation.model_dump(mode="json")}
    made_from["train"] = {**made_from["train"], "seed": list(seeds)}
    write_json(files.summary, {"metrics": summary, "runs": runs, "made_from": made_from})
    return summary


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each metric over runs."""
    values = {key: [run[key] for run in runs] for key in runs[0] if key != "seed"}
    return {key: {"mean": mean(numbers), "std": stdev(numbers)} for key, numbers in values.items()}
