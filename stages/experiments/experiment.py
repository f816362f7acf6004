"""Verb `experiment`: a paper's table or figure on our data, each row a DVC experiment, beside the published numbers."""

from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import read_yaml
from mmprep.pipeline.progress import Progress, silent
from mmprep.stages.config.load import DEFAULT_FILE, load
from mmprep.stages.config.parameters import Parameters
from mmprep.stages.experiments import spec as files
from mmprep.stages.experiments.figure import draw
from mmprep.stages.experiments.runner import ExperimentHost, RunRequest, run_points
from mmprep.stages.experiments.settings import AppliedSetting, resolve_point
from mmprep.stages.experiments.spec import AsPublished, ExperimentPoint, ExperimentSpec, Paper
from mmprep.stages.experiments.table import TableRow, lines, notes, write_settings, write_table
from mmprep.stages.experiments.workspace import open_workspace
from mmprep.stages.explore.figures import require_matplotlib
from mmprep.stages.training.seeds import parse_seeds

DATA = Path("data")


@dataclass(frozen=True)
class ExperimentRequest:
    """Options of `mmprep experiment`.

    Attributes:
        file: an experiment file, or its name.
        labels: of the rows to run; empty for all.
        seeds: a count or a list; None for the seed of params.yaml.
        dataset: a folder under data/raw; None for the dataset of params.yaml.
        like: the paper's dataset to compare with; None to match it by name.
        as_published: whether to run with the paper's settings and the classes' defaults.
        picture: whether to draw the picture, if the file has one.
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
    """Result of an experiment file.

    Attributes:
        file: the experiment file, with the selected rows only.
        paper: the paper that it is from.
        dataset: the dataset that they ran on.
        as_published: whether they ran with the paper's settings.
        table: the numbers.
        notes: caveats on the numbers.
        settings: by label of the row, the parameters that it ran with.
        written: the files that were written.
        failed: the label of each failed experiment, and the reason.
    """

    file: ExperimentSpec
    paper: Paper
    dataset: str
    as_published: bool
    table: list[TableRow]
    notes: list[str]
    settings: dict[str, tuple[AppliedSetting, ...]]
    written: list[Path]
    failed: list[str]


@dataclass(frozen=True)
class ChosenExperiments:
    """What a request names.

    Attributes:
        path: of the experiment file.
        file: its content, with the selected rows only.
        paper: the paper that it is from.
        parameters: those of params.yaml for the dataset.
        like: the paper's dataset to compare with; None if there is none.
        points: all experiments.
    """

    path: Path
    file: ExperimentSpec
    paper: Paper
    parameters: Parameters
    like: str | None
    points: list[ExperimentPoint]

    @property
    def layout(self) -> Layout:
        """The dataset's paths."""
        return Layout(DATA, self.parameters.dataset)


def choose(request: ExperimentRequest) -> ChosenExperiments:
    """Read the files that a request names.

    Raises:
        ParamsError: a file is wrong, or has no such row or dataset.
    """
    path = files.find(request.file)
    file = files.select_rows(files.load(path), request.labels)
    parameters = load(DEFAULT_FILE, request.dataset)
    paper = files.load_paper(file, path)
    like = files.match_paper_dataset(file, paper, parameters.dataset, request.like)
    points = files.points(file, AsPublished(paper, like) if request.as_published else None)
    return ChosenExperiments(path, file, paper, parameters, like, points)


def settings(request: ExperimentRequest) -> dict[str, tuple[AppliedSetting, ...]]:
    """Parameters that each row would run with, by label. Nothing runs. Imports torch.

    Raises:
        ParamsError: the file or a row's parameters are wrong.
    """
    chosen, values = choose(request), read_yaml(DEFAULT_FILE)
    return {
        point.label: resolve_point(
            point,
            values,
            chosen.parameters.dataset,
            f"{chosen.path.stem}: {point.label}",
            as_published=request.as_published,
        ).settings
        for point in chosen.points
        if point.recommender
    }


def run(request: ExperimentRequest, progress: Progress = silent) -> ExperimentReport:
    """Run a file's experiments in a copy of the current folder's project.

    Raises:
        ParamsError: the file or a row's parameters are wrong, or Matplotlib is missing.
        MissingInputError: there is no such dataset, or no git or DVC.
        DataError: experiments of this project are running.
    """
    with open_workspace(Path()) as workspace:
        return run_at(workspace, request, progress)


def run_at(host: ExperimentHost, request: ExperimentRequest, progress: Progress = silent) -> ExperimentReport:
    """Run a file's experiments on a host."""
    chosen = choose(request)
    path, file, paper, layout, like = chosen.path, chosen.file, chosen.paper, chosen.layout, chosen.like
    first = chosen.parameters.sections.train.seed
    seeds = (first,) if request.seeds is None else parse_seeds(request.seeds, first)
    drawn = request.picture and file.is_drawn
    if drawn:
        require_matplotlib(f"{path}: give --no-picture, or")
    described = paper.datasets.get(like) if like else None
    values = read_yaml(DEFAULT_FILE)
    common = RunRequest(path.stem, seeds, values, as_published=request.as_published, described=described)
    results = run_points(chosen.points, common, host, layout, progress)
    written, table = layout.experiment(path.stem), lines(file, results, layout.dataset, like)
    write_table(file, table, written.table)
    write_settings(results, written.settings)
    if drawn:
        draw(file, paper.name, table, written.picture)
    failed = [f"{result.point.label}: {result.failed}" for result in results if result.failed]
    paths = [written.table, written.settings, *([written.picture] if drawn else [])]
    settings = {result.point.label: result.settings for result in results if result.settings}
    return ExperimentReport(
        file, paper, layout.dataset, request.as_published, table, notes(file, results), settings, paths, failed
    )
