"""Command line: each command parses its options, calls one stage and prints the result with `console`."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmprep.pipeline.errors import ParamsError
from mmprep.stages.cli.cache import cache_
from mmprep.stages.cli.console import bar, changed_keys, show, show_doubts, timed, warn_conflicts
from mmprep.stages.cli.experiment import experiment, experiments
from mmprep.stages.cli.features import features
from mmprep.stages.cli.group import (
    COUNT,
    NUMBER,
    Commands,
    MayBeEmpty,
    option_before,
    prepare,
    prepare_stage,
    require_current_code,
    stage_options,
)
from mmprep.stages.cli.views import encoders, graphs, inspect, neighbors, recommend, recommenders, report, tsne, verify

if TYPE_CHECKING:
    from mmprep.models.encoders.catalogue import Modality
    from mmprep.stages.export.export import Target
    from mmprep.stages.training.modalities import Kind

# Stages and their libraries are imported inside the commands, so that `mmprep --help` answers at once.


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mmprep", prog_name="mmprep")
@option_before("--data")
@option_before("--params")
@option_before("--dataset")
def main() -> None:
    """Turn raw Amazon reviews and product photos into evaluated multimodal recommenders.

    Each stage reads params.yaml and the files of the stages before it. `dvc repro` runs every stage whose inputs have
    changed. The options below may also be given after the command.
    """
    # By default torch's waiting threads spin, which makes training several times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=NUMBER, default=0, show_default=True, help="Random seed.")
@click.option("--users", type=COUNT, default=600, show_default=True, help="Number of users.")
@click.option("--items", type=COUNT, default=300, show_default=True, help="Number of items.")
@click.option("--reviews", type=COUNT, help="Approximate number of reviews.  [default: 10 per user]")
def sample(folder: Path, seed: int, users: int, items: int, reviews: int | None) -> None:
    """Write a synthetic dataset with planted tastes to FOLDER.

    Example: mmprep sample data/raw/tiny --users 60 --items 40
    """
    from mmprep.stages.sample.sample import write_sample

    show("sample", write_sample(folder, seed=seed, users=users, items=items, reviews=reviews))


@main.command()
@stage_options
@click.option("--edition", help="Fetch raw files of this edition: 2014, 2018 or 2023.")
@click.option("--category", help="Category of the edition, such as Gift_Cards.")
@click.option("--small", "extent", flag_value="small", default=True, help="Fetch reviews of the 5-core.  [default]")
@click.option("--full", "extent", flag_value="full", help="Fetch all reviews.")
@click.option("--ratings", "extent", flag_value="ratings", help="Fetch all ratings, without reviews (2014, 2023).")
@click.option("--last-out", "extent", flag_value="last-out", help="Fetch the 5-core, split by last items (2023).")
@click.option("--timestamp", "extent", flag_value="timestamp", help="Fetch the 5-core, split by time (2023).")
@click.option("--image-features", is_flag=True, help="Also fetch the released vectors of photos (2014).")
@click.option("--base-url", help="Base URL of a mirror, instead of the edition's own.")
@click.option("--photos", is_flag=True, help="Fetch item photos instead, of the k-core if there is one.")
@click.option("--all-items", is_flag=True, help="Fetch photos of all items even if there is a k-core.")
@click.option("--retry-failed", is_flag=True, help="Also retry photos that an earlier run found gone or unusable.")
@click.option("--allow-private", is_flag=True, help="Also connect to loopback and private networks.")
def download(
    root: Path,
    file: Path | None,
    dataset: str | None,
    photos: bool,
    allow_private: bool,
    **options: Any,  # noqa: ANN401 - those that only one of the two modes has
) -> None:
    """Download an edition's raw files or item photos to data/raw.

    Example: mmprep download --edition 2018 --category Gift_Cards
    """
    edition, category = options["edition"], options["category"]
    if photos == bool(edition or category) or bool(edition) != bool(category):
        raise click.UsageError("give --edition and --category, or --photos")
    params, layout = prepare(root, file, dataset)
    from mmprep.stages.download import download as verb
    from mmprep.stages.download.editions import Extent

    section = params.sections.download
    with timed("download") as done:
        if photos:
            selected = verb.PhotosWanted(options["all_items"], options["retry_failed"], allow_private)
            done(verb.run_photos(section, layout, selected, bar))
        else:
            extent, base_url = Extent(options["extent"]), options["base_url"]
            files = verb.FilesWanted(edition, category, extent, base_url, allow_private, options["image_features"])
            done(verb.run_files(section, layout, files, bar))


@main.command()
@stage_options
def ingest(root: Path, file: Path | None, dataset: str | None) -> None:
    """Parse raw reviews, metadata and photos into clean tables.

    Example: mmprep ingest --dataset sample
    """
    from mmprep.stages.ingest import ingest as stage

    params, layout = prepare_stage(root, file, dataset)
    if "DVC_STAGE" not in os.environ:  # there stage `parameters` does it
        params.check_recommenders()  # in the first stage, as a mistake would otherwise show hours later
    require_current_code(root, "ingest", params)
    with timed("ingest") as done:
        done(stage.run(params.sections.ingest, layout, bar))


@main.command("filter")
@stage_options
def filter_(root: Path, file: Path | None, dataset: str | None) -> None:
    """Filter interactions to the k-core of users and items.

    Example: mmprep filter
    """
    from mmprep.stages.prepare import filter as stage

    params, layout = prepare_stage(root, file, dataset)
    require_current_code(root, "filter", params)
    with timed("filter") as done:
        done(stage.run(params.sections.filter, layout, bar))


@main.command()
@stage_options
def split(root: Path, file: Path | None, dataset: str | None) -> None:
    """Split each user's interactions into train, val and test.

    Example: mmprep split
    """
    from mmprep.stages.prepare import split as stage

    params, layout = prepare_stage(root, file, dataset)
    require_current_code(root, "split", params)
    with timed("split") as done:
        done(stage.run(params.sections.split, layout, bar, params.sections.noise))


@main.command()
@stage_options
@click.option("--encoder", help="Run only this encoder, even if extract.encoders does not list it.")
@click.option("--modality", type=click.Choice(["image", "text", "audio"]), help="Run only this modality's encoders.")
def extract(
    root: Path, file: Path | None, dataset: str | None, encoder: str | None, modality: "Modality | None"
) -> None:
    """Encode photos and texts into feature vectors.

    Example: mmprep extract --modality image
    """
    if encoder and modality:
        raise click.UsageError("give --encoder or --modality, not both")
    params, layout = prepare_stage(root, file, dataset)
    chosen = {name: params.encoder(name) for name in ([encoder] if encoder else params.encoders_of(modality))}
    if not chosen:
        raise ParamsError(f"{params.source}: extract.encoders lists no encoder of {modality}")
    from mmprep.stages.extract import extract as stage

    for name, encoder_params in chosen.items():
        require_current_code(root, f"extract/{name}", params)
        with timed(f"extract {name}") as done:
            done(stage.run(name, params.sections.extract, encoder_params, layout, bar, params.sections.noise))


main.add_command(encoders)
main.add_command(features)


@main.command()
@stage_options
@click.option("--graph", "name", help="Build only this graph; `mmprep graphs` lists them.")
def graph(root: Path, file: Path | None, dataset: str | None, name: str | None) -> None:
    """Build the graphs of items and users that recommenders read.

    Example: mmprep graph --graph knn/minilm
    """
    params, layout = prepare_stage(root, file, dataset)
    from mmprep.pipeline.graphs.catalogue import GraphName
    from mmprep.stages.graphs import graph as stage
    from mmprep.stages.training.modalities import require_current

    section, modalities = params.sections.graphs, params.sections.train.modalities
    for each in stage.graph_names(section) if name is None else [name]:
        kind = GraphName.parse(each).kind
        require_current_code(root, f"graph/{kind}", params)
        if kind in ("mixed", "consistent"):
            require_current(("knn",) if kind == "mixed" else ("features",), modalities, layout, os.environ)
        with timed(f"graph {each}") as done:
            done(stage.run(each, section, modalities, layout, bar))


main.add_command(graphs)


@main.command()
@stage_options
@click.option("--of", "kind", type=click.Choice(["features", "knn"]), help="Only these files. [default: both]")
def modalities(root: Path, file: Path | None, dataset: str | None, kind: "Kind | None") -> None:
    """Write digests of the features and graphs that training reads.

    They are those of train.image, train.text and train.audio. DVC compares them, so that features of other encoders
    re-run no training.

    Example: mmprep modalities --of features
    """
    params, layout = prepare_stage(root, file, dataset)
    from mmprep.stages.training import modalities as stage

    for each in (kind,) if kind else stage.KINDS:
        require_current_code(root, "modalities", params)
        with timed(f"modalities {each}") as done:
            done(stage.run(each, params.sections.train.modalities, layout))


@main.command()
@stage_options
def homophily(root: Path, file: Path | None, dataset: str | None) -> None:
    """Measure how often neighbouring items are bought together.

    Example: mmprep homophily
    """
    params, layout = prepare(root, file, dataset)
    require_current_code(root, "homophily", params)
    from mmprep.stages.graphs import homophily as stage

    with timed("homophily") as done:
        done(stage.run(layout, bar))


main.add_command(neighbors)


@main.command()
@stage_options
@click.option("--recommender", help="Train only this recommender.")
@click.option("--seeds", help="Number of seeds, counting up from train.seed, or a list: 3, or 0,1,2. Also tests each.")
def train(root: Path, file: Path | None, dataset: str | None, recommender: str | None, seeds: str | None) -> None:
    """Train recommenders on the train interactions.

    With --seeds, each is trained and tested with every seed, separately from its usual run, and the mean and standard
    deviation are printed.

    Example: mmprep train --recommender vbpr --seeds 3
    """
    params, layout = prepare_stage(root, file, dataset)
    section = params.sections.train
    from mmprep.models.recommenders.catalogue import CATALOGUE, describe

    names = [describe(recommender, "--recommender").name] if recommender else section.recommenders
    settings = {name: params.recommender_settings(name) for name in names}
    from mmprep.stages.prepare.split import split_of
    from mmprep.stages.training import seeds as several_seeds
    from mmprep.stages.training import train as stage
    from mmprep.stages.training.modalities import require_current

    chosen = several_seeds.parse_seeds(seeds, section.seed) if seeds is not None else None
    for name, setting in settings.items():
        own = setting.params
        warn_conflicts(setting)
        require_current_code(root, f"train/{name}", params)
        if CATALOGUE[name].multimodal:
            reads: tuple[Kind, ...] = ("features", "knn") if CATALOGUE[name].group == "item_graphs" else ("features",)
            require_current(reads, section.modalities, layout, os.environ)
        with timed(f"train {name}") as done:
            done({"parameters": changed_keys(setting)})
            if chosen is None:
                done(stage.run(name, section, own, layout, bar, params.sections.evaluate.every))
            else:
                summary = several_seeds.run(name, chosen, section, own, params.sections.evaluate, layout, bar)
                shown = {key: f"{value['mean']:.4f} +- {value['std']:.4f}" for key, value in summary.items()}
                done({"split": split_of(layout), **shown})


@main.command()
@stage_options
@click.option("--recommender", required=True, help="Recommender to tune.")
@click.option("--over", multiple=True, help="KEY=VALUE,VALUE,...: values to try for a key; repeatable.")
def search(root: Path, file: Path | None, dataset: str | None, recommender: str, over: tuple[str, ...]) -> None:
    """Grid-search a recommender's parameters on the val split.

    Without --over, the values are those of section `search` in params.yaml. Finished trials are not run again.

    Example: mmprep search --recommender lightgcn --over layers=1,2,3
    """
    params, layout = prepare(root, file, dataset)
    from mmprep.models.recommenders.catalogue import describe

    section, own = params.sections.train, params.recommender(describe(recommender, "--recommender").name)
    from mmprep.stages.prepare.split import split_of
    from mmprep.stages.training import search as verb
    from mmprep.stages.training.search_space import parse_over

    ranges = parse_over(over) if over else params.ranges(recommender)
    with timed(f"search {recommender}") as done:
        found = verb.run(recommender, ranges, section, own, params.sections.evaluate, layout, bar)
        done({"split": split_of(layout), **found})


@main.command()
@stage_options
@click.option("--recommender", help="Evaluate only this recommender.")
def evaluate(root: Path, file: Path | None, dataset: str | None, recommender: str | None) -> None:
    """Test trained recommenders and write their recommendations.

    Example: mmprep evaluate --recommender vbpr
    """
    params, layout = prepare(root, file, dataset)
    section = params.sections.train
    from mmprep.models.recommenders.catalogue import describe
    from mmprep.stages.prepare.split import split_of
    from mmprep.stages.training import evaluate as stage

    for name in [describe(recommender, "--recommender").name] if recommender else section.recommenders:
        require_current_code(root, "evaluate", params)
        with timed(f"evaluate {name}") as done:
            metrics = stage.run(name, params.sections.evaluate, layout, bar)
            done({"split": split_of(layout), **metrics})


main.add_command(recommend)
main.add_command(tsne)


@main.command()
@stage_options
@click.option("--limit", type=NUMBER, default=0, help="Also list this many of the least reliable.")
def denoise(root: Path, file: Path | None, dataset: str | None, limit: int) -> None:
    """Score the reliability of train interactions with da_mrs.

    Example: mmprep denoise --limit 10
    """
    _, layout = prepare(root, file, dataset)
    from mmprep.stages.explore import denoise as verb

    with timed("denoise") as done:
        done(verb.run(layout, bar))
    if limit:
        show_doubts(verb.least_reliable(layout, limit))


main.add_command(recommenders)
main.add_command(report)
main.add_command(experiments)
main.add_command(experiment)


@main.command()
@stage_options
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=click.Choice(["mmrec", "ducho", "numpy"]), help="Format.")
@click.option("--image", cls=MayBeEmpty, help="Encoder of photos, instead of train.image; '' for none.")
@click.option("--text", cls=MayBeEmpty, help="Encoder of texts, instead of train.text; '' for none.")
@click.option("--audio", cls=MayBeEmpty, help="Encoder of recordings, instead of train.audio; '' for none.")
@click.option(
    "--as",
    "written_as",
    multiple=True,
    metavar="MODALITY=ENCODER",
    help="For mmrec: write this encoder as MMRec's image or text features, such as text=acoustic; repeatable.",
)
def export(
    root: Path,
    file: Path | None,
    dataset: str | None,
    out: Path,
    target: "Target",
    image: str | None,
    text: str | None,
    audio: str | None,
    written_as: tuple[str, ...],
) -> None:
    """Export data and features to OUT for MMRec, Ducho or NumPy.

    Example: mmprep export --to mmrec exported/sample
    """
    params, layout = prepare(root, file, dataset)
    section = params.sections.train
    from mmprep.stages.export import export as verb
    from mmprep.stages.export.mmrec import parse_written_as

    replaced = parse_written_as(written_as)
    options = ((image, section.image), (text, section.text), (audio, section.audio))
    photos, texts, recordings = (usual if encoder is None else encoder for encoder, usual in options)
    with timed(f"export to {out}") as done:
        done(verb.run(target, layout, out, photos, texts, recordings, bar, replaced))


main.add_command(verify)


@main.command()
@stage_options
def code(root: Path, file: Path | None, dataset: str | None) -> None:
    """Write digests of the code that each stage runs.

    DVC compares them, so that an edit re-runs only the stages that import the edited module, directly or not.

    Example: mmprep code
    """
    params, _ = prepare_stage(root, file, dataset, recorded=False)
    from mmprep.stages.config.code_digests import run
    from mmprep.stages.config.load import check_modalities

    if "DVC_STAGE" in os.environ:  # which builds all graphs, whatever recommenders are listed
        check_modalities(params, graphs=True)
    with timed("code") as done:
        done(run(root, params))


@main.command()
@stage_options
def parameters(root: Path, file: Path | None, dataset: str | None) -> None:
    """Write and show the effective parameters.

    They are params.yaml, with the dataset's overlay, presets and defaults. DVC compares them, so that an edit re-runs
    only the stages that read the edited key.

    Example: mmprep parameters
    """
    params, layout = prepare_stage(root, file, dataset, recorded=False)
    params.check_recommenders()
    from mmprep.stages.config.effective import run
    from mmprep.stages.config.load import check_modalities

    if "DVC_STAGE" in os.environ:
        check_modalities(params, graphs=True)
    with timed("parameters") as done:
        done(run(params, layout))
    settings = {name: params.recommender_settings(name) for name in params.sections.train.recommenders}
    for setting in settings.values():
        warn_conflicts(setting)
    show("recommenders", {name: changed_keys(setting) for name, setting in settings.items()}, width=10)


main.add_command(cache_)
main.add_command(inspect)
