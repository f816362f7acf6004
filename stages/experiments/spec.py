"""Experiment files: a table or figure of a paper, the settings of each row, and the published numbers.

The settings that a paper, its code or its logs give for all its tables lie in `experiments/papers/PAPER.yaml`. They are
applied on request, in this order, where later ones win: the class's defaults, `as_published` of the paper,
`recommenders` of the paper, `as_published` of the file, `set` of the file, `set` of the row, `as_published` of the row,
the value of the axis.
"""

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
PAPERS = FOLDER / "papers"
PAPER_NAME = re.compile(r"[a-z0-9_]+")

Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar]
Key = Annotated[str, Field(pattern=r"^[a-z_0-9]+(\.[a-z_0-9]+)*$")]
Overrides = dict[Key, Value]
COSTS = ("epoch_seconds", "peak_memory_mb")
Metric = Annotated[str, Field(pattern=rf"^((recall|precision|ndcg)@(5|10|20|50)|{'|'.join(COSTS)})$")]
Numbers = tuple[Annotated[float, Field(ge=0)] | None, ...]
Text = Annotated[str, Field(min_length=1)]


class PublishedSettings(Params):
    """Settings with their source.

    Attributes:
        source: the paper's section, or the file of the authors' code or logs.
        datasets: the paper's datasets that they are for; empty for all.
        set: overrides of params.yaml.
    """

    source: Text
    datasets: tuple[str, ...] = ()
    set: Annotated[Overrides, Field(min_length=1)]


class PaperDataset(Params):
    """A dataset as a paper describes it.

    Attributes:
        title: source, category and edition.
        users: number of users.
        items: number of items.
        interactions: number of interactions.
    """

    title: Text
    users: Annotated[int, Field(ge=1)]
    items: Annotated[int, Field(ge=1)]
    interactions: Annotated[int, Field(ge=1)]


class Paper(Params):
    """What holds for all tables and figures of a paper.

    Attributes:
        name: its name.
        datasets: by the name that experiment files use.
        as_published: settings of all rows.
        recommenders: settings of the rows of a recommender.
    """

    name: Text
    datasets: dict[str, PaperDataset] = Field(default_factory=dict)
    as_published: tuple[PublishedSettings, ...] = ()
    recommenders: dict[str, tuple[PublishedSettings, ...]] = Field(default_factory=dict)


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
        as_published: settings of the paper for this row alone.
        published: by dataset, one number per metric; null where none is printed.
        curves: by dataset and metric, one number per value of the axis, instead of `published`.
        note: a caveat, such as a doubtful published number.
    """

    label: Text
    recommender: str = ""
    set: Overrides = Field(default_factory=dict)
    as_published: tuple[PublishedSettings, ...] = ()
    published: dict[str, Numbers] = Field(default_factory=dict)
    curves: dict[str, dict[Metric, Numbers]] = Field(default_factory=dict)
    note: str = ""


class ExperimentSpec(Params):
    """A table or figure.

    Attributes:
        paper: the name of its file under experiments/papers; another text names a paper without such a file.
        source: which of its tables or figures.
        shows: what is compared.
        metrics: the columns: ranking metrics, or training cost (`epoch_seconds`, `peak_memory_mb`).
        set: overrides of params.yaml for all rows.
        seeded: keys that are set to each seed. With `noise.seed`, each seed draws its own noise.
        as_published: settings of the paper for this table or figure alone.
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
    as_published: tuple[PublishedSettings, ...] = ()
    x: Axis | None = None
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    notes: tuple[str, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Datasets with published numbers, by the paper's names."""
        return tuple(dict.fromkeys(name for row in self.rows for name in chain(row.published, row.curves)))

    @property
    def is_drawn(self) -> bool:
        """Whether a picture is drawn of it."""
        return self.x is not None or self.source.startswith("Figure")


@dataclass(frozen=True)
class PointSettings:
    """Settings of an experiment from one place.

    Attributes:
        origin: the place or the source, for display.
        values: overrides of params.yaml.
    """

    origin: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class ExperimentPoint:
    """One experiment: a row, at one value of the axis if there is one.

    Attributes:
        row: of the file.
        label: the row's label, with the value.
        x: the value; None without an axis.
        settings: in the order of their application.
        published: by dataset, one number per metric of the file, where any is printed.
        seeded: keys that are set to each seed.
    """

    row: Row
    label: str
    x: Scalar
    settings: tuple[PointSettings, ...]
    published: Mapping[str, Numbers]
    seeded: tuple[Key, ...]

    @property
    def recommender(self) -> str:
        """The recommender to run; empty where mmprep has none."""
        return self.row.recommender


@dataclass(frozen=True)
class AsPublished:
    """Request for the settings of a paper.

    Attributes:
        paper: with its settings.
        dataset: the paper's name of the dataset; None for settings of all datasets alone.
    """

    paper: Paper
    dataset: str | None

    def layers(self, settings: Sequence[PublishedSettings]) -> list[PointSettings]:
        """Those of the settings that are for the dataset."""
        return [
            PointSettings(each.source, each.set)
            for each in settings
            if not each.datasets or self.dataset in each.datasets
        ]


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


def load_paper(file: ExperimentSpec, path: Path) -> Paper:
    """Read and check what holds for all files of a paper.

    Args:
        file: one of them.
        path: its path; the folder `papers` beside it is searched before that of the current project.

    Raises:
        ParamsError: there is no such file, or it has mistakes.
    """
    if not PAPER_NAME.fullmatch(file.paper):
        return Paper(name=file.paper)
    folders = (path.parent / PAPERS.name, PAPERS)
    for folder in folders:
        found = folder / f"{file.paper}.yaml"
        if found.is_file():
            return parse_section(Paper, read_yaml(found), "", str(found))
    known = sorted({each.stem for folder in folders for each in folder.glob("*.yaml")})
    raise ParamsError(
        f"{path}: paper: found {file.paper!r}, expected a file under {PAPERS}{suggestion(file.paper, known)}"
    )


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


def points(file: ExperimentSpec, published: AsPublished | None = None) -> list[ExperimentPoint]:
    """All experiments of a file, in its order.

    Args:
        file: the file.
        published: the paper's settings; None for those of params.yaml.
    """
    if file.x is None:
        return [
            ExperimentPoint(row, row.label, None, layers(file, row, published), row.published, file.seeded)
            for row in file.rows
        ]
    return [at(file, file.x, place, row, published) for row in file.rows for place in range(len(file.x.values))]


def layers(file: ExperimentSpec, row: Row, published: AsPublished | None) -> tuple[PointSettings, ...]:
    """The settings of a row, in the order of their application."""
    found: list[PointSettings] = []
    if published:
        paper = published.paper
        for settings in (paper.as_published, paper.recommenders.get(row.recommender, ()), file.as_published):
            found += published.layers(settings)
    compared = [PointSettings("this table", file.set), PointSettings("this row", row.set)]
    found += [each for each in compared if each.values]
    if published:
        found += published.layers(row.as_published)
    return tuple(found)


def at(file: ExperimentSpec, axis: Axis, place: int, row: Row, published: AsPublished | None) -> ExperimentPoint:
    """The experiment of a row at one value of the axis."""
    value = axis.values[place]
    numbers = {
        dataset: tuple(curves[metric][place] if metric in curves else None for metric in file.metrics)
        for dataset, curves in row.curves.items()
    }
    printed = {dataset: each for dataset, each in numbers.items() if any(number is not None for number in each)}
    settings = (*layers(file, row, published), PointSettings(axis.name, dict.fromkeys(axis.keys, value)))
    return ExperimentPoint(row, f"{row.label}, {axis.name} {value}", value, settings, printed, file.seeded)


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


def match_paper_dataset(file: ExperimentSpec, paper: Paper, dataset: str, like: str | None) -> str | None:
    """Match one of our datasets to one of the paper's: the given one, or the only one whose name is a word of ours.

    Raises:
        ParamsError: neither the file nor the paper has a dataset of the given name; the message names files that have.
    """
    settings = chain(file.as_published, *(row.as_published for row in file.rows))
    named = chain.from_iterable(each.datasets for each in settings)
    known = tuple(dict.fromkeys((*file.datasets, *paper.datasets, *named)))
    if like is not None and like not in known:
        having = [name for name in names() if like in load(find(name)).datasets]
        elsewhere = f"; files with {like}: {', '.join(having)}" if having else ""
        raise ParamsError(
            f"like: found {like!r}, expected a dataset of the paper{suggestion(like, list(known))}{elsewhere}"
        )
    words = re.split(r"[^a-z0-9]+", dataset.lower())
    matches = [name for name in known if name in words]
    return like or (matches[0] if len(matches) == 1 else None)
