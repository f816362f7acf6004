"""The command line: each command parses, calls one stage, and shows what it gives by stages.terminal."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.errors import DataError, MissingInputError, MmprepError, ParamsError, WeightsError
from stages.terminal import (
    bar,
    new_table,
    print_table,
    show,
    show_cached,
    show_encoder,
    show_experiment,
    show_experiment_file,
    show_finding,
    show_neighbours,
    show_recommendations,
    show_recommender,
    timed,
)

if TYPE_CHECKING:
    from models.encoders.catalogue import Modality
    from pipeline.layout import Layout
    from stages.export import Target
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
            for line in str(error).splitlines() or [type(error).__name__]:
                click.echo(click.style("error: ", fg="red", bold=True) + line, err=True)
            ctx.exit(next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of definition."""
        del ctx
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mmprep", prog_name="mmprep")
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
def extract(
    root: Path, file: Path | None, dataset: str | None, encoder: str | None, modality: "Modality | None"
) -> None:
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
@click.option("--params", "file", type=click.Path(path_type=Path), help="Instead of params.yaml.")
def encoders(file: Path | None) -> None:
    """The encoders of mmprep and params.yaml, with their licences.

    Example: mmprep encoders
    """
    from models.encoders.catalogue import CATALOGUE, DESCRIPTIONS
    from stages.parameters import DEFAULT_FILE, load

    own = []
    if file or DEFAULT_FILE.is_file():
        params = load(file or DEFAULT_FILE)
        own = [params.describe_encoder(name) for name in params.encoders if name not in CATALOGUE]
    for description in (*DESCRIPTIONS, *own):
        show_encoder(description, own=description in own)


@main.command()
@stage_options
@click.option("--graph", "name", help="Only this one, of those that `mmprep graphs` lists.")
def graph(root: Path, file: Path | None, dataset: str | None, name: str | None) -> None:
    """Graphs of items and users, which recommenders read.

    Example: mmprep graph --graph knn/minilm
    """
    params, layout = prepare(root, file, dataset)
    from stages import graph as stage

    section, modalities = params.sections.graphs, params.sections.train.modalities
    for each in stage.graph_names(section) if name is None else [name]:
        with timed(f"graph {each}") as done:
            done(stage.run(each, section, modalities, layout, bar))


@main.command()
def graphs() -> None:
    """The graphs that mmprep builds.

    Example: mmprep graphs
    """
    from pipeline.graph_catalogue import DESCRIPTIONS

    for row in DESCRIPTIONS:
        show(f"{row.usage}: {row.what}", {"joins": row.nodes, "reads": row.reads, "from": row.paper}, width=10)


@main.command()
@stage_options
def homophily(root: Path, file: Path | None, dataset: str | None) -> None:
    """How far neighbours are bought together.

    Example: mmprep homophily
    """
    _, layout = prepare(root, file, dataset)
    from stages import homophily as stage

    with timed("homophily") as done:
        done(stage.run(layout, bar))


@main.command()
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
    from stages import neighbors as verb
    from stages.neighbors_page import write_page

    found = verb.find(layout, item, k)
    show_neighbours(found)
    if html:
        write_page(found, layout, html)
        click.echo(f"page: {html}")


@main.command()
@stage_options
@click.option("--recommender", help="Only this one.")
@click.option("--seeds", "which", help="How many seeds, from train.seed on, or which: 3, or 0,1,2. Also tests each.")
def train(root: Path, file: Path | None, dataset: str | None, recommender: str | None, which: str | None) -> None:
    """Fit recommenders to the train interactions.

    With --seeds, each is trained and tested with several, beside its usual run, and mean and deviation are shown.

    Example: mmprep train --recommender vbpr --seeds 3
    """
    params, layout = prepare(root, file, dataset)
    section = params.sections.train
    checked = {name: params.recommender(name) for name in ([recommender] if recommender else section.recommenders)}
    from stages import seeds as many
    from stages import train as stage

    chosen = many.parse_seeds(which, section.seed) if which is not None else None
    for name, own in checked.items():
        with timed(f"train {name}") as done:
            if chosen is None:
                done(stage.run(name, section, own, layout, bar))
            else:
                found = many.run(name, chosen, section, own, params.sections.evaluate, layout, bar)
                done({key: f"{value['mean']:.4f} +- {value['std']:.4f}" for key, value in found.items()})


@main.command()
@stage_options
@click.option("--recommender", required=True, help="Whose parameters to search.")
@click.option("--over", multiple=True, help="KEY=VALUE,VALUE,...: the values of a key; once for each key.")
def search(root: Path, file: Path | None, dataset: str | None, recommender: str, over: tuple[str, ...]) -> None:
    """Try all combinations of some parameters; validation chooses.

    Without --over, those of section `search` in params.yaml. What is done is not done again.

    Example: mmprep search --recommender lightgcn --over layers=1,2,3
    """
    params, layout = prepare(root, file, dataset)
    section, own = params.sections.train, params.recommender(recommender)
    from stages import search as verb
    from stages.ranges import parse_over

    ranges = parse_over(over) if over else params.ranges(recommender)
    with timed(f"search {recommender}") as done:
        done(verb.run(recommender, ranges, section, own, params.sections.evaluate, layout, bar))


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

    for name in [recommender] if recommender else section.recommenders:
        with timed(f"evaluate {name}") as done:
            done(stage.run(name, params.sections.evaluate, layout, bar))


@main.command()
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
    from stages import recommend as verb

    show_recommendations(verb.find(layout, recommender, user, k))


@main.command()
def recommenders() -> None:
    """The recommenders of mmprep, with their parameters.

    Example: mmprep recommenders
    """
    from models.recommenders.catalogue import DESCRIPTIONS

    for row in DESCRIPTIONS:
        show_recommender(row)


@main.command()
@stage_options
def report(root: Path, file: Path | None, dataset: str | None) -> None:
    """The test metrics side by side, and where everything lies.

    Example: mmprep report
    """
    from stages.report import METRICS, collect

    _, layout = prepare(root, file, dataset)
    found = collect(layout)
    table = new_table("recommender", *METRICS, title=f"{layout.dataset}: test split, all items ranked")
    for name, metrics in found.metrics.items():
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in METRICS))
    print_table(table)
    for caution in found.cautions:
        click.echo(f"note: {caution}")
    for kind, path in found.places:
        click.echo(f"{kind:<16} {path}")


@main.command()
def experiments() -> None:
    """The tables and figures that `mmprep experiment` runs.

    Example: mmprep experiments
    """
    from stages import experiment_file as files

    for name in files.names():
        show_experiment_file(name, files.load(files.find(name)))


@main.command()
@click.argument("file")
@click.option("--rows", "labels", multiple=True, help="Only the row of this label; once for each.")
@click.option("--seeds", help="How many seeds, from train.seed on, or which: 3, or 0,1,2.")
@click.option("--dataset", help="A folder under data/raw, instead of the one that params.yaml names.")
@click.option("--like", help="Which of the paper's datasets this one is, if its name does not tell.")
@click.option("--as-published", is_flag=True, help="With the paper's batch size and other settings for that dataset.")
@click.option("--no-picture", "picture", is_flag=True, flag_value=False, default=True, help="Draw nothing.")
def experiment(**asked: Any) -> None:  # noqa: ANN401 - the options as stages.experiment.Asked has them
    """A table or figure of a paper, on our data.

    FILE is one of experiments/ or a path. Each row, with each seed, is an experiment that `dvc exp show` lists; what
    has run does not run again. The workspace stays as it is.

    Example: mmprep experiment da_mrs-table3 --seeds 3 --dataset baby
    """
    from stages import experiment as verb

    found = verb.run(verb.Asked(**asked), bar)
    show_experiment(found)
    if found.failed:
        raise DataError("\n".join(found.failed))


@main.command()
@stage_options
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=click.Choice(["mmrec", "ducho", "numpy"]), help="Whose form.")
@click.option("--image", help="The encoder of photos, instead of train.image; '' for none.")
@click.option("--text", help="The encoder of texts, instead of train.text; '' for none.")
def export(
    root: Path,
    file: Path | None,
    dataset: str | None,
    out: Path,
    target: "Target",
    image: str | None,
    text: str | None,
) -> None:
    """Dataset and features for MMRec, Ducho or NumPy, into OUT.

    Example: mmprep export --to mmrec exported/sample
    """
    params, layout = prepare(root, file, dataset)
    section = params.sections.train
    from stages import export as verb

    chosen = (section.image if image is None else image), (section.text if text is None else text)
    with timed(f"export to {out}") as done:
        done(verb.run(target, layout, out, *chosen, bar))


@main.command()
@stage_options
def verify(root: Path, file: Path | None, dataset: str | None) -> None:
    """Which artefacts are damaged, and which are stale.

    Each is compared with what it records of itself: its own bytes, and those of what it was made of.

    Example: mmprep verify
    """
    _, layout = prepare(root, file, dataset)
    from stages import verify as verb

    findings = verb.run(layout, bar)
    for finding in findings:
        show_finding(finding)
    bad = [finding for finding in findings if finding.state != "sound"]
    if bad:
        raise DataError(f"{len(bad)} of {len(findings)} artefacts are not sound")
    click.echo(f"all {len(findings)} artefacts are sound")


@main.group("cache", cls=Commands)
def cache_() -> None:
    """The row cache: what was encoded once, for all who share it.

    It serves all datasets. It lies at $MMPREP_CACHE, a folder or a URL such as s3://bucket/prefix, else in the user's
    cache folder.
    """


@cache_.command()
def stats() -> None:
    """What the cache holds, by encoder.

    Example: mmprep cache stats
    """
    from pipeline.cache import cache_place
    from stages import cache as verb

    place = cache_place(os.environ)
    found = verb.stats(place)
    click.echo(f"row cache at {place}" + ("" if found else ": empty"))
    for row in found:
        show_cached(row)


@cache_.command("verify")
def verify_cache() -> None:
    """Read all of it, and set aside what is damaged.

    Example: mmprep cache verify
    """
    from pipeline.cache import cache_place
    from stages import cache as verb

    with timed("cache verify") as done:
        found = verb.verify(cache_place(os.environ), bar)
        done({"shards": found.shards, "rows": found.rows, "damaged": len(found.damaged)})
    for name in found.damaged:
        click.echo(f"set aside: {name}")


@cache_.command()
@click.option("--unused-days", type=click.IntRange(min=0), help="Remove what was not used for so many days.")
@click.option("--encoder", help="Remove only what this encoder made.")
def prune(unused_days: int | None, encoder: str | None) -> None:
    """Remove what nobody needs, and tidy up the rest.

    Without an option nothing is removed but what was set aside as damaged; small shards are merged.

    Example: mmprep cache prune --unused-days 90
    """
    from pipeline.cache import cache_place
    from stages import cache as verb

    with timed("cache prune") as done:
        pruned = verb.prune(cache_place(os.environ), unused_days, encoder)
        done({"bytes_freed": pruned.bytes, "folders_removed": ", ".join(pruned.folders) or "none"})


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """What made FILE: stage, parameters, inputs, versions.

    FILE is any Parquet file of mmprep's, or a folder of features.

    Example: mmprep inspect data/graphs/sample/cooccurrence.parquet
    """
    from pipeline.features import part_paths
    from pipeline.files import require
    from pipeline.provenance import read_provenance

    if require(file, "dvc repro").is_dir() and not any(file.glob("part-*.parquet")):
        raise DataError(f"{file}: a folder without features, expected a Parquet file or a folder of features")
    found = part_paths(file)[0] if file.is_dir() else file
    click.echo(json.dumps(read_provenance(found), indent=2))
