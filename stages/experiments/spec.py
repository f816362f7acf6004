"""Experiment files: a table or figure of a paper, the settings of each row, and the published numbers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import Params, parse_section, read_yaml, suggestion

FOLDER = Path("experiments")
EVERY = "every"  # in as_published: for all datasets

Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar]
Key = Annotated[str, Field(pattern=r"^[a-z_0-9]+(\.[a-z_0-9]+)*$")]
Overrides = dict[Key, Value]
COSTS = ("epoch_seconds", "peak_memory_mb")
Metric = Annotated[str, Field(pattern=rf"^((recall|precision|ndcg)@(5|10|20|50)|{'|'.join(COSTS)})$")]
Numbers = tuple[Annotated[float, Field(ge=0)] | None, ...]
Text = Annotated[str, Field(min_length=1)]


class Axis(Params):
    """The parameter varied along a curve, or across the blocks of a table.

    Attributes:
        name: the paper's name of it.
        keys: of params.yaml, all of which are set to the value.
        values: in the order of the paper.
    """

    name: Text
    keys: Annotated[tuple[Key, ...], Field(min_length=1)]
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]


class Row(Params):
    """A row of a table, or a curve of a figure.

    Attributes:
        label: the paper's label.
        recommender: the recommender to run; empty where mmprep has none.
        set: overrides of params.yaml.
        published: by dataset, one number per metric; null where none is printed.
        curves: by dataset and metric, one number per value of the axis, instead of `published`.
        note: a caveat, such as a doubtful published number.
    """

    label: Text
    recommender: str = ""
    set: Overrides = Field(default_factory=dict)
    published: dict[str, Numbers] = Field(default_factory=dict)
    curves: dict[str, dict[Metric, Numbers]] = Field(default_factory=dict)
    note: str = ""


class ExperimentSpec(Params):
    """A table or figure.

    Attributes:
        paper: its name.
        source: which of its tables or figures.
        shows: what is compared.
        metrics: the columns: ranking metrics, or training cost (`epoch_seconds`, `peak_memory_mb`).
        set: overrides of params.yaml for all rows.
        seeded: keys that are set to each seed. With `noise.seed`, each seed draws its own noise.
        as_published: by dataset, or for `every` one, the paper's other settings, applied on request.
        x: the axis along each row; without it a row is one experiment.
        rows: in the paper's order.
        notes: caveats on all rows.
    """

    paper: Text
    source: Text
    shows: Text
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    set: Overrides = Field(default_factory=dict)
    seeded: Annotated[tuple[Key, ...], Field(min_length=1)] = ("train.seed",)
    as_published: dict[str, Overrides] = Field(default_factory=dict)
    x: Axis | None = None
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    notes: tuple[str, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Datasets with published numbers or settings, by the paper's names."""
        named = (name for row in self.rows for name in chain(row.published, row.curves))
        return tuple(dict.fromkeys(name for name in chain(named, self.as_published) if name != EVERY))

    @property
    def is_drawn(self) -> bool:
        """Whether a picture is drawn of it."""
        return self.x is not None or self.source.startswith("Figure")


@dataclass(frozen=True)
class ExperimentPoint:
    """One experiment: a row, at one value of the axis if there is one.

    Attributes:
        row: of the file.
        label: the row's label, with the value.
        x: the value; None without an axis.
        overrides: keys that differ from params.yaml.
        published: by dataset, one number per metric of the file, where any is printed.
        seeded: keys that are set to each seed.
    """

    row: Row
    label: str
    x: Scalar
    overrides: Mapping[str, Value]
    published: Mapping[str, Numbers]
    seeded: tuple[Key, ...]

    @property
    def recommender(self) -> str:
        """The recommender to run; empty where mmprep has none."""
        return self.row.recommender


def names() -> list[str]:
    """Names of the experiment files, without extension."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """Find an experiment file by path or by name.

    Raises:
        ParamsError: there is no such file.
    """
    for path in (Path(name), FOLDER / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ParamsError(f"{name}: no such file of experiments{suggestion(Path(name).stem, names())}")


def load(path: Path) -> ExperimentSpec:
    """Read and check an experiment file.

    Raises:
        ParamsError: it has mistakes; the message has one line for each.
    """
    file = parse_section(ExperimentSpec, read_yaml(path), "", str(path))
    mistakes = [f"{path}: {mistake}" for mistake in find_mistakes(file)]
    if mistakes:
        raise ParamsError("\n".join(mistakes))
    return file


def find_mistakes(file: ExperimentSpec) -> Iterator[str]:
    """Inconsistencies between the fields of a file."""
    labels = [row.label for row in file.rows]
    yield from (f"rows: found {label!r} twice, expected each label once" for label in repeated(labels))
    for row in file.rows:
        for dataset, numbers in row.published.items():
            if len(numbers) != len(file.metrics):
                yield f"{row.label}: published.{dataset}: found {len(numbers)} numbers, expected {len(file.metrics)}"
            pairs = zip(file.metrics, numbers, strict=False)
            yield from (f"{row.label}: published.{dataset}: {mistake}" for pair in pairs for mistake in beyond(*pair))
        for dataset, curves in row.curves.items():
            for metric, numbers in curves.items():
                yield from (
                    f"{row.label}: curves.{dataset}.{metric}: {mistake}" for mistake in curve(file, metric, numbers)
                )
        if row.published and file.x:
            yield f"{row.label}: published: found beside x, expected curves"


def curve(file: ExperimentSpec, metric: str, numbers: Numbers) -> Iterator[str]:
    """Mistakes in a curve of numbers."""
    if file.x is None:
        yield "found without x, expected published"
    elif len(numbers) != len(file.x.values):
        yield f"found {len(numbers)} numbers, expected {len(file.x.values)}"
    for number in numbers:
        yield from beyond(metric, number)
    if metric not in file.metrics:
        yield f"not among metrics{suggestion(metric, list(file.metrics))}"


def beyond(metric: str, number: float | None) -> Iterator[str]:
    """The mistake of a number out of range, if any: ranking metrics are at most 1."""
    if "@" in metric and number is not None and number > 1:
        yield f"{metric}: found {number}, expected at most 1"


def repeated(labels: Sequence[str]) -> list[str]:
    """Labels that occur more than once, sorted."""
    return sorted({label for label in labels if labels.count(label) > 1})


def points(file: ExperimentSpec, settings: Overrides | None = None) -> list[ExperimentPoint]:
    """All experiments of a file, in its order.

    Args:
        file: the file.
        settings: overrides of all rows, to which the file's own are applied.
    """
    base = {**(settings or {}), **file.set}
    if file.x is None:
        rows = file.rows
        return [ExperimentPoint(row, row.label, None, {**base, **row.set}, row.published, file.seeded) for row in rows]
    return [at(file, file.x, place, row, base) for row in file.rows for place in range(len(file.x.values))]


def at(file: ExperimentSpec, axis: Axis, place: int, row: Row, base: Overrides) -> ExperimentPoint:
    """The experiment of a row at one value of the axis."""
    value = axis.values[place]
    published = {
        dataset: tuple(curves[metric][place] if metric in curves else None for metric in file.metrics)
        for dataset, curves in row.curves.items()
    }
    printed = {dataset: numbers for dataset, numbers in published.items() if any(n is not None for n in numbers)}
    overrides = {**base, **row.set, **dict.fromkeys(axis.keys, value)}
    return ExperimentPoint(row, f"{row.label}, {axis.name} {value}", value, overrides, printed, file.seeded)


def settings(file: ExperimentSpec, dataset: str | None) -> Overrides:
    """The paper's other settings for one of its datasets, including those for every dataset."""
    return {**file.as_published.get(EVERY, {}), **(file.as_published.get(dataset, {}) if dataset else {})}


def select_rows(file: ExperimentSpec, labels: Sequence[str]) -> ExperimentSpec:
    """The file with the labelled rows only; without labels, all.

    Raises:
        ParamsError: there is no such row.
    """
    known = [row.label for row in file.rows]
    for label in labels:
        if label not in known:
            raise ParamsError(f"rows: found {label!r}, expected a row{suggestion(label, known)}")
    return file.model_copy(update={"rows": tuple(row for row in file.rows if not labels or row.label in labels)})


def match_paper_dataset(file: ExperimentSpec, dataset: str, like: str | None) -> str | None:
    """Match one of our datasets to one of the paper's: the given one, or the only one whose name is a word of ours.

    A file without any dataset accepts those of the paper's other files.

    Raises:
        ParamsError: the file has no dataset of the given name; the message names the files that have it.
    """
    if like is not None and like not in file.datasets:
        others = {name: load(find(name)) for name in names()}
        same_paper = {name: other for name, other in others.items() if other.paper == file.paper}
        known = file.datasets or tuple(dict.fromkeys(chain(*(other.datasets for other in same_paper.values()))))
        if like not in known:
            having = [[name for name, other in each.items() if like in other.datasets] for each in (same_paper, others)]
            elsewhere = f"; files with {like}: {', '.join(having[0] or having[1])}" if having[1] else ""
            expected = f"expected a dataset of the paper{suggestion(like, list(known))}"
            raise ParamsError(f"like: found {like!r}, {expected}{elsewhere}")
    words = re.split(r"[^a-z0-9]+", dataset.lower())
    matches = [name for name in file.datasets if name in words]
    return like or (matches[0] if len(matches) == 1 else None)
