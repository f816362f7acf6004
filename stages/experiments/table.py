"""The table of a file of experiments: our numbers with mean and deviation, and the published ones beside them."""

import csv
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
        label: the row's, with the value of the axis.
        row: the row's alone.
        x: the value of the axis.
        dataset: on which the numbers are.
        published: whether they are the paper's.
        means: a number a metric of the file; None where there is none.
        deviations: of a sample, over seeds; None for one seed and for published numbers.
        seeds: how many.
        remark: why there are no numbers.
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


def lines(file: ExperimentSpec, results: Sequence[Result], dataset: str, like: str | None) -> list[TableRow]:
    """Our line of each point, and below it the published ones, of the alike dataset alone if there is one."""
    return [
        line
        for result in results
        for line in (ours(file, result, dataset), *theirs(file, result, (like,) if like else file.datasets))
    ]


def ours(file: ExperimentSpec, result: Result, dataset: str) -> TableRow:
    """What our runs have given."""
    point, none = result.point, (None,) * len(file.metrics)
    if not result.runs:
        remark = result.failed if point.recommender else NOT_BUILT
        return TableRow(point.label, point.row.label, point.x, dataset, False, none, none, 0, remark)
    # What a training took is known only where one ran; DVC's run cache may have had it.
    values = [[run[metric] for run in result.runs if metric in run] for metric in file.metrics]
    deviations = tuple(stdev(each) if len(each) > 1 else None for each in values)
    means = tuple(mean(each) if each else None for each in values)
    return TableRow(point.label, point.row.label, point.x, dataset, False, means, deviations, len(result.runs))


def theirs(file: ExperimentSpec, result: Result, datasets: Sequence[str]) -> list[TableRow]:
    """What the paper has printed."""
    point, none = result.point, (None,) * len(file.metrics)
    return [
        TableRow(point.label, point.row.label, point.x, dataset, True, point.published[dataset], none)
        for dataset in datasets
        if dataset in point.published
    ]


def notes(file: ExperimentSpec, results: Sequence[Result]) -> list[str]:
    """What must be known to read the table rightly, each once."""
    of_rows = [f"{result.point.row.label}: {result.point.row.note}" for result in results if result.point.row.note]
    cautions = [caution for result in results for caution in result.warnings]
    single = any(len(result.runs) == 1 for result in results)
    seeds = ["one seed: small differences are noise, give --seeds 3"] if single else []
    return list(dict.fromkeys([*cautions, *seeds, *file.notes, *of_rows]))


def write_table(file: ExperimentSpec, table: Sequence[TableRow], path: Path) -> None:
    """Write a CSV row a line; a deviation beside each mean."""
    columns = [part for metric in file.metrics for part in (metric, f"{metric}_std")]
    header = ["row", file.x.name if file.x else "x", "numbers", "dataset", "seeds", *columns, "remark"]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(header)
        for line in table:
            pairs = zip(line.means, line.deviations, strict=True)
            numbers = "published" if line.published else "ours"
            start = [line.row, line.x, numbers, line.dataset, line.seeds or None]
            rows.writerow([*start, *(number for pair in pairs for number in pair), line.remark])
