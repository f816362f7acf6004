"""Result table of an experiment file: our means and standard deviations beside the published numbers."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.experiments.runner import Result
from mmprep.stages.experiments.spec import ExperimentSpec, Numbers, Scalar

NOT_BUILT = "not built"


@dataclass(frozen=True)
class TableRow:
    """A line of the table.

    Attributes:
        label: the row's label, with the value of the axis.
        row: the row's label alone.
        x: the value of the axis.
        dataset: of the numbers.
        published: whether they are the paper's.
        means: one number per metric of the file; None where there is none.
        deviations: sample standard deviations over seeds; None for one seed and for published numbers.
        seeds: the number of seeds.
        remark: why there are no numbers.
        split: the rule and the seed of our split; empty for published numbers.
    """

    label: str
    row: str
    x: Scalar
    dataset: str
    published: bool
    means: Numbers
    deviations: Numbers
    seeds: int = 0
    remark: str = ""
    split: str = ""


def lines(file: ExperimentSpec, results: Sequence[Result], dataset: str, like: str | None) -> list[TableRow]:
    """Our line of each point, followed by the published ones, only those of dataset `like` if it is given."""
    return [
        line
        for result in results
        for line in (ours(file, result, dataset), *theirs(file, result, (like,) if like else file.datasets))
    ]


def ours(file: ExperimentSpec, result: Result, dataset: str) -> TableRow:
    """The line of our runs of a point."""
    point, none = result.point, (None,) * len(file.metrics)
    if not result.runs:
        remark = result.failed if point.recommender else NOT_BUILT
        return TableRow(point.label, point.row.label, point.x, dataset, False, none, none, 0, remark, result.split)
    # Training cost is known only where a training ran; DVC's run cache may have had the result.
    values = [[run[metric] for run in result.runs if metric in run] for metric in file.metrics]
    deviations = tuple(stdev(each) if len(each) > 1 else None for each in values)
    means = tuple(mean(each) if each else None for each in values)
    seeds = len(result.runs)
    return TableRow(point.label, point.row.label, point.x, dataset, False, means, deviations, seeds, split=result.split)


def theirs(file: ExperimentSpec, result: Result, datasets: Sequence[str]) -> list[TableRow]:
    """The published lines of a point."""
    point, none = result.point, (None,) * len(file.metrics)
    return [
        TableRow(point.label, point.row.label, point.x, dataset, True, point.published[dataset], none)
        for dataset in datasets
        if dataset in point.published
    ]


def notes(file: ExperimentSpec, results: Sequence[Result]) -> list[str]:
    """Caveats on the table, without duplicates."""
    of_rows = [f"{result.point.row.label}: {result.point.row.note}" for result in results if result.point.row.note]
    cautions = [caution for result in results for caution in result.warnings]
    single = any(len(result.runs) == 1 for result in results)
    seeds = ["one seed: small differences are noise, give --seeds 3"] if single else []
    splits = list(dict.fromkeys(result.split for result in results if result.split))
    rules = [f"split of our numbers: {'; '.join(splits)}"] if splits else []
    return list(dict.fromkeys([*rules, *cautions, *seeds, *file.notes, *of_rows]))


def write_settings(results: Sequence[Result], path: Path) -> None:
    """Write the parameters of each row and where they come from, one CSV row each."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["row", "key", "value", "origin"])
        for result in results:
            for each in result.settings:
                rows.writerow([result.point.label, each.key, json.dumps(each.value), each.origin])


def write_table(file: ExperimentSpec, table: Sequence[TableRow], path: Path) -> None:
    """Write one CSV row per line, with a standard deviation beside each mean."""
    columns = [part for metric in file.metrics for part in (metric, f"{metric}_std")]
    header = ["row", file.x.name if file.x else "x", "numbers", "dataset", "split", "seeds", *columns, "remark"]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(header)
        for line in table:
            pairs = zip(line.means, line.deviations, strict=True)
            numbers = "published" if line.published else "ours"
            start = [line.row, line.x, numbers, line.dataset, line.split or None, line.seeds or None]
            rows.writerow([*start, *(number for pair in pairs for number in pair), line.remark])
