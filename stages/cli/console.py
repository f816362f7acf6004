"""Terminal output of the command line: tables, metrics, lists and progress bars."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from mmprep.models.encoders.catalogue import EncoderDescription
    from mmprep.models.recommenders.catalogue import RecommenderDescription
    from mmprep.pipeline.progress import Advance
    from mmprep.stages.config.recommender_settings import RecommenderSettings
    from mmprep.stages.experiments.experiment import ExperimentReport
    from mmprep.stages.experiments.settings import AppliedSetting
    from mmprep.stages.experiments.spec import ExperimentSpec, Paper
    from mmprep.stages.experiments.table import TableRow
    from mmprep.stages.explore.denoise import DoubtfulInteraction
    from mmprep.stages.explore.neighbors import ItemNeighbours
    from mmprep.stages.explore.recommend import UserRecommendations
    from mmprep.stages.maintenance.cache import FolderStats
    from mmprep.stages.maintenance.verify import Finding

# rich is imported inside the functions, so that `mmprep --help` answers at once.

COLOURS = {"ok": "green", "stale": "yellow", "damaged": "red"}
EACH = {
    ("image", "vector"): "photo",
    ("text", "vector"): "text",
    ("audio", "vector"): "recording",
    ("image", "patches"): "patch",
    ("text", "tokens"): "token",
}


def new_table(*columns: str, title: str | None = None) -> "Table":
    """A table of text columns."""
    from rich.table import Table

    return Table(*columns, title=title)


def print_table(table: "Table") -> None:
    """Print a table as wide as the terminal, or 100 characters wide without a terminal."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100).print(table)


def show_encoder(row: "EncoderDescription", *, own: bool) -> None:
    """Print an encoder's description.

    Args:
        row: the description.
        own: whether params.yaml defines the encoder.
    """
    origin = " (params.yaml)" if own else ""
    size = row.dimension or "dimension of the model"
    show(
        f"{row.name}{origin}: {size}, one vector per {EACH[row.modality, row.form]}",
        {"output": row.output, "input": row.input, "pretrained": row.published_weights, "licence": row.licence},
        width=10,
    )


def warn_conflicts(settings: "RecommenderSettings") -> None:
    """Warn of written keys that disagree with the preset beside them."""
    for conflict in settings.conflicts:
        click.echo(click.style("warning: ", fg="yellow") + conflict, err=True)


def changed_keys(settings: "RecommenderSettings") -> str:
    """A recommender's parameters that differ from its class's defaults, in one line."""
    return "; ".join(map(str, settings.changes)) or "defaults"


def show_cached(row: "FolderStats") -> None:
    """Print the row cache's statistics for one encoder."""
    from rich.filesize import decimal

    encoder = row.fingerprint
    values = {
        "folder": row.folder,
        "weights": encoder.get("weights", "not known"),
        "precision": f"{encoder.get('precision', 'not known')}, stored as {encoder.get('stored_as', 'not known')}",
        "last used": time.strftime("%Y-%m-%d", time.localtime(row.used)) if row.used else "not known",
        **({"damaged": f"{row.damaged} shards set aside"} if row.damaged else {}),
    }
    show(f"{encoder['encoder']}: {row.rows} rows, {decimal(row.bytes)}, {row.shards} shards", values, width=10)


def show_finding(finding: "Finding") -> None:
    """Print an artefact's state and, below it, what is wrong."""
    click.echo(f"{click.style(f'{finding.state:<8}', fg=COLOURS[finding.state])} {finding.path}")
    if finding.fault:
        click.echo(f"{'':<8} {finding.fault}")


def show_neighbours(found: "ItemNeighbours") -> None:
    """Print an item's neighbours, one table per graph."""
    from mmprep.pipeline.text import printable

    click.echo(f"{printable(found.item.title)} ({printable(found.item.item_id)}, #{found.item.item})")
    for note in found.notes:
        click.echo(f"note: {printable(note)}")
    for graph in found.graphs:
        if graph.lack:
            click.echo(f"\n{graph.graph}: {graph.lack}")
        else:
            show_rows(graph.title, graph.columns, graph.rows())
        for note in graph.notes:
            click.echo(f"note: {printable(note)}")


def show_recommendations(found: "UserRecommendations") -> None:
    """Print a user's history and, below it, a recommender's top items."""
    from mmprep.pipeline.text import printable

    click.echo(f"{printable(found.user_id)} (#{found.user})")
    for note in found.notes:
        click.echo(f"note: {printable(note)}")
    show_rows("history", found.history_columns, found.history_rows())
    if found.recommended:
        show_rows(found.title, found.columns, found.rows())


def show_doubts(found: "Sequence[DoubtfulInteraction]") -> None:
    """Print the least reliable interactions."""
    from mmprep.stages.explore.denoise import DoubtfulInteraction

    show_rows(f"least reliable: {len(found)}", DoubtfulInteraction.columns, (each.row() for each in found))


def show_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a title and a table of untrusted text, with markup escaped."""
    from rich.markup import escape

    click.echo(f"\n{title}")
    table = new_table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table)


def show_recommender(row: "RecommenderDescription") -> None:
    """Print a recommender's inputs, and its parameters with their defaults."""
    kind = row.load().params_type
    values = {
        "paper": row.paper,
        "reads": ", ".join([row.reads, *row.graphs]),
        "list": f"train.{row.group}",
        "keys": ", ".join(f"{key}: {value}" for key, value in kind().model_dump(mode="json").items()),
        **({"presets": ", ".join(kind.presets)} if kind.presets else {}),
    }
    show(row.name, values, width=10)


def show_recommender_keys(row: "RecommenderDescription") -> None:
    """Print a recommender's inputs, what each of its parameters means, and what each preset changes."""
    from rich.markup import escape

    from mmprep.pipeline.params import documentation

    kind = row.load().params_type
    inputs = ", ".join([row.reads, *row.graphs])
    show(row.name, {"paper": row.paper, "reads": inputs, "list": f"train.{row.group}"}, width=10)
    table = new_table("key", "default", "meaning", title=f"recommenders.{row.name}")
    defaults, meanings = kind().model_dump(mode="json"), documentation(kind)
    for key, value in defaults.items():
        table.add_row(key, escape(json.dumps(value)), escape(meanings[key]))
    print_table(table)
    for name, values in kind.presets.items():
        changes = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value != defaults[key]]
        click.echo(f"preset {name}: {', '.join(changes) or 'the defaults'}")


def show_experiment_file(name: str, file: "ExperimentSpec", paper: "Paper") -> None:
    """Print the summary of an experiment file: paper, rows and published datasets."""
    rows = ", ".join(row.label if row.recommender else f"{row.label} (not built)" for row in file.rows)
    published = ", ".join(file.datasets) or "no numbers"
    values = {"of": f"{paper.name}, {file.source}", "rows": rows, "published": published}
    if file.x:
        values["along"] = f"{file.x.name}: {', '.join(map(str, file.x.values))}"
    show(f"{name}: {file.shows}", values, width=10)


def show_experiment(found: "ExperimentReport") -> None:
    """Print measured and published numbers, and the paths of the files written."""
    from rich.markup import escape

    file = found.file
    title = f"{found.paper.name}, {file.source}: {file.shows}"
    table = new_table("row", "numbers", *file.metrics, title=escape(title))
    label = ""
    for line in found.table:
        if line.label != label:
            table.add_section()
        name, label = ("" if line.label == label else line.label), line.label
        table.add_row(
            *map(escape, (name, whose(line), *cells(line, file.metrics))), style="dim" if line.published else None
        )
    print_table(table)
    if found.as_published:
        show_applied_settings(found.settings)
    for note in found.notes:
        click.echo(f"note: {note}")
    for path in found.written:
        click.echo(f"written: {path}")


def show_applied_settings(settings: "Mapping[str, Sequence[AppliedSetting]]", verb: str = "ran with") -> None:
    """Print, row by row, the parameters of experiments, those of a place together."""
    for label, applied in settings.items():
        click.echo(click.style(f"{label} {verb}", bold=True))
        places: dict[str, list[str]] = {}
        for each in applied:
            places.setdefault(each.origin, []).append(f"{each.key} {json.dumps(each.value)}")
        for origin in sorted(places, key=lambda place: place == "default"):
            remark = ", as no source gives a value" if origin == "default" else ""
            click.echo(f"  {origin}{remark}: {', '.join(places[origin])}")


def whose(line: "TableRow") -> str:
    """Origin of a row's numbers: published or ours, the dataset and the number of seeds."""
    if line.published:
        return f"published, {line.dataset}"
    return f"ours, {line.dataset}" + (f", {line.seeds} seeds" if line.seeds > 1 else "")


def cells(line: "TableRow", metrics: Sequence[str]) -> list[str]:
    """One cell per metric; in a row without any numbers, the first cell says why."""
    if line.remark:
        return [line.remark if line.remark == "not built" else "failed", *[""] * (len(line.means) - 1)]
    numbers = zip(metrics, line.means, line.deviations, strict=True)
    return [
        "" if value is None else " +-".join(format(each, digits(name)) for each in (value, spread) if each is not None)
        for name, value, spread in numbers
    ]


def digits(metric: str) -> str:
    """Format specification of a metric's numbers."""
    return {"epoch_seconds": ".2f", "peak_memory_mb": ",.0f"}.get(metric, ".4f")


def show(title: str, values: Mapping[str, Any], width: int = 26) -> None:
    """Print a title and, below it, one named value per line; names are padded to `width` or to the longest."""
    click.echo(click.style(title, bold=True))
    width = max(width, *map(len, values)) if values else width
    for key, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{count} {name}" for name, count in value.items()) or "none"
        elif isinstance(value, float):
            value = f"{value:.4f}"
        click.echo(f"  {key:<{width}} {value}")


@contextmanager
def timed(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Time a stage and print the metrics that the block passes to the yielded function."""
    start = time.monotonic()
    metrics: dict[str, Any] = {}
    yield metrics.update
    show(f"{title} ({time.monotonic() - start:.1f} s)", metrics)


@contextmanager
def bar(task: str, total: int | None, unit: str) -> Iterator["Advance"]:
    """Progress bar with rate and time left on a terminal; silent in a log file."""
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
            amount = decimal(int(speed or 0)) if unit == "bytes" else f"{speed or 0:.1f}"
            rate = f"{amount}/s" if speed else ""
            progress.update(shown, advance=units, rate=rate, remark=remark)

        yield advance
