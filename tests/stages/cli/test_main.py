"""The command line: examples that work, one line for each mistake, and a quick --help."""

import errno
import gzip
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from logs import loggers_as_they_were
from worlds import write_vectors

from mmprep.models.encoders.catalogue import CATALOGUE
from mmprep.pipeline.cache.row_cache import RowCache, cache_place
from mmprep.pipeline.errors import MmprepError
from mmprep.pipeline.features.vectors import PACKED_SCHEMA, VectorBatch
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.store import StoreError
from mmprep.pipeline.tables.schemas import ITEMS, SPLIT_INTERACTIONS, USERS
from mmprep.stages.cli.failures import EXIT_CODES
from mmprep.stages.cli.group import Command, MayBeEmpty
from mmprep.stages.cli.main import main

MMPREP = Path(sysconfig.get_path("scripts")) / "mmprep"
STAGES = ("ingest", "filter", "split", "extract", "graph", "train", "evaluate")
COMMANDS = {
    f"{name} {inner}".rstrip(): command
    for name, outer in main.commands.items()
    for inner, command in (outer.commands.items() if isinstance(outer, click.Group) else [("", outer)])
}
PARAMS = "dataset: toys\nfilter: {k_core: 2}\n"
TOYS = Layout(Path("data"), "toys")


def mmprep(*arguments: str) -> Result:
    """Run a command in the current folder; whatever happens, there is no traceback."""
    with loggers_as_they_were():
        result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def failure(code: int, *arguments: str) -> str:
    """The one line of a command that must fail with this code."""
    result = mmprep(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").removesuffix("\n")


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with parameters, and 6 users who have each reviewed 4 items."""
    (in_folder / "params.yaml").write_text(PARAMS)
    TOYS.raw.mkdir(parents=True)
    rows = [
        {"reviewerID": f"A{user}", "asin": f"B{item}", "overall": 5.0, "unixReviewTime": 1_400_000_000 + user}
        for user in range(6)
        for item in range(4)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (TOYS.raw / "reviews.json.gz").write_bytes(gzip.compress(lines.encode()))
    return in_folder


def test_the_light_stages_run_one_after_the_other_and_print_their_metrics(project: Path) -> None:
    assert project == Path.cwd()
    for stage in ("ingest", "filter", "split"):
        result = mmprep(stage)
        assert result.exit_code == 0
        assert result.stderr == "", "nothing but metrics goes to a log file"
        first, *lines = result.stdout.splitlines()
        assert first.startswith(f"{stage} (")
        metrics = json.loads(TOYS.metrics(stage).read_text())
        assert [line.split()[0] for line in lines] == list(metrics)
    assert len(SPLIT_INTERACTIONS.read(TOYS.interactions)) == 24
    assert (len(USERS.read(TOYS.users)), len(ITEMS.read(TOYS.items))) == (6, 4)


def test_data_params_and_dataset_may_lie_elsewhere(project: Path) -> None:
    (project / "other.yaml").write_text("dataset: nothing\n")
    (project / "data").rename(project / "elsewhere")
    result = mmprep("ingest", "--data", "elsewhere", "--params", "other.yaml", "--dataset", "toys")
    assert result.exit_code == 0
    assert Layout(Path("elsewhere"), "toys").raw_interactions.exists()
    assert not (project / "data").exists()


def test_they_may_be_given_before_the_command_too(project: Path) -> None:
    (project / "other.yaml").write_text("dataset: nothing\n")
    (project / "data").rename(project / "elsewhere")
    result = mmprep("--data", "elsewhere", "--params", "other.yaml", "--dataset", "toys", "ingest")
    assert result.exit_code == 0
    assert Layout(Path("elsewhere"), "toys").raw_interactions.exists()
    assert not (project / "data").exists()
    assert mmprep("--data", "elsewhere", "--dataset", "toys", "filter", "--data", "./elsewhere").exit_code == 0
    for before, after in (("p.yaml", ()), ("./p.yaml", ("--params", "p.yaml"))):
        assert failure(3, "--params", before, "filter", *after).startswith("p.yaml: no such parameter file")
    assert failure(2, "--params", "params.yaml", "ingest", "--params", "other.yaml") == (
        "--params: found params.yaml before the command and other.yaml after it, expected one of them"
    )


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if "--params" in {each.opts[0] for each in command.params}]
)
def test_every_command_with_params_takes_them_before_it(in_folder: Path, name: str) -> None:
    del in_folder
    required = {
        "download": ["--photos"],
        "export": ["out", "--to", "numpy"],
        "features": ["mmrec"],
        "neighbors": ["item"],
        "recommend": ["user"],
        "search": ["--recommender", "bpr"],
        "tsne": ["--recommender", "bpr"],
    }
    arguments = ["--params", "p.yaml", *name.split(), *required.get(name, [])]
    assert failure(3, *arguments).startswith("p.yaml: no such parameter file")


@pytest.mark.parametrize("command", [["sample", "shop"], ["inspect", "file"], ["experiments"], ["cache", "stats"]])
def test_an_option_before_a_command_that_lacks_it_is_refused(in_folder: Path, command: list[str]) -> None:
    assert failure(2, "--params", "p.yaml", *command) == (
        f"--params: found before `{command[-1] if command[0] == 'cache' else command[0]}`, "
        "which has no such option; leave it out"
    )
    assert not list(in_folder.iterdir())


@pytest.mark.parametrize("command", STAGES)
def test_a_missing_parameter_file_is_named(in_folder: Path, command: str) -> None:
    assert not list(in_folder.iterdir())
    assert failure(3, command) == "params.yaml: no such parameter file; give one with --params FILE"
    assert failure(3, command, "--params", "p.yaml") == "p.yaml: no such parameter file; give one with --params FILE"


@pytest.mark.parametrize("command", [*STAGES, "report"])
def test_a_mistake_in_the_parameters_is_named(in_folder: Path, command: str) -> None:
    (in_folder / "params.yaml").write_text("dataset: toys\nfilter: {kcore: 2}\n")
    expected = (
        "params.yaml: filter.kcore: no such key; did you mean k_core? "
        "(allowed: k_core, k_core_items, duplicates, min_rating, require)"
    )
    assert failure(2, command) == expected


def test_each_mistake_in_the_parameters_has_a_line(in_folder: Path) -> None:
    (in_folder / "params.yaml").write_text("dataset: toys\nfilter: {k_core: 0}\nspilt: {}\n")
    result = mmprep("filter")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: params.yaml: filter.k_core: found 0, expected greater than or equal to 1",
        "error: params.yaml: spilt: no such key; did you mean split? (allowed: dataset, download, ingest, filter, "
        "split, noise, extract, encoders, graphs, train, recommenders, search, evaluate, overlays)",
    ]


def test_ingest_finds_mistakes_of_the_last_stages_before_it_reads_anything(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS + "recommenders: {bpr: {learning_rate: 0}}\n")
    assert failure(2, "ingest") == ("params.yaml: recommenders.bpr.learning_rate: found 0, expected greater than 0")
    assert not TOYS.raw_interactions.exists()


def test_a_missing_dataset_lists_those_that_there_are(project: Path) -> None:
    assert project == Path.cwd()
    assert failure(3, "ingest", "--dataset", "toy") == (
        "data/raw/toy: no such dataset folder; put the reviews, the metadata and images/ there (datasets here: toys)"
    )


@pytest.mark.parametrize("command", STAGES)
@pytest.mark.parametrize("name", ["../toys", "/", ".."])
def test_a_dataset_that_is_a_path_is_refused(project: Path, command: str, name: str) -> None:
    assert project == Path.cwd()
    assert failure(2, command, "--dataset", name) == (
        f"dataset: found '{name}', expected letters, digits, '_', '-' and '.', as it names folders"
    )


def empty_values() -> Iterator[tuple[str, str, list[str]]]:
    """Each command with each of its options that takes a text or a path, and the arguments that leave it empty."""
    for name, command in COMMANDS.items():
        others = ["x" for each in command.params if isinstance(each, click.Argument)]
        for option in command.params:
            is_text = isinstance(option, click.Option) and option.type.name in ("text", "path") and not option.is_flag
            if is_text and not isinstance(option, MayBeEmpty):
                yield name, option.opts[0], [*others, option.opts[0]]


@pytest.mark.parametrize(("name", "option", "arguments"), list(empty_values()))
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_option_is_refused(project: Path, name: str, option: str, arguments: list[str], value: str) -> None:
    before = sorted(project.rglob("*"))
    message = failure(2, *name.split(), *arguments, value)
    assert message.startswith(f"{option}: found {value!r}, expected a non-empty value; ")
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("option", ["--data", "--params", "--dataset"])
def test_an_empty_option_before_the_command_is_refused(project: Path, option: str) -> None:
    assert failure(2, option, "", "ingest") == (
        f"{option}: found '', expected a non-empty value; leave the option out for its default"
    )
    assert not (project / "data" / "interim").exists()


def test_an_empty_argument_is_refused(project: Path) -> None:
    assert failure(2, "neighbors", "") == "ITEM: found '', expected a non-empty value; give it a value"
    assert failure(2, "sample", "") == "FOLDER: found '', expected a non-empty value; give it a value"
    assert failure(2, "search", "--recommender", "").endswith("; give it a value"), "it has no default"
    assert project == Path.cwd()


@pytest.mark.parametrize("name", ["../../escaped", "..", ".", "/escaped", "bpr/../../escaped"])
@pytest.mark.parametrize("command", ["train", "evaluate", "search", "recommend", "tsne"])
def test_a_recommender_that_is_a_path_reaches_no_file(project: Path, command: str, name: str) -> None:
    before = sorted(project.parent.rglob("*"))
    user = ["#1"] if command == "recommend" else []
    message = failure(2, command, *user, "--recommender", name)
    assert f"ecommender: found {name!r}, expected a recommender" in message
    assert sorted(project.parent.rglob("*")) == before


def test_every_command_refuses_empty_values() -> None:
    assert [name for name, command in COMMANDS.items() if not isinstance(command, Command)] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filter"], "data/interim/toys/interactions.parquet: not found; run `mmprep ingest` first"),
        (["split"], "data/interim/toys/core.parquet: not found; run `mmprep filter` first"),
        (["extract"], "data/processed/toys/items.parquet: not found; run `mmprep filter` first"),
        (["extract", "--modality", "text"], "data/processed/toys/items.parquet: not found; run `mmprep filter` first"),
        (["graph"], "data/features/toys/vgg16: no features; run `mmprep extract --encoder vgg16` first"),
        (
            ["graph", "--graph", "cooccurrence"],
            "data/processed/toys/interactions.parquet: not found; run `mmprep split` first",
        ),
        (["train"], "data/processed/toys/interactions.parquet: not found; run `mmprep split` first"),
        (["evaluate"], "data/processed/toys/interactions.parquet: not found; run `mmprep split` first"),
        (["report"], "data/runs/toys: no evaluated recommender; run `dvc repro` or `mmprep evaluate` first"),
        (
            ["export", "--to", "numpy", "out"],
            "data/processed/toys/interactions.parquet: not found; run `mmprep split` first",
        ),
        (
            ["tsne", "--recommender", "camgr"],
            "data/runs/toys/camgr/config.json: not found; run `mmprep train --recommender camgr` first",
        ),
        (["verify"], "data/interim/toys: nothing to verify; run `dvc repro` first"),
    ],
)
def test_a_stage_before_its_predecessor_names_it(project: Path, arguments: list[str], message: str) -> None:
    assert project == Path.cwd()
    assert failure(3, *arguments) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--encoder", "vgg_16"], "found 'vgg_16', expected an encoder; did you mean vgg16?"),
        (["train", "--recommender", "bprr"], "found 'bprr', expected a recommender; did you mean bpr?"),
        (["tsne", "--recommender", "camg"], "found 'camg', expected a recommender; did you mean camgr?"),
        (["graph", "--graph", "knn"], "graph: found 'knn', expected a graph (allowed: knn/ENCODER, mixed, consistent,"),
    ],
)
def test_an_unknown_name_is_named(project: Path, arguments: list[str], message: str) -> None:
    assert project == Path.cwd()
    assert message in failure(2, *arguments)


def test_a_modality_without_an_encoder_is_named(project: Path) -> None:
    text = PARAMS + "extract: {encoders: [minilm]}\ngraphs: {encoders: [minilm]}\ntrain: {image: ''}\n"
    (project / "params.yaml").write_text(text)
    assert failure(2, "extract", "--modality", "image") == "params.yaml: extract.encoders lists no encoder of image"


def test_too_many_rejects_give_one_line_and_their_table(project: Path) -> None:
    assert project == Path.cwd()
    (TOYS.raw / "reviews.json").write_text('{"overall": 1, "reviewerID": "A"}\n' * 10)
    assert failure(4, "ingest") == (
        "10 of 34 reviews rejected (10 no item id), more than ingest.max_reject_fraction allows (0.05); see "
        "data/interim/toys/rejects.parquet, fix the input or raise the limit; the first is line 1 of reviews.json: "
        'no asin; {"overall": 1, "reviewerID": "A"}'
    )
    assert TOYS.rejects.exists()


def test_an_empty_core_gives_one_line(project: Path) -> None:
    (project / "params.yaml").write_text("dataset: toys\nfilter: {k_core: 5}\n")
    mmprep("ingest")
    assert failure(4, "filter").endswith(
        "no interaction is left of 24 (lost 0 to duplicates, 0 to min_rating, 0 to missing_modality, 24 to k_core); "
        "lower filter.k_core or loosen the other rules"
    )


def test_a_damaged_table_gives_one_line(project: Path) -> None:
    assert project == Path.cwd()
    mmprep("ingest")
    TOYS.raw_interactions.write_bytes(TOYS.raw_interactions.read_bytes()[:-10])
    message = failure(4, "filter")
    assert message.startswith("data/interim/toys/interactions.parquet: damaged (")
    assert message.endswith("); remove it and run `mmprep ingest`")


def test_graph_after_a_filter_without_a_split_names_the_split(project: Path) -> None:
    for stage in ("ingest", "filter", "split"):
        mmprep(stage)
    rows = [
        f'{{"reviewerID": "A{n % 2}", "asin": "B{n // 2}", "overall": 5, "unixReviewTime": 1400000000}}'
        for n in range(4)
    ]
    (TOYS.raw / "reviews.json.gz").write_text("\n".join(rows))
    for stage in ("ingest", "filter"):
        assert mmprep(stage).exit_code == 0
    assert failure(4, "graph", "--graph", "cooccurrence") == (
        "data/processed/toys/interactions.parquet: made of another data/processed/toys/users.parquet; "
        "run `mmprep split`"
    )
    assert project == Path.cwd()


def test_a_folder_that_cannot_be_made_gives_one_line(project: Path) -> None:
    (project / "data" / "interim").write_text("a file in the place of a folder")
    message = failure(1, "ingest")
    assert "data/interim" in message
    assert message.startswith("[Errno ")


def test_a_full_disk_gives_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/interim")

    assert project == Path.cwd()
    monkeypatch.setattr("mmprep.pipeline.storage.files.Path.replace", full)
    assert failure(1, "ingest") == "[Errno 28] No space left on device: 'data/interim'"


def test_output_that_nobody_reads_is_no_error(project: Path) -> None:
    mmprep("ingest")
    command = f"{shlex.quote(str(MMPREP))} inspect {TOYS.raw_interactions} | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=project)
    assert "Traceback" not in ran.stderr


def test_inspect_shows_what_made_a_file(project: Path) -> None:
    mmprep("ingest")
    mmprep("filter")
    result = mmprep("inspect", str(TOYS.core))
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert (shown["stage"], shown["mmprep"], shown["params"]["k_core"]) == ("filter", version("mmprep"), 2)
    assert set(shown["inputs"]) == {"interim/toys/interactions.parquet", "interim/toys/items.parquet"}
    assert project == Path.cwd()


def test_inspect_tells_files_of_others(in_folder: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(in_folder / "other.parquet")
    (in_folder / "notes.txt").write_text("text\n")
    (in_folder / "empty").touch()
    assert failure(4, "inspect", "other.parquet") == (
        "other.parquet: holds no mmprep provenance, so mmprep did not write it"
    )
    assert failure(4, "inspect", "notes.txt").startswith("notes.txt: not a Parquet file (")
    assert failure(4, "inspect", "empty").startswith("empty: not a Parquet file (")
    assert failure(4, "inspect", ".") == (
        ".: a folder without features, expected a Parquet file or a folder of features"
    )
    assert failure(3, "inspect", "nothing") == "nothing: not found; run `dvc repro` first"


def test_denoise_needs_a_trained_da_mrs(project: Path) -> None:
    config = TOYS.run("da_mrs").config
    assert failure(3, "denoise", "--limit", "3").startswith(
        f"{config}: not found; run `mmprep train --recommender da_mrs`"
    )
    assert project == Path.cwd()


def test_report_prints_every_recommender_and_place(project: Path) -> None:
    names = [f"{metric}@{k}" for metric in ("recall", "precision", "ndcg") for k in (5, 10, 20, 50)]
    path = TOYS.run("bpr").metrics
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(dict.fromkeys(names, 0.12345)))
    result = mmprep("report")
    assert result.exit_code == 0
    assert "toys: test split (rule not known), all items ranked" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "bpr" in line)
    assert row.count("0.1235") + row.count("0.1234") == 5
    assert f"recommendations  {TOYS.run('bpr').recommendations}" in result.stdout
    path.write_text("{")
    assert failure(4, "report").startswith(f"{path}: not the metrics of a recommender; run `mmprep evaluate")
    assert project == Path.cwd()


def test_test_metrics_are_printed_with_the_rule_and_the_seed_of_the_split(project: Path) -> None:
    train = "train: {collaborative: [bpr], multimodal: [], item_graphs: [], max_epochs: 1}"
    (project / "params.yaml").write_text(f"{PARAMS}split: {{rule: ratio, seed: 3}}\n{train}\n")
    for command in (["ingest"], ["filter"], ["split"], ["train"], ["evaluate"], ["report"]):
        shown = mmprep(*command)
        assert shown.exit_code == 0, shown.stderr
    assert "toys: test split (ratio, seed 3), all items ranked" in shown.stdout
    search = ["search", "--recommender", "bpr", "--over", "embedding_size=8"]
    for command in (["evaluate"], ["train", "--seeds", "2"], search):
        lines = [line.split(maxsplit=1) for line in mmprep(*command).stdout.splitlines()]
        assert ["split", "ratio, seed 3"] in lines


def test_inspect_takes_a_folder_of_features(project: Path) -> None:
    assert project == Path.cwd()
    write_vectors(TOYS, "minilm", np.ones((4, 2), dtype=np.float32))
    result = mmprep("inspect", str(TOYS.features("minilm")))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["missing"] == "mean"
    (TOYS.features("minilm") / "part-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert failure(4, "inspect", str(TOYS.features("minilm"))).startswith(f"{TOYS.features('minilm')}/part-00000")


def test_encoders_are_listed_and_those_of_the_parameters_too(project: Path) -> None:
    own = "dino: {library: timm, model: vit_small_patch14_dinov2.lvd142m, form: patches}"
    listed = [line for line in mmprep("encoders").stdout.splitlines() if not line.startswith(" ")]
    assert [line.split(":")[0] for line in listed] == list(CATALOGUE)
    assert listed[0] == "vgg16: 4096, one vector per photo"
    (project / "other.yaml").write_text(f"{PARAMS}encoders:\n  vgg16: {{weights: random:0}}\n  {own}\n")
    shown = mmprep("encoders", "--params", "other.yaml").stdout.splitlines()
    assert [line for line in shown if not line.startswith(" ")] == [
        *listed,
        "dino (params.yaml): dimension of the model, one vector per patch",
    ]
    assert "  pretrained vit_small_patch14_dinov2.lvd142m" in shown


def test_encoders_are_listed_without_parameters(in_folder: Path) -> None:
    assert not list(in_folder.iterdir())
    assert mmprep("encoders").exit_code == 0
    assert failure(3, "encoders", "--params", "p.yaml") == (
        "p.yaml: no such parameter file; give one with --params FILE"
    )


@pytest.fixture
def exportable(project: Path) -> Path:
    """The dataset after its split, with features of texts."""
    for stage in ("ingest", "filter", "split"):
        assert mmprep(stage).exit_code == 0
    write_vectors(TOYS, "minilm", np.ones((4, 2), dtype=np.float32))
    return project


@pytest.mark.parametrize("target", ["mmrec", "ducho", "numpy"])
def test_export_writes_a_folder_and_prints_what_is_in_it(exportable: Path, target: str) -> None:
    result = mmprep("export", "--to", target, "out/toys", "--image", "")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("export to out/toys (")
    assert (exportable / "out" / "toys" / "provenance.json").exists()
    assert mmprep("export", "--to", target, "out/toys", "--image", "").exit_code == 0


def test_export_takes_the_encoders_of_training_where_none_is_named(exportable: Path) -> None:
    assert failure(3, "export", "--to", "numpy", "out") == (
        f"{TOYS.features('vgg16')}: no features; run `mmprep extract --encoder vgg16` first"
    )
    assert not (exportable / "out").exists()
    assert mmprep("export", "--to", "numpy", "out", "--image", "").exit_code == 0
    assert (exportable / "out" / "minilm.npy").exists()


def test_export_leaves_what_others_wrote(exportable: Path) -> None:
    (exportable / "out").mkdir()
    (exportable / "out" / "thesis.txt").touch()
    assert failure(4, "export", "--to", "numpy", "out", "--image", "") == (
        "out: exists and is no earlier export; name a new folder"
    )


def test_verify_lists_every_artefact_and_fails_if_one_is_not_ok(project: Path) -> None:
    for stage in ("ingest", "filter", "split"):
        mmprep(stage)
    result = mmprep("verify")
    assert result.exit_code == 0
    *lines, last = result.stdout.splitlines()
    assert last == f"all {len(lines)} artefacts are ok"
    assert f"ok       {TOYS.interactions}" in lines
    (project / "params.yaml").write_text("dataset: toys\nfilter: {k_core: 1}\n")
    mmprep("filter")
    TOYS.rejects.write_bytes(b"")
    result = mmprep("verify")
    assert result.exit_code == 4
    assert result.stderr == f"error: 2 of {len(lines)} artefacts are stale or damaged\n"
    at = result.stdout.splitlines().index(f"stale    {TOYS.interactions}")
    assert result.stdout.splitlines()[at + 1] == f"         made of another {TOYS.core}; run `mmprep split`"
    assert f"damaged  {TOYS.rejects}" in result.stdout


def test_the_cache_is_counted_verified_and_pruned(cached: Path) -> None:
    shown = mmprep("cache", "stats").stdout.splitlines()
    assert shown[0] == f"row cache at {cached}"
    assert shown[1].startswith("toy: 2 rows, ")
    found = mmprep("cache", "verify")
    assert found.exit_code == 0
    assert [line.split() for line in found.stdout.splitlines()[1:]] == [
        ["shards", "1"],
        ["rows", "2"],
        ["damaged", "0"],
    ]
    assert mmprep("cache", "prune", "--unused-days", "1").exit_code == 0
    assert mmprep("cache", "prune", "--encoder", "other").stdout.splitlines()[-1].split() == ["folders_removed", "none"]
    assert mmprep("cache", "prune", "--encoder", "toy").stdout.splitlines()[-1].split()[1].startswith("toy-")
    assert mmprep("cache", "stats").stdout == f"row cache at {cached}: empty\n"


def test_a_damaged_shard_of_the_cache_is_named(cached: Path) -> None:
    (shard,) = cached.rglob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1])
    found = mmprep("cache", "verify")
    assert found.exit_code == 0
    assert found.stdout.splitlines()[-1].startswith(f"set aside: {shard.parent.name}/{shard.name}")
    assert "1 shards set aside" in mmprep("cache", "stats").stdout


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A row cache with two rows."""
    monkeypatch.setenv("MMPREP_CACHE", str(tmp_path / "cache"))
    with RowCache(cache_place(os.environ), {"encoder": "toy", "weights": "none"}, PACKED_SCHEMA) as cache:
        cache.add([b"a" * 32, b"b" * 32], VectorBatch(np.ones((2, 3), dtype=np.float32)).pack())
    return tmp_path / "cache"


@pytest.mark.parametrize("named", [None, ""])
def test_the_cache_lies_in_the_users_folder_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if named is None:
        monkeypatch.delenv("MMPREP_CACHE")
    else:
        monkeypatch.setenv("MMPREP_CACHE", named)
    assert mmprep("cache", "stats").stdout == f"row cache at {tmp_path}/mmprep: empty\n"


@pytest.mark.parametrize("verb", ["stats", "verify", "prune"])
def test_a_cache_at_a_url_that_nobody_knows_gives_one_line(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMPREP_CACHE", "nosuch://bucket/cache")
    message = failure(2, "cache", verb)
    assert message.startswith("nosuch://bucket/cache: not a place (")
    assert message.endswith("give a folder or a URL such as s3://bucket/folder")


def test_a_cache_that_cannot_be_used_counts_as_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMPREP_CACHE", str(tmp_path / "file"))
    assert str(tmp_path / "file") in failure(4, "cache", "stats")


def test_an_error_of_a_narrower_kind_has_its_kinds_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr("mmprep.stages.maintenance.cache.stats", broken)
    assert failure(4, "cache", "stats") == "the disk is gone"


def test_an_error_without_words_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("mmprep.stages.maintenance.cache.stats", broken)
    assert failure(1, "cache", "stats") == "InterruptedError"


def test_every_kind_of_error_has_its_own_exit_code() -> None:
    assert set(EXIT_CODES) == set(MmprepError.__subclasses__())
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert not {0, 1} & set(EXIT_CODES.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_its_own_options_take(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, "a command without a docstring"
    examples = [line.strip() for line in command.help.splitlines() if line.strip().startswith("Example:")]
    assert len(examples) == 1
    words = shlex.split(examples[0].removeprefix("Example:"))
    called = ["mmprep", *name.split()]
    assert words[: len(called)] == called
    command.make_context(name, words[len(called) :])  # raises on an unknown option, a bad value, a missing argument
    assert examples[0] in mmprep(*name.split(), "--help").stdout


@pytest.mark.parametrize("name", [*COMMANDS, "cache"])
def test_every_command_and_option_is_documented(name: str) -> None:
    command = COMMANDS.get(name) or main.commands[name]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.show_default, f"{name} {parameter.opts[0]} says nothing"


def test_help_lists_the_commands_in_the_order_of_the_pipeline() -> None:
    shown = mmprep("--help").stdout
    listed = [
        line.split()[0]
        for line in shown.split("Commands:\n")[1].splitlines()
        if line.startswith("  ") and line[2] != " "
    ]
    stages = list(STAGES)
    stages[stages.index("graph") : stages.index("graph")] = ["encoders", "features"]
    stages[stages.index("graph") + 1 : stages.index("graph") + 1] = ["graphs", "modalities", "homophily", "neighbors"]
    stages.insert(stages.index("train") + 1, "search")
    assert listed == [
        "sample",
        "download",
        *stages,
        "recommend",
        "tsne",
        "denoise",
        "recommenders",
        "report",
        "experiments",
        "experiment",
        "export",
        "verify",
        "code",
        "parameters",
        "cache",
        "inspect",
    ]
    for text in (shown, mmprep("cache", "--help").stdout):
        assert "..." not in text.split("Commands:\n")[1], "the first line of a command's help is cut off"
    assert mmprep("-h").stdout == shown


def test_version_is_told() -> None:
    assert mmprep("--version").stdout == f"mmprep, version {version('mmprep')}\n"


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["filter", "--nothing"], ["inspect"], ["extract", "--modality", "ok"]]
)
def test_a_command_line_that_is_wrong_shows_the_usage(arguments: list[str]) -> None:
    result = mmprep(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_encoder_and_modality_exclude_each_other() -> None:
    result = mmprep("extract", "--encoder", "minilm", "--modality", "text")
    assert result.exit_code == 2
    assert "give --encoder or --modality, not both" in result.stderr


def test_help_takes_little_of_a_processor() -> None:
    taken = []
    for _ in range(5):
        before = os.times()
        subprocess.run([MMPREP, "--help"], check=True, capture_output=True)
        after = os.times()
        taken.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(taken) < 0.2  # twice what it takes, for slower machines


def test_help_answers_within_half_a_second() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([MMPREP, "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_no_help_imports_a_heavy_library() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from mmprep.stages.cli.main import main\n"
        "for name in [[], *([name] for name in main.commands), ['cache', 'stats'], ['cache', 'prune']]:\n"
        "    assert CliRunner().invoke(main, [*name, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'polars', 'pyarrow', 'numpy', 'scipy', 'pydantic', 'PIL', 'rich', 'fsspec'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"


def test_filter_and_split_do_without_torch(project: Path) -> None:
    mmprep("ingest")
    code = (
        "import sys; from mmprep.stages.cli.main import main\n"
        "for stage in ('filter', 'split'):\n"
        "    main([stage], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=project)
    assert ran.stdout.splitlines()[-1] == "False"


def test_a_real_process_gives_code_and_line_and_no_traceback(in_folder: Path) -> None:
    (in_folder / "params.yaml").write_text(PARAMS)
    ran = subprocess.run([MMPREP, "filter"], capture_output=True, text=True, check=False)
    assert ran.returncode == 3
    assert ran.stdout == ""
    assert ran.stderr == "error: data/interim/toys/interactions.parquet: not found; run `mmprep ingest` first\n"


def test_a_file_that_is_not_read_is_warned_of_in_one_line(project: Path) -> None:
    (TOYS.raw / "other.json").write_text('{"a": 1}\n')
    ran = subprocess.run([MMPREP, "ingest"], capture_output=True, text=True, check=True, cwd=project)
    assert ran.stderr.startswith("warning: data/raw/toys/other.json: not a known format; not read")
    assert [line.partition(";")[0] for line in ran.stderr.splitlines()] == [
        "warning: data/raw/toys/other.json: not a known format",
        "warning: data/raw/toys: no descriptions and no photos of items",
    ]


def examples() -> list[str]:
    """The examples in the help of all commands."""
    texts = [command.callback.__doc__ or "" for command in COMMANDS.values() if command.callback]
    return [line.partition("Example: ")[2] for text in texts for line in text.splitlines() if "Example: " in line]


@pytest.mark.parametrize("example", examples())
def test_every_example_of_the_help_is_a_valid_command_line(example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "mmprep"
    command: click.Command = main
    while isinstance(command, click.Group):
        name, command, arguments = command.resolve_command(click.Context(command), arguments)  # type: ignore[assignment]
        assert command is not None
    command.make_context(name, arguments)


def test_every_command_has_an_example() -> None:
    assert len(examples()) >= len([command for command in COMMANDS.values() if not isinstance(command, click.Group)])


@pytest.mark.usefixtures("in_folder")
def test_example_of_a_sample_can_be_ingested() -> None:
    (example,) = [each for each in examples() if each.startswith("mmprep sample ")]
    Path("params.yaml").write_text("dataset: tiny\n")
    assert mmprep(*shlex.split(example)[1:]).exit_code == 0
    for stage in ("ingest", "filter", "split"):
        result = mmprep(stage)
        assert result.exit_code == 0, result.output
