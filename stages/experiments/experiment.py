"""Verb `experiment`: a table or figure of a paper on our data, each row a DVC experiment, beside what was printed."""

from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import read_yaml
from mmprep.pipeline.progress import Progress, silent
from mmprep.stages.config.load import DEFAULT_FILE, load
from mmprep.stages.experiments import spec as files
from mmprep.stages.experiments.figure import draw
from mmprep.stages.experiments.runner import ExperimentHost, run_points
from mmprep.stages.experiments.spec import ExperimentSpec
from mmprep.stages.experiments.table import TableRow, lines, notes, write_table
from mmprep.stages.experiments.workspace import open_workspace
from mmprep.stages.explore.figures import require_matplotlib
from mmprep.stages.training.seeds import parse_seeds

DATA = Path("data")


@dataclass(frozen=True)
class ExperimentRequest:
    """What a user asks for.

    Attributes:
        file: a file of experiments, or its name.
        labels: of the rows; empty for all.
        seeds: how many, or which; None for that of params.yaml.
        dataset: a folder under data/raw; None for that of params.yaml.
        like: whose published numbers and settings; None for those of the dataset's name.
        as_published: whether the paper's other settings are taken.
        picture: whether a picture is drawn, if the file has one.
    """

    file: str
    labels: tuple[str, ...] = ()
    seeds: str | None = None
    dataset: str | None = None
    like: str | None = None
    as_published: bool = False
    picture: bool = True


@dataclass(frozen=True)
class ExperimentReport:
    """What is shown.

    Attributes:
        file: of experiments, with the rows that were asked for.
        dataset: on which they ran.
        table: the numbers.
        notes: what must be known to read them rightly.
        written: the files.
        failed: the label of each experiment that failed, and why.
    """

    file: ExperimentSpec
    dataset: str
    table: list[TableRow]
    notes: list[str]
    written: list[Path]
    failed: list[str]


def run(asked: ExperimentRequest, progress: Progress = silent) -> ExperimentReport:
    """Run a file's experiments in a copy of the project that lies in the current folder.

    Raises:
        ParamsError: the file or a row's parameters are wrong, or Matplotlib is missing.
        MissingInputError: there is no such dataset, or no git or DVC.
        DataError: experiments of this project are running.
    """
    with open_workspace(Path()) as place:
        return run_at(place, asked, progress)


def run_at(place: ExperimentHost, asked: ExperimentRequest, progress: Progress = silent) -> ExperimentReport:
    """Run a file's experiments at some place."""
    path = files.find(asked.file)
    file = files.select_rows(files.load(path), asked.labels)
    params = load(DEFAULT_FILE).with_dataset(asked.dataset)
    layout = Layout(DATA, params.dataset)
    like = files.match_paper_dataset(file, layout.dataset, asked.like)
    first = params.sections.train.seed
    seeds = (first,) if asked.seeds is None else parse_seeds(asked.seeds, first)
    drawn = asked.picture and file.is_drawn
    if drawn:
        require_matplotlib(f"{path}: give --no-picture, or")
    points = files.points(file, files.settings(file, like) if asked.as_published else None)
    results = run_points(points, seeds, read_yaml(DEFAULT_FILE), path.stem, place, layout, progress)
    written, table = layout.experiment(path.stem), lines(file, results, layout.dataset, like)
    write_table(file, table, written.table)
    if drawn:
        draw(file, table, written.picture)
    failed = [f"{result.point.label}: {result.failed}" for result in results if result.failed]
    paths = [written.table, *([written.picture] if drawn else [])]
    return ExperimentReport(file, layout.dataset, table, notes(file, results), paths, failed)
