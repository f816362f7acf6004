import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trainable import ENCODERS, GRAPHS, TOKEN_ENCODERS, params_of, result_of, write_trainable
from trainable import PARAMS as SLOW_PARAMS
from worlds import one_thread, two_groups, write_vectors, write_world

from mmprep.models.recommenders.bpr import BPRParams
from mmprep.models.recommenders.catalogue import CATALOGUE, describe
from mmprep.models.training.params import TrainParams
from mmprep.models.training.trainer import build
from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.features.reader import part_paths
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import digest_of
from mmprep.stages.graphs import graph
from mmprep.stages.training.read_graphs import graph_files
from mmprep.stages.training.run import TrainedRun
from mmprep.stages.training.train import prepare, run

PARAMS = TrainParams(batch_size=128, max_epochs=4, patience=2, seed=1)
PROCESSED = [f"processed/toy/{table}.parquet" for table in ("interactions", "items", "users")]


@pytest.fixture(scope="module", autouse=True)
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("written") / "data", "toy")
    write_trainable(layout)
    return layout


@pytest.fixture
def layout(written: Layout, tmp_path: Path) -> Layout:
    """A copy that a test may spoil."""
    shutil.copytree(written.root, tmp_path / "data")
    return Layout(tmp_path / "data", "toy")


def train(layout: Layout, name: str = "bpr", params: TrainParams = PARAMS) -> dict[str, object]:
    return run(name, params, params_of(name), layout)


@pytest.mark.parametrize("name", CATALOGUE)
def test_checkpoint_gives_the_embeddings_that_were_written(layout: Layout, name: str) -> None:
    train(layout, name)
    files = layout.run(name)
    training = prepare(name, PARAMS, params_of(name), layout)
    recommender = build(describe(name).load(), training.data, params_of(name), 9).eval()
    recommender.load_state_dict(load_file(files.checkpoint))
    with torch.inference_mode():
        expected = recommender.embeddings()
    embeddings = load_file(files.embeddings)
    for what, rows, table in zip(("users", "items"), (40, 60), expected, strict=True):
        assert len(embeddings[what]) == rows
        assert torch.isfinite(embeddings[what]).all()
        assert torch.equal(embeddings[what], table)


@pytest.mark.parametrize("name", CATALOGUE)
def test_config_tells_what_made_the_run(layout: Layout, name: str) -> None:
    train(layout, name)
    files = layout.run(name)
    config = json.loads(files.config.read_text())
    encoders = TOKEN_ENCODERS if describe(name).tokens else ENCODERS if describe(name).multimodal else {}
    parts = [path for each in encoders.values() for path in part_paths(layout.features(each))]
    parts += [layout.graph(each) for each in graphs_of(name)]
    assert config["stage"] == "train"
    assert config["recommender"] == name
    assert config["params"] == params_of(name).model_dump()
    assert config["train"] == {"batch_size": 128, "max_epochs": 4, "patience": 2, "seed": 1}
    assert config["evaluate"] == {"every": 1}
    assert config["features"] == encoders
    assert config["inputs"].keys() == {*PROCESSED, *(layout.relative(path) for path in parts)}
    assert all(digest == digest_of(layout.root / path) for path, digest in config["inputs"].items())
    assert config["outputs"] == {path.name: sha256(path) for path in (files.checkpoint, files.embeddings)}
    assert str(layout.root) not in files.config.read_text()


def graphs_of(name: str) -> list[str]:
    """The graphs that a recommender reads, as their files are called."""
    within = GRAPHS["intra_item"] if describe(name).tokens else []
    return [*within, *(str(file) for kind in describe(name).graphs for _, file in graph_files(kind, ENCODERS))]


def test_history_and_training_tell_the_best_epoch(layout: Layout) -> None:
    metrics = train(layout)
    files = layout.run("bpr")
    with files.history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert {"loss_bpr", "loss_norm", "recall@20", "ndcg@10"} <= rows[0].keys()
    assert json.loads(files.training.read_text()) == metrics
    recalls = [float(row["recall@20"]) for row in rows]
    assert metrics["epochs"] == len(rows)
    assert metrics["best_epoch"] == 1 + recalls.index(max(recalls))
    assert metrics["val_recall@20"] == max(recalls)


def test_epochs_without_validation_have_no_metrics_in_the_history(layout: Layout) -> None:
    params = PARAMS.model_copy(update={"max_epochs": 7, "patience": 7})
    metrics = run("bpr", params, params_of("bpr"), layout, validate_every=3)
    files = layout.run("bpr")
    with files.history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert list(rows[0])[:4] == ["epoch", "loss_bpr", "loss_norm", "recall@10"]
    assert all(row["loss_bpr"] for row in rows)
    assert [row["epoch"] for row in rows if row["recall@20"]] == ["3", "6", "7"]
    assert {row["ndcg@10"] for row in rows if not row["recall@20"]} == {""}
    recalls = {row["epoch"]: float(row["recall@20"] or -1) for row in rows}
    assert metrics["val_recall@20"] == max(recalls.values()) == recalls[str(metrics["best_epoch"])]
    assert json.loads(files.config.read_text())["evaluate"] == {"every": 3}
    TrainedRun.open(files, "bpr").require_whole()


def test_training_that_was_left_with_other_validations_is_not_continued(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed(layout, monkeypatch)
    run("bpr", SLOW_PARAMS, params_of("bpr"), layout, validate_every=2)
    path = layout.run("bpr").resume_file
    assert anew(layout, caplog) == [f"{path}: left by a training with other evaluate; training starts anew"]


def test_same_seed_gives_the_same_bytes_and_another_seed_others(layout: Layout) -> None:
    files = layout.run("vbpr")
    paths = (files.checkpoint, files.embeddings, files.history, files.training, files.config)
    train(layout, "vbpr")
    before = [sha256(path) for path in paths]
    train(layout, "vbpr")
    assert [sha256(path) for path in paths] == before
    train(layout, "vbpr", PARAMS.model_copy(update={"seed": 2}))
    assert sha256(files.embeddings) != before[1]


def test_what_training_took_is_told_beside_the_run(layout: Layout) -> None:
    train(layout)
    cost = json.loads(layout.run("bpr").training_cost.read_text())
    assert cost.keys() == {"device", "epoch_seconds", "peak_memory_mb"}
    assert cost["device"] in {"cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))}
    assert 0 < cost["epoch_seconds"] < 60
    assert cost["peak_memory_mb"] > 0


def test_run_tells_that_pieces_of_vectors_stood_for_patches(layout: Layout) -> None:
    params = PARAMS.model_copy(update={"patches": "vgg16", "words": TOKEN_ENCODERS["words"], "max_epochs": 1})
    pseudo = GraphsParams.model_validate({"intra_item": {"pseudo_tokens": True}})
    write_vectors(layout, "vgg16", np.random.default_rng(0).normal(size=(60, 32)).astype(np.float32))
    for encoder in (params.patches, params.words):
        graph.run(f"intra_item/{encoder}", pseudo, ENCODERS, layout)
    run("mdr_chca", params, params_of("mdr_chca", k_r=2), layout)
    assert json.loads(layout.run("mdr_chca").config.read_text())["pseudo_tokens"] == ["vgg16"]


def test_what_is_observed_in_the_first_epochs_alone_is_blank_after(layout: Layout) -> None:
    section = params_of("mdr_chca", k_r=2, pretrain_epochs=1)
    run("mdr_chca", PARAMS.model_copy(update={"max_epochs": 2, **TOKEN_ENCODERS}), section, layout)
    with layout.run("mdr_chca").history.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert 0 < float(first["largest_attention"]) <= 1
    assert second["largest_attention"] == ""


def test_collaborative_recommender_needs_no_features(tmp_path: Path) -> None:
    bare = Layout(tmp_path / "data", "bare")
    write_world(two_groups(), bare)
    train(bare, "bpr")
    assert layout_files(bare) == {
        "checkpoint.safetensors",
        "config.json",
        "training_cost.json",
        "embeddings.safetensors",
        "history.csv",
        "training.json",
    }
    with pytest.raises(MissingInputError, match="no features; run `mmprep extract --encoder vgg16` first"):
        train(bare, "vbpr")
    assert not bare.run("vbpr").folder.exists()


def layout_files(layout: Layout, name: str = "bpr") -> set[str]:
    return {path.name for path in layout.run(name).folder.iterdir()}


def test_collaborative_recommender_does_not_change_with_the_features(layout: Layout) -> None:
    train(layout)
    before = sha256(layout.run("bpr").config)
    write_vectors(layout, "vgg16", np.zeros((60, 3), dtype=np.float32))
    train(layout)
    assert sha256(layout.run("bpr").config) == before


def test_multimodal_recommender_reads_the_features(layout: Layout) -> None:
    train(layout, "vbpr")
    before = load_file(layout.run("vbpr").embeddings)["items"]
    write_vectors(layout, "minilm", np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))
    train(layout, "vbpr")
    assert not torch.equal(load_file(layout.run("vbpr").embeddings)["items"], before)


@pytest.mark.parametrize(("left_out", "width"), [("image", 4), ("text", 6)])
def test_modality_without_an_encoder_is_left_out(layout: Layout, left_out: str, width: int) -> None:
    train(layout, "vbpr", PARAMS.model_copy(update={left_out: ""}))
    assert load_file(layout.run("vbpr").checkpoint)["projection.weight"].shape == (8, width)
    assert left_out not in json.loads(layout.run("vbpr").config.read_text())["features"]


def test_items_without_a_vector_get_what_the_features_say(layout: Layout) -> None:
    vectors = two_groups().features["image"]
    filled = vectors.copy()
    filled[59] = vectors[:59].mean(axis=0, dtype=np.float64)
    embeddings = []
    for written, items in ((filled, range(60)), (vectors[:59], range(59))):
        write_vectors(layout, "vgg16", written, items)
        train(layout, "vbpr")
        embeddings.append(load_file(layout.run("vbpr").embeddings)["items"])
    torch.testing.assert_close(*embeddings)


def test_features_of_more_items_than_the_dataset_has_are_refused(layout: Layout) -> None:
    write_vectors(layout, "vgg16", np.ones((61, 3), dtype=np.float32))
    with pytest.raises(DataError, match="features of item 60 in a dataset of 60 items; run `mmprep extract` again"):
        train(layout, "vbpr")


def test_diverged_training_is_reported_and_leaves_the_old_run(layout: Layout) -> None:
    train(layout)
    before = {path.name: sha256(path) for path in layout.run("bpr").folder.iterdir()}
    with pytest.raises(DataError, match="training diverged"):
        run("bpr", PARAMS, BPRParams(learning_rate=1e30), layout)
    assert {path.name: sha256(path) for path in layout.run("bpr").folder.iterdir()} == before


def test_weights_that_are_half_written_leave_the_old_ones(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    train(layout)
    before = {path.name: sha256(path) for path in layout.run("bpr").folder.iterdir()}
    written = []

    def half(_: object, path: Path, *__: object) -> None:
        written.append(path.name)
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("mmprep.models.training.checkpoint.save_file", half)
    with pytest.raises(KeyboardInterrupt):
        run("bpr", PARAMS.model_copy(update={"seed": 2}), params_of("bpr"), layout)
    assert written == ["checkpoint.safetensors"]
    assert {path.name: sha256(path) for path in layout.run("bpr").folder.iterdir()} == before


def test_unknown_recommender_and_missing_interactions_are_reported(layout: Layout) -> None:
    with pytest.raises(ParamsError, match="expected a recommender"):
        run("bprr", PARAMS, BPRParams(), layout)
    layout.interactions.unlink()
    with pytest.raises(MissingInputError, match="run `mmprep split` first"):
        train(layout)


def killed(layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str = "bpr", target: str = "write_weights") -> None:
    """Train until a function of the stage is called, and stop there."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(f"mmprep.stages.training.write_run.{target}", kill)
        run(name, SLOW_PARAMS, params_of(name), layout)
    assert layout.run(name).resume_file.exists()


def anew(layout: Layout, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith(f"{layout.run('bpr').resume_file}: ")]


@pytest.mark.parametrize("target", ["write_weights", "write_history", "write_json"])
def test_run_that_was_stopped_while_it_wrote_gives_the_same_bytes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    run("bpr", SLOW_PARAMS, params_of("bpr"), layout)
    expected = result_of(layout, "bpr")
    shutil.rmtree(layout.run("bpr").folder)
    killed(layout, monkeypatch, target=target)
    with caplog.at_level(logging.INFO):
        run("bpr", SLOW_PARAMS, params_of("bpr"), layout)
    assert anew(layout, caplog) == [f"{layout.run('bpr').resume_file}: training continues after epoch 8"]
    assert result_of(layout, "bpr") == expected


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"learning_rate": 0.01}, "params"),
        ({"seed": 2}, "train"),
        ({"max_epochs": 20}, "train"),
    ],
)
def test_other_parameters_start_anew_and_say_so(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    other: dict[str, float],
    told: str,
) -> None:
    params = SLOW_PARAMS.model_copy(update=other if told == "train" else {})
    recommender_params = params_of("bpr", **(other if told == "params" else {}))
    run("bpr", params, recommender_params, layout)
    expected = result_of(layout, "bpr")
    killed(layout, monkeypatch)
    run("bpr", params, recommender_params, layout)
    path = layout.run("bpr").resume_file
    assert anew(layout, caplog) == [f"{path}: left by a training with other {told}; training starts anew"]
    assert result_of(layout, "bpr") == expected


def test_other_inputs_start_anew_and_say_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed(layout, monkeypatch)
    write_world(two_groups(seed=5), layout)
    run("bpr", SLOW_PARAMS, params_of("bpr"), layout)
    path = layout.run("bpr").resume_file
    assert anew(layout, caplog) == [f"{path}: left by a training with other inputs; training starts anew"]
    found = result_of(layout, "bpr")
    run("bpr", SLOW_PARAMS, params_of("bpr"), layout)
    assert result_of(layout, "bpr") == found


def test_how_often_the_state_is_saved_changes_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    run("bpr", SLOW_PARAMS.model_copy(update={"checkpoint_every": 100}), params_of("bpr"), layout)
    expected = result_of(layout, "bpr")
    killed(layout, monkeypatch)
    run("bpr", SLOW_PARAMS.model_copy(update={"checkpoint_every": 3}), params_of("bpr"), layout)
    assert result_of(layout, "bpr") == expected


def test_diverged_training_leaves_nothing_to_continue(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(layout, monkeypatch)
    with pytest.raises(DataError, match="training diverged"):
        run("bpr", SLOW_PARAMS, BPRParams(learning_rate=1e30), layout)
    assert not layout.run("bpr").resume_file.exists()


# In the middle of the first epoch, of a later one, while a state is being written, after that, while the weights are
# being written, which come after the state of epoch 8, and between two of the files that training gives.
POINTS = (
    "mmprep.models.training.trainer.require_finite_losses:1",
    "mmprep.models.training.checkpoint.save_file:1",
    "mmprep.models.training.trainer.validate:4",
    "mmprep.models.training.checkpoint.save_file:2",
    "mmprep.models.training.trainer.validate:3",
    "mmprep.models.training.checkpoint.save_file:2",
    "mmprep.stages.training.write_run.write_history:1",
    "mmprep.stages.training.write_run.write_json:2",
)


@pytest.mark.parametrize(
    "names", [("bpr", "da_mrs"), pytest.param(tuple(CATALOGUE), marks=pytest.mark.long)], ids=["two", "all"]
)
def test_run_that_was_killed_again_and_again_gives_the_same_bytes(layout: Layout, names: tuple[str, ...]) -> None:
    script = Path(__file__).parents[2] / "trainable.py"
    command = [sys.executable, str(script), str(layout.root), ",".join(names), *POINTS]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        assert len(result_of(layout, name)) == 5
        assert result_of(layout, name) == result_of(layout, f"continued-{name}"), name


def child_environment() -> dict[str, str]:
    """Where a Python of our own finds our modules, and no GPU, which no fork can use."""
    tests = Path(__file__).parents[2]
    path = os.pathsep.join([str(tests.parent), str(tests)])
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}


def test_training_killed_at_any_moment_continues(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGKILL from outside, wherever it finds the training once there is something to continue from."""
    params = SLOW_PARAMS.model_copy(update={"max_epochs": 150, "patience": 150, "checkpoint_every": 1})
    code = (
        "import sys; from pathlib import Path; from trainable import *; torch.set_num_threads(1);"
        "params = TrainParams.model_validate_json(sys.argv[2]);"
        "train.run('lightgcn', params, params_of('lightgcn'), Layout(Path(sys.argv[1]), 'toy'))"
    )
    files = layout.run("lightgcn")
    command = [sys.executable, "-c", code, str(layout.root), params.model_dump_json()]
    # On a GPU this process and the other would not give the same bytes.
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with subprocess.Popen(command, env=child_environment()) as child:
        while not files.resume_file.exists():
            assert child.poll() is None, "the training ended before it saved anything"
            time.sleep(0.01)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert not files.config.exists()
    run("lightgcn", params, params_of("lightgcn"), layout)
    found = result_of(layout, "lightgcn")
    run("lightgcn", params, params_of("lightgcn"), layout)
    assert result_of(layout, "lightgcn") == found
