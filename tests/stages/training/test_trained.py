from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainable import ENCODERS, PARAMS, params_of, write_trainable

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.stages.training import train
from mmprep.stages.training.trained import read_trained


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A toy dataset on which MGCN is trained with parameters that are not its defaults."""
    layout = Layout(tmp_path_factory.mktemp("trained") / "data", "toy")
    write_trainable(layout, ["mgcn"])
    short = PARAMS.model_copy(update={"max_epochs": 2})
    train.run("mgcn", short, params_of("mgcn", layers=1), layout)
    return layout


def test_recommender_is_read_back_as_it_was_trained(layout: Layout) -> None:
    trained = read_trained(layout, "mgcn")
    with torch.inference_mode():
        users, items = trained.recommender.embeddings()
    torch.testing.assert_close({"users": users, "items": items}, load_file(layout.run("mgcn").embeddings))
    assert not trained.recommender.training
    assert trained.encoders == ENCODERS
    assert trained.data.features.keys() == ENCODERS.keys()


def test_one_that_is_not_trained_is_named(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="run `mmprep train --recommender vbpr` first"):
        read_trained(layout, "vbpr")


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
        ('"checkpoint.safetensors": "', '"checkpoint.safetensors": "0', "is not what training wrote"),
    ],
)
def test_run_that_does_not_fit_is_told_with_the_command(layout: Layout, old: str, new: str, message: str) -> None:
    config = layout.run("mgcn").config
    before = config.read_text()
    change(config, old, new)
    with pytest.raises(DataError) as caught:
        read_trained(layout, "mgcn")
    config.write_text(before)
    assert message in str(caught.value)
    assert str(caught.value).endswith("run `mmprep train --recommender mgcn` again")
