import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds import one_thread, two_groups, write_vectors, write_world

from models.recommenders.base import RecommenderParams
from models.recommenders.bpr import BPRParams
from models.recommenders.catalogue import CATALOGUE, describe
from models.training.params import TrainParams
from pipeline.errors import DataError, MissingInputError, ParamsError
from pipeline.features import part_paths
from pipeline.files import sha256
from pipeline.layout import Layout
from stages.train import run

PARAMS = TrainParams(batch_size=128, max_epochs=4, patience=2, seed=1)
PROCESSED = [f"processed/toy/{table}.parquet" for table in ("interactions", "items", "users")]


@pytest.fixture(scope="module", autouse=True)
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    world = two_groups()
    write_world(world, layout)
    write_vectors(layout, "vgg16", world.features["image"])
    write_vectors(layout, "minilm", world.features["text"][:, :4])
    return layout


def params_of(name: str) -> RecommenderParams:
    return describe(name).load().params_type(embedding_size=8, learning_rate=0.02)


def train(layout: Layout, name: str = "bpr", params: TrainParams = PARAMS) -> dict[str, object]:
    return run(name, params, params_of(name), layout)


@pytest.mark.parametrize("name", CATALOGUE)
def test_checkpoint_gives_the_embeddings_that_were_written(layout: Layout, name: str) -> None:
    train(layout, name)
    files = layout.run(name)
    embeddings = load_file(files.embeddings)
    assert embeddings["users"].shape[0] == 40
    assert embeddings["items"].shape[0] == 60
    checkpoint = load_file(files.checkpoint)
    assert torch.equal(checkpoint["users"], embeddings["users"]) == (name != "lightgcn")
    assert all(torch.isfinite(tensor).all() for tensor in (*embeddings.values(), *checkpoint.values()))


@pytest.mark.parametrize("name", CATALOGUE)
def test_config_tells_what_made_the_run(layout: Layout, name: str) -> None:
    train(layout, name)
    files = layout.run(name)
    config = json.loads(files.config.read_text())
    multimodal = describe(name).multimodal
    parts = [path for each in ("vgg16", "minilm") for path in part_paths(layout.features(each))] if multimodal else []
    assert config["stage"] == "train"
    assert config["recommender"] == name
    assert config["params"] == params_of(name).model_dump()
    assert config["train"] == {"batch_size": 128, "max_epochs": 4, "patience": 2, "seed": 1}
    assert config["features"] == ({"image": "vgg16", "text": "minilm"} if multimodal else {})
    assert config["inputs"].keys() == {*PROCESSED, *(layout.relative(path) for path in parts)}
    assert all(digest == sha256(layout.root / path) for path, digest in config["inputs"].items())
    assert config["outputs"] == {path.name: sha256(path) for path in (files.checkpoint, files.embeddings)}
    assert str(layout.root) not in files.config.read_text()


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


def test_same_seed_gives_the_same_bytes_and_another_seed_others(layout: Layout) -> None:
    files = layout.run("vbpr")
    paths = (files.checkpoint, files.embeddings, files.history, files.training, files.config)
    train(layout, "vbpr")
    before = [sha256(path) for path in paths]
    train(layout, "vbpr")
    assert [sha256(path) for path in paths] == before
    train(layout, "vbpr", PARAMS.model_copy(update={"seed": 2}))
    assert sha256(files.embeddings) != before[1]


def test_collaborative_recommender_needs_no_features(tmp_path: Path) -> None:
    bare = Layout(tmp_path / "data", "bare")
    write_world(two_groups(), bare)
    train(bare, "bpr")
    assert layout_files(bare) == {
        "checkpoint.safetensors",
        "config.json",
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


def test_unknown_recommender_and_missing_interactions_are_reported(layout: Layout) -> None:
    with pytest.raises(ParamsError, match="expected a recommender"):
        run("bprr", PARAMS, BPRParams(), layout)
    layout.interactions.unlink()
    with pytest.raises(MissingInputError, match="run `mmprep split` first"):
        train(layout)
