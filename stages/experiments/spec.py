"""Files of experiments: a table or figure of a paper, what each of its rows runs, and the numbers that were printed."""

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
    """What changes along a curve, or from block to block of a table.

    Attributes:
        name: as the paper calls it.
        keys: of params.yaml; all of them take the value.
        values: in the order of the paper.
    """

    name: Text
    keys: Annotated[tuple[Key, ...], Field(min_length=1)]
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]


class Row(Params):
    """A row of a table, or a curve of a figure.

    Attributes:
        label: as the paper has it.
        recommender: which one runs; empty where mmprep has none.
        set: values of keys of params.yaml.
        published: by dataset, a number a metric; null where none is printed.
        curves: by dataset and metric, a number a value of the axis, instead of `published`.
        note: what must be known of the row, such as that a printed number is doubtful.
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
        paper: whose.
        source: which of its tables or figures.
        shows: what is compared.
        metrics: the columns: those of ranking, or what training took (`epoch_seconds`, `peak_memory_mb`).
        set: values of keys of params.yaml, for all rows.
        seeded: keys that take each seed. With `noise.seed`, noise is drawn anew for each.
        as_published: by dataset, or for `every` one, the paper's other settings, which are taken on request.
        x: what changes along each row; without it a row is one experiment.
        rows: in the paper's order.
        notes: what must be known of all.
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
        """Those that the paper has numbers or settings of, as it calls them."""
        named = (name for row in self.rows for name in chain(row.published, row.curves))
        return tuple(dict.fromkeys(name for name in chain(named, self.as_published) if name != EVERY))

    @property
    def is_drawn(self) -> bool:
        """Whether a picture belongs to it."""
        return self.x is not None or self.source.startswith("Figure")


@dataclass(frozen=True)
class ExperimentPoint:
    """One experiment: a row, at one value of the axis if there is one.

    Attributes:
        row: which it belongs to.
        label: the row's, with the value.
        x: the value; None without an axis.
        overrides: what differs from params.yaml.
        published: by dataset, a number a metric of the file, those that are printed.
        seeded: keys that take each seed.
    """

    row: Row
    label: str
    x: Scalar
    overrides: Mapping[str, Value]
    published: Mapping[str, Numbers]
    seeded: tuple[Key, ...]

    @property
    def recommender(self) -> str:
        """Which one runs; empty where mmprep has none."""
        return self.row.recommender


def names() -> list[str]:
    """The files that there are, without their ending."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a name, or of a path.

    Raises:
        ParamsError: there is none.
    """
    for path in (Path(name), FOLDER / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ParamsError(f"{name}: no such file of experiments{suggestion(Path(name).stem, names())}")


def load(path: Path) -> ExperimentSpec:
    """Read and check a file.

    Raises:
        ParamsError: a line for each mistake.
    """
    file = parse_section(ExperimentSpec, read_yaml(path), "", str(path))
    mistakes = [f"{path}: {mistake}" for mistake in find_mistakes(file)]
    if mistakes:
        raise ParamsError("\n".join(mistakes))
    return file


def find_mistakes(file: ExperimentSpec) -> Iterator[str]:
    """What does not fit together."""
    labels = [row.label for row in file.rows]
    yield from (f"rows: found {label!r} twice, expected each label once" for label in repeated(labels))
    for row in file.rows:
        for dataset, numbers in row.published.items():
            if len(numbers) != len(file.metrics):
                yield f"{row.label}: published.{dataset}: found {len(numbers)} numbers, expected {len(file.metrics)}"
            pairs = zip(file.metrics, numbers, strict=False)
            yield from (f"{row.label}: published.{dataset}: {told}" for pair in pairs for told in beyond(*pair))
        for dataset, curves in row.curves.items():
            for metric, numbers in curves.items():
                yield from (f"{row.label}: curves.{dataset}.{metric}: {told}" for told in curve(file, metric, numbers))
        if row.published and file.x:
            yield f"{row.label}: published: found beside x, expected curves"


def curve(file: ExperimentSpec, metric: str, numbers: Numbers) -> Iterator[str]:
    """What is wrong with a curve of numbers."""
    if file.x is None:
        yield "found without x, expected published"
    elif len(numbers) != len(file.x.values):
        yield f"found {len(numbers)} numbers, expected {len(file.x.values)}"
    for number in numbers:
        yield from beyond(metric, number)
    if metric not in file.metrics:
        yield f"not among metrics{suggestion(metric, list(file.metrics))}"


def beyond(metric: str, number: float | None) -> Iterator[str]:
    """What is wrong with a number of a metric: those of ranking are shares."""
    if "@" in metric and number is not None and number > 1:
        yield f"{metric}: found {number}, expected at most 1"


def repeated(labels: Sequence[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted({label for label in labels if labels.count(label) > 1})


def points(file: ExperimentSpec, settings: Overrides | None = None) -> list[ExperimentPoint]:
    """All experiments of a file, in its order.

    Args:
        file: the file.
        settings: what all rows start from, before the file's own values.
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
    """The paper's other settings for one of its datasets, or for all."""
    return {**file.as_published.get(EVERY, {}), **(file.as_published.get(dataset, {}) if dataset else {})}


def select_rows(file: ExperimentSpec, labels: Sequence[str]) -> ExperimentSpec:
    """The same with some of the rows; without labels, all.

    Raises:
        ParamsError: there is no such row.
    """
    known = [row.label for row in file.rows]
    for label in labels:
        if label not in known:
            raise ParamsError(f"rows: found {label!r}, expected a row{suggestion(label, known)}")
    return file.model_copy(update={"rows": tuple(row for row in file.rows if not labels or row.label in labels)})


def match_paper_dataset(file: ExperimentSpec, dataset: str, wanted: str | None) -> str | None:
    """Which of the paper's datasets one of ours is: the wanted one, or the one whose name is a word of ours.

    Raises:
        ParamsError: the paper has no dataset of the wanted name.
    """
    if wanted is not None and wanted not in file.datasets:
        raise ParamsError(
            f"like: found {wanted!r}, expected a dataset of the paper{suggestion(wanted, list(file.datasets))}"
        )
    words = re.split(r"[^a-z0-9]+", dataset.lower())
    alike = [name for name in file.datasets if name in words]
    return wanted or (alike[0] if len(alike) == 1 else None)
