"""Commands that change no artefact: catalogues of mmprep, and views of a dataset's artefacts."""

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
    show_recommender_keys,
    timed,
)
from mmprep.stages.cli.group import COUNT, MOST, NUMBER, Command, option, prepare, stage_options

# Stages are imported inside the commands, so that `mmprep --help` answers at once.


@click.command(cls=Command)
@option("--params")
def encoders(file: Path | None) -> None:
    """List the encoders of mmprep and params.yaml, with licences.

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


@click.command(cls=Command)
def graphs() -> None:
    """List the graphs that mmprep builds.

    Example: mmprep graphs
    """
    from mmprep.pipeline.graphs.catalogue import DESCRIPTIONS

    for row in DESCRIPTIONS:
        show(f"{row.usage}: {row.rule}", {"joins": row.nodes, "reads": row.reads, "from": row.paper}, width=10)


@click.command(cls=Command)
@stage_options
@click.argument("item")
@click.option("-k", type=COUNT, default=10, show_default=True, help="Maximum neighbours per graph.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write an HTML page with the photos side by side.")
def neighbors(root: Path, file: Path | None, dataset: str | None, item: str, k: int, html: Path | None) -> None:
    """Show an item's nearest neighbours in each graph.

    ITEM is a published id, or `#` followed by the item's number.

    Example: mmprep neighbors B0FY6F7N4B --html neighbors.html
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import neighbors as verb
    from mmprep.stages.explore.neighbors_page import require_page, write_page

    if html:
        require_page(html)
    neighbours = verb.find(layout, item, k)
    show_neighbours(neighbours)
    if html:
        write_page(neighbours, layout, html)
        click.echo(f"page: {html}")


@click.command(cls=Command)
@stage_options
@click.argument("user")
@click.option("--recommender", help="Recommender to use; by default that of the best validation Recall@20.")
@click.option("-k", type=COUNT, default=10, show_default=True, help="Recommended items, at most 50.")
def recommend(root: Path, file: Path | None, dataset: str | None, user: str, recommender: str | None, k: int) -> None:
    """Show a user's history and a recommender's top items.

    USER is a published id, or `#` followed by the user's number.

    Example: mmprep recommend '#12' --recommender vbpr
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import recommend as verb

    show_recommendations(verb.find(layout, recommender, user, k))


@click.command(cls=Command)
@stage_options
@click.option("--recommender", required=True, help="Trained recommender that refines the features.")
@click.option(
    "--items",
    type=click.IntRange(min=10, max=MOST),
    default=500,
    show_default=True,
    help="Maximum number of sampled items.",
)
@click.option("--seed", type=NUMBER, default=0, show_default=True, help="Random seed.")
def tsne(root: Path, file: Path | None, dataset: str | None, recommender: str, items: int, seed: int) -> None:
    """Plot items' raw and refined features with t-SNE.

    Example: mmprep tsne --recommender camgr
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import tsne as verb

    with timed(f"tsne {recommender}") as done:
        done(verb.run(layout, recommender, items, seed, bar))


@click.command(cls=Command)
@click.argument("name", required=False)
def recommenders(name: str | None) -> None:
    """List the recommenders, or the parameters of one.

    With NAME, show what each of its parameters means and what each of its presets changes.

    Example: mmprep recommenders da_mrs
    """
    from mmprep.models.recommenders.catalogue import DESCRIPTIONS, describe

    if name is not None:
        show_recommender_keys(describe(name, "recommenders"))
        return
    for row in DESCRIPTIONS:
        show_recommender(row)


@click.command(cls=Command)
@stage_options
def report(root: Path, file: Path | None, dataset: str | None) -> None:
    """Show test metrics side by side, and the paths of results.

    Example: mmprep report
    """
    from mmprep.stages.explore.report import METRICS, collect

    _, layout = prepare(root, file, dataset)
    results = collect(layout)
    title = f"{layout.dataset}: test split ({results.split}), all items ranked"
    table = new_table("recommender", *METRICS, title=title)
    for name, metrics in results.metrics.items():
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in METRICS))
    print_table(table)
    for warning in results.warnings:
        click.echo(f"note: {warning}")
    for kind, path in results.places:
        click.echo(f"{kind:<16} {path}")


@click.command(cls=Command)
@stage_options
def verify(root: Path, file: Path | None, dataset: str | None) -> None:
    """Check all artefacts for damage and staleness.

    Each is compared with its own record of its bytes and of its inputs.

    Example: mmprep verify
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.maintenance import verify as verb

    findings = verb.run(layout, bar)
    for finding in findings:
        show_finding(finding)
    bad = [finding for finding in findings if finding.state != "ok"]
    if bad:
        raise DataError(f"{len(bad)} of {len(findings)} artefacts are stale or damaged")
    click.echo(f"all {len(findings)} artefacts are ok")


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """Show what made FILE: stage, parameters, inputs, versions.

    FILE is a Parquet file written by mmprep, or a folder of features.

    Example: mmprep inspect data/graphs/sample/cooccurrence.parquet
    """
    from mmprep.pipeline.features.reader import part_paths
    from mmprep.pipeline.storage.files import require_exists
    from mmprep.pipeline.tables.provenance import read_provenance

    if require_exists(file, "dvc repro").is_dir() and not any(file.glob("part-*.parquet")):
        raise DataError(f"{file}: a folder without features, expected a Parquet file or a folder of features")
    table = part_paths(file)[0] if file.is_dir() else file
    click.echo(json.dumps(read_provenance(table), indent=2))
