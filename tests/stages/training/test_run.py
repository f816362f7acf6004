import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from configs import CONFIG, DAMAGES
from safetensors.numpy import save_file
from worlds import write_items, write_users

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.storage.files import sha256, write_json
from mmprep.pipeline.tables.provenance import digest_of
from mmprep.stages.training.run import TrainedRun, read_metrics, read_training, weights_digests

USERS = np.arange(6, dtype=np.float32).reshape(3, 2)
ITEMS = np.arange(8, dtype=np.float32).reshape(4, 2)
TRAINING = {"best_epoch": 1, "epochs": 2, "val_recall@10": 0.25, "val_recall@20": 0.5}
AGAIN = "run `mmprep train --recommender bpr` again"
FIRST = "run `mmprep train --recommender bpr` first"


@pytest.fixture
def files(tmp_path: Path) -> RunLayout:
    """A run of two epochs, with embeddings of 3 users and 4 items."""
    files = Layout(tmp_path / "data", "toys").run("bpr")
    files.folder.mkdir(parents=True)
    save_file({"user.weight": USERS}, files.checkpoint)
    save_file({"users": USERS, "items": ITEMS}, files.embeddings)
    files.history.write_text("epoch,loss_bpr,recall@20\n1,0.7,0.5\n2,0.6,0.25\n")
    write_json(files.training, TRAINING)
    write_json(files.config, CONFIG | {"outputs": weights_digests(files)})
    return files


def opened(files: RunLayout) -> TrainedRun:
    return TrainedRun.open(files, "bpr")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_config_is_what_training_recorded(files: RunLayout) -> None:
    run = opened(files)
    assert run.values == CONFIG | {"outputs": run.config.outputs}
    assert list(run.values) == list(CONFIG)
    assert run.config.outputs == {path.name: sha256(path) for path in (files.checkpoint, files.embeddings)}
    assert (run.config.params, run.config.train.seed, run.config.pseudo_tokens) == ({"embedding_size": 8}, 1, [])
    assert run.made_by == "mmprep train --recommender bpr"


def test_keys_of_another_version_are_kept(files: RunLayout) -> None:
    change(files.config, later=[1], train=CONFIG["train"] | {"later": 2})
    run = opened(files)
    assert (run.values["later"], run.values["train"]["later"], run.config.train.patience) == ([1], 2, 2)


@pytest.mark.parametrize(("recorded", "every"), [({}, 1), ({"evaluate": {"every": 5}}, 5)])
def test_run_of_a_version_that_validated_every_epoch_is_read(
    files: RunLayout, recorded: dict[str, object], every: int
) -> None:
    config = {key: value for key, value in json.loads(files.config.read_text()).items() if key != "evaluate"}
    files.config.write_text(json.dumps(config | recorded))
    assert opened(files).config.evaluate.every == every


def test_run_without_a_config_is_not_trained(files: RunLayout) -> None:
    files.config.unlink()
    with pytest.raises(MissingInputError) as caught:
        opened(files)
    assert str(caught.value) == f"{files.config}: not found; {FIRST}"


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_config_is_refused_with_the_reason(files: RunLayout, kind: str) -> None:
    damage, reason = DAMAGES[kind]
    damage(files.config)
    with pytest.raises(DataError) as caught:
        opened(files)
    assert str(caught.value) == f"{files.config}: not what training wrote ({reason}); {AGAIN}"


def test_run_is_the_whole_result_of_its_own_provenance_alone(files: RunLayout) -> None:
    assert opened(files).is_whole_result_of(CONFIG)
    assert not opened(files).is_whole_result_of(CONFIG | {"mmprep": "0.2.0"})
    assert not opened(files).is_whole_result_of(CONFIG | {"pseudo_tokens": []})
    files.checkpoint.write_bytes(files.checkpoint.read_bytes() + b"x")
    assert not opened(files).is_whole_result_of(CONFIG)


def test_whole_run_passes_its_check(files: RunLayout) -> None:
    opened(files).require_whole()


@pytest.mark.parametrize("file", ["checkpoint", "embeddings"])
def test_weights_that_training_did_not_write_are_refused(files: RunLayout, file: str) -> None:
    path: Path = getattr(files, file)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError) as caught:
        opened(files).require_whole()
    assert str(caught.value) == f"{path}: not what training wrote; {AGAIN}"
    path.unlink()
    with pytest.raises(MissingInputError) as gone:
        opened(files).require_whole()
    assert str(gone.value) == f"{path}: not found; {FIRST}"


def test_weights_without_a_digest_are_refused(files: RunLayout) -> None:
    change(files.config, outputs={"embeddings.safetensors": sha256(files.embeddings)})
    with pytest.raises(DataError, match=r"checkpoint.safetensors: not what training wrote; run"):
        opened(files).require_whole()


@pytest.mark.parametrize("text", [None, "", "epoch\n1\n", "epoch\n1\n3\n", "epoch\n1\nx\n", "loss\n1\n2\n", "\ud800"])
def test_history_of_other_epochs_is_refused(files: RunLayout, text: str | None) -> None:
    files.history.unlink()
    if text is not None:
        files.history.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(DataError) as caught:
        opened(files).require_whole()
    assert str(caught.value) == f"{files.history}: does not have 2 epochs; {AGAIN}"


def test_embeddings_are_those_of_the_file(files: RunLayout) -> None:
    users, items = opened(files).embeddings(3, 4)
    assert torch.equal(users, torch.from_numpy(USERS))
    assert torch.equal(items, torch.from_numpy(ITEMS))
    assert opened(files).sizes() == (3, 4)


@pytest.mark.parametrize(("n_users", "n_items"), [(2, 4), (3, 5)])
def test_embeddings_of_another_number_are_refused(files: RunLayout, n_users: int, n_items: int) -> None:
    with pytest.raises(DataError) as caught:
        opened(files).embeddings(n_users, n_items)
    assert str(caught.value) == (
        f"{files.embeddings}: found 3 users and 4 items, expected {n_users} and {n_items}; {AGAIN}"
    )


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def without_items(path: Path) -> None:
    save_file({"users": USERS}, path)


@pytest.mark.parametrize("damage", [cut_off, without_items])
def test_embeddings_that_are_damaged_although_the_digest_fits_are_refused(
    files: RunLayout, damage: Callable[[Path], None]
) -> None:
    damage(files.embeddings)
    change(files.config, outputs=weights_digests(files))
    with pytest.raises(DataError) as caught:
        opened(files).embeddings(3, 4)
    assert str(caught.value).startswith(f"{files.embeddings}: damaged (")
    assert str(caught.value).endswith(AGAIN)


def test_run_of_other_inputs_is_refused(files: RunLayout) -> None:
    layout = Layout(files.folder.parents[2], "toys")
    write_users(layout, 3)
    write_items(layout, [{}] * 4)
    digests = {layout.relative(path): digest_of(path) for path in (layout.users, layout.items)}
    change(files.config, inputs=digests)
    opened(files).require_fresh(layout)
    change(files.config, inputs=digests | {layout.relative(layout.items): "0"})
    opened(files).require_fresh(layout, [layout.users])
    for only in ((), (layout.items,)):
        with pytest.raises(DataError) as caught:
            opened(files).require_fresh(layout, only)
        expected = f"{files.folder}: made of another {layout.items}; run `mmprep train --recommender bpr`"
        assert str(caught.value) == expected


def test_training_tells_epochs_and_validation_metrics(files: RunLayout) -> None:
    assert opened(files).training() == read_training(files, "bpr") == TRAINING
    files.training.unlink()
    with pytest.raises(MissingInputError) as caught:
        read_training(files, "bpr")
    assert str(caught.value) == f"{files.training}: not found; {FIRST}"


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"epochs": 2.5}, "epochs"),
        ({"epochs": None, "best_epoch": "1"}, "best_epoch, epochs"),
        ({"val_recall@20": "0.5"}, "val_recall@20"),
        ({"val_recall@10": [0.5]}, "val_recall@10"),
    ],
)
def test_damaged_training_names_the_keys(files: RunLayout, values: dict[str, object], keys: str) -> None:
    change(files.training, **values)
    with pytest.raises(DataError) as caught:
        read_training(files, "bpr")
    assert str(caught.value) == (
        f"{files.training}: not what training wrote (missing or of another type: {keys}); {AGAIN}"
    )


def test_test_metrics_are_read_with_those_that_are_needed(files: RunLayout) -> None:
    write_json(files.metrics, {"recall@10": 1, "recall@20": 0.5})
    assert read_metrics(files, "bpr", ["recall@20"]) == {"recall@10": 1.0, "recall@20": 0.5}
    with pytest.raises(DataError) as caught:
        read_metrics(files, "bpr", ["recall@20", "ndcg@20"])
    assert str(caught.value) == (
        f"{files.metrics}: not the metrics of a recommender; run `mmprep evaluate --recommender bpr` again"
    )
