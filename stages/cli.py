"""The command line: parses, calls one stage, prints. The only module that knows click, and the only one that prints."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.errors import DataError, MissingInputError, MmprepError, ParamsError, WeightsError

if TYPE_CHECKING:
    from pipeline.layout import Layout
    from pipeline.progress import Advance
    from stages.parameters import Parameters

# Stages and their libraries are imported inside the commands, so that `mmprep --help` answers at once.

EXIT_CODES: dict[type[Exception], int] = {ParamsError: 2, MissingInputError: 3, DataError: 4, WeightsError: 5}
F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Translates mmprep's errors for every command, and lists the commands in the order of the pipeline."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except (MmprepError, OSError) as error:  # the system's own are a full disk or a folder that may not be written
            for line in str(error).splitlines():
                click.echo(click.style("error: ", fg="red", bold=True) + line, err=True)
            ctx.exit(EXIT_CODES.get(type(error), 1))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of definition."""
        del ctx
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mmprep"), prog_name="mmprep")
def main() -> None:
    """From raw Amazon reviews and product photos to evaluated multimodal recommenders.

    Each stage reads params.yaml and the files of the stage before it. `dvc repro` runs them all, and only those whose
    inputs have changed.
    """
    # Threads of torch that wait for work would else spin, which on a busy machine makes training several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Another seed, another shop.")
@click.option("--users", default=600, show_default=True)
@click.option("--items", default=300, show_default=True)
@click.option("--reviews", default=6000, show_default=True, help="About so many.")
def sample(folder: Path, seed: int, users: int, items: int, reviews: int) -> None:
    """Write an invented dataset with planted taste to FOLDER.

    Example: mmprep sample data/raw/tiny --users 60 --items 40 --reviews 800
    """
    from stages.sample import write_sample

    show("sample", write_sample(folder, seed=seed, users=users, items=items, reviews=reviews))


def stage_options(command: F) -> F:
    """The options that every stage has."""
    for option in (
        click.option("--data", "root", type=click.Path(path_type=Path), default=Path("data"), help="The data folder."),
        click.option("--params", "file", type=click.Path(path_type=Path), help="Instead of params.yaml."),
        click.option("--dataset", help="A folder under data/raw, instead of the one that params.yaml names."),
    ):
        command = option(command)
    return command


def prepare(root: Path, file: Path | None, dataset: str | None) -> tuple["Parameters", "Layout"]:
    """The checked parameters and the dataset's paths."""
    from pipeline.layout import Layout
    from stages.parameters import DEFAULT_FILE, load

    params = load(file or DEFAULT_FILE).with_dataset(dataset)
    return params, Layout(root, params.dataset)


@main.command()
@stage_options
@click.option("--edition", help="Fetch raw files of this edition: 2014, 2018 or 2023.")
@click.option("--category", help="Of this category of the edition, such as Gift_Cards.")
@click.option("--small", "extent", flag_value="small", default=True, help="Reviews of the 5-core.  [default]")
@click.option("--full", "extent", flag_value="full", help="All reviews.")
@click.option("--ratings", "extent", flag_value="ratings", help="2014, 2023: all ratings, without reviews.")
@click.option("--last-out", "extent", flag_value="last-out", help="2023: the 5-core, split by each user's last items.")
@click.option("--timestamp", "extent", flag_value="timestamp", help="2023: the 5-core, split by time.")
@click.option("--base-url", help="Where the edition's files lie, instead of its own address: a mirror.")
@click.option("--photos", is_flag=True, help="Fetch the photos of the items instead, of the k-core if there is one.")
@click.option("--all-items", is_flag=True, help="Photos of all items although there is a k-core.")
@click.option("--retry-failed", is_flag=True, help="Photos also that an earlier run found gone or unusable.")
@click.option("--allow-private", is_flag=True, help="Connect to loopback and private networks too.")
def download(
    root: Path,
    file: Path | None,
    dataset: str | None,
    photos: bool,
    allow_private: bool,
    **more: Any,  # noqa: ANN401 - the options of one of the two alone
) -> None:
    """An edition's raw files, or the items' photos, into data/raw.

    Example: mmprep download --edition 2018 --category Gift_Cards
    """
    edition, category = more["edition"], more["category"]
    if photos == bool(edition or category) or bool(edition) != bool(category):
        raise click.UsageError("give --edition and --category, or --photos")
    params, layout = prepare(root, file, dataset)
    from stages import download as verb
    from stages.formats.addresses import Extent

    section = params.sections.download
    with timed("download") as done:
        if photos:
            asked = verb.PhotosWanted(more["all_items"], more["retry_failed"], allow_private)
            done(verb.run_photos(section, layout, asked, bar))
        else:
            wanted = verb.FilesWanted(edition, category, Extent(more["extent"]), more["base_url"], allow_private)
            done(verb.run_files(section, layout, wanted, bar))


@main.command()
@stage_options
def ingest(root: Path, file: Path | None, dataset: str | None) -> None:
    """Raw reviews, metadata and photos to clean tables.

    Example: mmprep ingest --dataset sample
    """
    from stages import ingest as stage

    params, layout = prepare(root, file, dataset)
    params.check_recommenders()  # the first stage of all finds mistakes that would else show hours later
    with timed("ingest") as done:
        done(stage.run(params.sections.ingest, layout, bar))


@main.command("filter")
@stage_options
def filter_(root: Path, file: Path | None, dataset: str | None) -> None:
    """The k-core of users and items.

    Example: mmprep filter
    """
    from stages import filter as stage

    params, layout = prepare(root, file, dataset)
    with timed("filter") as done:
        done(stage.run(params.sections.filter, layout, bar))


@main.command()
@stage_options
def split(root: Path, file: Path | None, dataset: str | None) -> None:
    """Each user's interactions into train, val and test.

    Example: mmprep split
    """
    from stages import split as stage

    params, layout = prepare(root, file, dataset)
    with timed("split") as done:
        done(stage.run(params.sections.split, layout, bar, params.sections.noise))


@main.command()
@stage_options
@click.option("--encoder", help="Only this one, also if extract.encoders does not list it.")
@click.option("--modality", type=click.Choice(["image", "text"]), help="Only the encoders of photos or of texts.")
def extract(root: Path, file: Path | None, dataset: str | None, encoder: str | None, modality: Any) -> None:  # noqa: ANN401
    """Photos and texts to feature vectors.

    Example: mmprep extract --modality image
    """
    if encoder and modality:
        raise click.UsageError("give --encoder or --modality, not both")
    params, layout = prepare(root, file, dataset)
    chosen = {name: params.encoder(name) for name in ([encoder] if encoder else params.encoders_of(modality))}
    if not chosen:
        raise ParamsError(f"{params.source}: extract.encoders lists no encoder of {modality}")
    from stages import extract as stage

    for name, encoder_params in chosen.items():
        with timed(f"extract {name}") as done:
            done(stage.run(name, params.sections.extract, encoder_params, layout, bar, params.sections.noise))


@main.command()
@stage_options
@click.option("--graph", "name", help="Only this one: knn_ENCODER or cooccurrence.")
def graph(root: Path, file: Path | None, dataset: str | None, name: str | None) -> None:
    """Item graphs: nearest neighbours by features, and co-occurrence.

    Example: mmprep graph --graph knn_minilm
    """
    params, layout = prepare(root, file, dataset)
    from stages import graph as stage

    for each in [name] if name else stage.graph_names(params.sections.extract.encoders):
        with timed(f"graph {each}") as done:
            done(stage.run(each, params.sections.graphs, layout, bar))


@main.command()
@stage_options
@click.option("--recommender", help="Only this one.")
def train(root: Path, file: Path | None, dataset: str | None, recommender: str | None) -> None:
    """Fit recommenders to the train interactions.

    Example: mmprep train --recommender vbpr
    """
    params, layout = prepare(root, file, dataset)
    section = params.sections.train
    chosen = [recommender] if recommender else [*section.collaborative, *section.multimodal]
    checked = {name: params.recommender(name) for name in chosen}
    from stages import train as stage

    for name, recommender_params in checked.items():
        with timed(f"train {name}") as done:
            done(stage.run(name, section, recommender_params, layout, bar))


@main.command()
@stage_options
@click.option("--recommender", help="Only this one.")
def evaluate(root: Path, file: Path | None, dataset: str | None, recommender: str | None) -> None:
    """Test metrics and recommendations of trained recommenders.

    Example: mmprep evaluate --recommender vbpr
    """
    params, layout = prepare(root, file, dataset)
    section = params.sections.train
    from stages import evaluate as stage

    for name in [recommender] if recommender else [*section.collaborative, *section.multimodal]:
        with timed(f"evaluate {name}") as done:
            done(stage.run(name, params.sections.evaluate, layout, bar))


@main.command()
@stage_options
def report(root: Path, file: Path | None, dataset: str | None) -> None:
    """The test metrics side by side, and where everything lies.

    Example: mmprep report
    """
    from rich.console import Console
    from rich.table import Table

    from stages.report import METRICS, collect

    _, layout = prepare(root, file, dataset)
    found = collect(layout)
    table = Table("recommender", *METRICS, title=f"{layout.dataset}: test split, all items ranked")
    for name, metrics in found.metrics.items():
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in METRICS))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    for caution in found.cautions:
        click.echo(f"note: {caution}")
    for kind, path in found.places:
        click.echo(f"{kind:<16} {path}")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """What made FILE: stage, parameters, inputs, versions.

    Example: mmprep inspect data/graphs/sample/cooccurrence.parquet
    """
    from pipeline.files import require
    from pipeline.provenance import read_provenance

    click.echo(json.dumps(read_provenance(require(file, "dvc repro")), indent=2))


def show(title: str, metrics: dict[str, Any]) -> None:
    """Print a stage's metrics, one a line."""
    click.echo(click.style(title, bold=True))
    for key, value in metrics.items():
        if isinstance(value, dict):
            value = ", ".join(f"{count} {what}" for what, count in value.items()) or "none"
        elif isinstance(value, float):
            value = f"{value:.4f}"
        click.echo(f"  {key:<26} {value}")


@contextmanager
def timed(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Time a stage and print the metrics that the block hands over."""
    start = time.monotonic()
    metrics: dict[str, Any] = {}
    yield metrics.update
    show(f"{title} ({time.monotonic() - start:.1f} s)", metrics)


@contextmanager
def bar(task: str, total: int | None, unit: str) -> Iterator["Advance"]:
    """A progress bar with rate and time left on a terminal; nothing in a log file."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counted = (DownloadColumn(),) if unit == "bytes" else (MofNCompleteColumn(), unit)
    columns = ("{task.description}", BarColumn(), *counted, TextColumn("{task.fields[rate]}"))
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        shown = progress.add_task(task, total=total, rate="", remark="")

        def advance(units: int, remark: str) -> None:
            speed = progress.tasks[shown].speed
            spoken = decimal(int(speed or 0)) if unit == "bytes" else f"{speed or 0:.1f}"
            rate = f"{spoken}/s" if speed else ""
            progress.update(shown, advance=units, rate=rate, remark=remark)

        yield advance
