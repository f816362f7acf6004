"""The commands that change nothing: lists of what mmprep knows, and views of what lies on the disk."""

import json
from pathlib import Path

import click

from mmprep.pipeline.errors import DataError
from mmprep.stages.cli.console import (
    bar,
    new_table,
    print_table,
    show,
    show_encoder,
    show_finding,
    show_neighbours,
    show_recommendations,
    show_recommender,
    timed,
)
from mmprep.stages.cli.group import prepare, stage_options

# What they show is imported inside the commands, so that `mmprep --help` answers at once.


@click.command()
@click.option("--params", "file", type=click.Path(path_type=Path), help="Instead of params.yaml.")
def encoders(file: Path | None) -> None:
    """The encoders of mmprep and params.yaml, with their licences.

    Example: mmprep encoders
    """
    from mmprep.models.encoders.catalogue import CATALOGUE, DESCRIPTIONS
    from mmprep.stages.config.load import DEFAULT_FILE, load

    own = []
    if file or DEFAULT_FILE.is_file():
        params = load(file or DEFAULT_FILE)
        own = [params.describe_encoder(name) for name in params.encoders if name not in CATALOGUE]
    for description in (*DESCRIPTIONS, *own):
        show_encoder(description, own=description in own)


@click.command()
def graphs() -> None:
    """The graphs that mmprep builds.

    Example: mmprep graphs
    """
    from mmprep.pipeline.graphs.catalogue import DESCRIPTIONS

    for row in DESCRIPTIONS:
        show(f"{row.usage}: {row.what}", {"joins": row.nodes, "reads": row.reads, "from": row.paper}, width=10)


@click.command()
@stage_options
@click.argument("item")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Neighbours a graph, at most.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with the photos side by side.")
def neighbors(root: Path, file: Path | None, dataset: str | None, item: str, k: int, html: Path | None) -> None:
    """An item's nearest neighbours in each graph.

    ITEM is an id as published, or `#` and its number.

    Example: mmprep neighbors B0FY6F7N4B --html neighbors.html
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import neighbors as verb
    from mmprep.stages.explore.neighbors_page import write_page

    found = verb.find(layout, item, k)
    show_neighbours(found)
    if html:
        write_page(found, layout, html)
        click.echo(f"page: {html}")


@click.command()
@stage_options
@click.argument("user")
@click.option("--recommender", help="Whose list; else that of the best validation Recall@20.")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items of the list, at most 50.")
def recommend(root: Path, file: Path | None, dataset: str | None, user: str, recommender: str | None, k: int) -> None:
    """A user's history, and what a recommender would give them.

    USER is an id as published, or `#` and its number.

    Example: mmprep recommend '#12' --recommender vbpr
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import recommend as verb

    show_recommendations(verb.find(layout, recommender, user, k))


@click.command()
@stage_options
@click.option("--recommender", required=True, help="Whose refined features; it must be trained.")
@click.option(
    "--items", type=click.IntRange(min=10), default=500, show_default=True, help="At most so many, at random."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Other items, another map.")
def tsne(root: Path, file: Path | None, dataset: str | None, recommender: str, items: int, seed: int) -> None:
    """A picture of items' features, raw and refined.

    Example: mmprep tsne --recommender camgr
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import tsne as verb

    with timed(f"tsne {recommender}") as done:
        done(verb.run(layout, recommender, items, seed, bar))


@click.command()
def recommenders() -> None:
    """The recommenders of mmprep, with their parameters.

    Example: mmprep recommenders
    """
    from mmprep.models.recommenders.catalogue import DESCRIPTIONS

    for row in DESCRIPTIONS:
        show_recommender(row)


@click.command()
@stage_options
def report(root: Path, file: Path | None, dataset: str | None) -> None:
    """The test metrics side by side, and where everything lies.

    Example: mmprep report
    """
    from mmprep.stages.explore.report import METRICS, collect

    _, layout = prepare(root, file, dataset)
    found = collect(layout)
    table = new_table("recommender", *METRICS, title=f"{layout.dataset}: test split, all items ranked")
    for name, metrics in found.metrics.items():
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in METRICS))
    print_table(table)
    for caution in found.warnings:
        click.echo(f"note: {caution}")
    for kind, path in found.places:
        click.echo(f"{kind:<16} {path}")


@click.command()
@stage_options
def verify(root: Path, file: Path | None, dataset: str | None) -> None:
    """Which artefacts are damaged, and which are stale.

    Each is compared with what it records of itself: its own bytes, and those of what it was made of.

    Example: mmprep verify
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.maintenance import verify as verb

    findings = verb.run(layout, bar)
    for finding in findings:
        show_finding(finding)
    bad = [finding for finding in findings if finding.state != "ok"]
    if bad:
        raise DataError(f"{len(bad)} of {len(findings)} artefacts are not ok")
    click.echo(f"all {len(findings)} artefacts are ok")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """What made FILE: stage, parameters, inputs, versions.

    FILE is any Parquet file of mmprep's, or a folder of features.

    Example: mmprep inspect data/graphs/sample/cooccurrence.parquet
    """
    from mmprep.pipeline.features.reader import part_paths
    from mmprep.pipeline.storage.files import require_exists
    from mmprep.pipeline.tables.provenance import read_provenance

    if require_exists(file, "dvc repro").is_dir() and not any(file.glob("part-*.parquet")):
        raise DataError(f"{file}: a folder without features, expected a Parquet file or a folder of features")
    found = part_paths(file)[0] if file.is_dir() else file
    click.echo(json.dumps(read_provenance(found), indent=2))
