import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from trainable import ENCODERS, PARAMS, params_of, write_trainable

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.stages.training import train
from mmprep.stages.training.load_run import load_run
from mmprep.stages.training.run import weights_digests


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A toy dataset on which MGCN is trained with parameters that are not its defaults."""
    layout = Layout(tmp_path_factory.mktemp("trained") / "data", "toy")
    write_trainable(layout, ["mgcn"])
    short = PARAMS.model_copy(update={"max_epochs": 2})
    train.run("mgcn", short, params_of("mgcn", layers=1), layout)
    return layout


def test_recommender_is_read_back_as_it_was_trained(layout: Layout) -> None:
    loaded = load_run(layout, "mgcn")
    with torch.inference_mode():
        users, items = loaded.recommender.embeddings()
    torch.testing.assert_close({"users": users, "items": items}, load_file(layout.run("mgcn").embeddings))
    assert not loaded.recommender.training
    assert loaded.run.config.features == ENCODERS
    assert loaded.data.features.keys() == ENCODERS.keys()


def test_one_that_is_not_trained_is_named(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="run `mmprep train --recommender vbpr` first"):
        load_run(layout, "vbpr")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"layers": 1', '"hops": 1', "of another version of mgcn"),
        ('"embedding_size": 8', '"embedding_size": 9', "of another version of mgcn"),
        ('"processed/toy/users.parquet": "', '"processed/toy/users.parquet": "0', "made of another"),
        ('"checkpoint.safetensors": "', '"checkpoint.safetensors": "0', "safetensors: not what training wrote"),
        ('"seed": 1', '"seed": "1"', "config.json: not what training wrote (missing or of another type: train)"),
    ],
)
def test_run_that_does_not_fit_is_told_with_the_command(layout: Layout, old: str, new: str, message: str) -> None:
    config = layout.run("mgcn").config
    before = config.read_text()
    change(config, old, new)
    with pytest.raises(DataError) as caught:
        load_run(layout, "mgcn")
    config.write_text(before)
    assert message in str(caught.value)
    assert str(caught.value).removesuffix(" again").endswith("; run `mmprep train --recommender mgcn`")


def test_embeddings_of_another_number_of_users_are_refused_whatever_the_inputs_tell(
    layout: Layout, tmp_path: Path
) -> None:
    copy = Layout(tmp_path / "data", "toy")
    shutil.copytree(layout.root, copy.root)
    files = copy.run("mgcn")
    embeddings = load_file(files.embeddings)
    save_file({**embeddings, "users": embeddings["users"][1:].contiguous()}, files.embeddings)
    config = json.loads(files.config.read_text())
    files.config.write_text(json.dumps(config | {"outputs": weights_digests(files)}))
    with pytest.raises(DataError) as caught:
        load_run(copy, "mgcn")
    assert str(caught.value) == (
        f"{files.embeddings}: found 39 users and 60 items, expected 40 and 60; "
        "run `mmprep train --recommender mgcn` again"
    )
