"""What `mmprep denoise` writes and lists of a trained da_mrs, and what it refuses."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from trainable import PARAMS, params_of, write_trainable
from worlds import one_thread, two_groups, write_world

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import RELIABILITIES
from mmprep.stages.explore.denoise import DoubtfulInteraction, least_reliable, recommender_of, run
from mmprep.stages.maintenance.verify import run as verify
from mmprep.stages.training import train
from mmprep.stages.training.load_run import load_run

WORLD = two_groups()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    with one_thread():
        layout = Layout(tmp_path_factory.mktemp("trained") / "data", "toy")
        write_trainable(layout, ["da_mrs"])
        train.run("da_mrs", PARAMS, params_of("da_mrs"), layout)
        yield layout


@pytest.fixture
def layout(trained: Layout, tmp_path: Path) -> Layout:
    """A copy that a test may spoil."""
    shutil.copytree(trained.root, tmp_path / "data")
    return Layout(tmp_path / "data", "toy")


def test_table_has_f_and_g_of_every_train_interaction_in_order(layout: Layout) -> None:
    run(layout)
    rows = RELIABILITIES.read(layout.reliabilities)
    assert list(zip(rows["user"], rows["item"], strict=True)) == list(
        zip(*np.nonzero(WORLD.train.toarray()), strict=True)
    )
    assert rows["user_id"].to_list() == [f"u{user}" for user in rows["user"]]
    assert rows["item_id"].to_list() == [f"i{item}" for item in rows["item"]]
    for name in ("f", "g"):
        assert rows[name].is_between(0, 1).all()
    assert rows["f"].n_unique() > 100


def test_values_are_those_that_training_would_estimate(layout: Layout) -> None:
    run(layout)
    rows = RELIABILITIES.read(layout.reliabilities)
    recommender = recommender_of(load_run(layout, "da_mrs"))
    users, items = (torch.from_numpy(rows[name].cast(pl.Int64).to_numpy().copy()) for name in ("user", "item"))
    with torch.no_grad():
        embeddings, _, sources = recommender.backbone()
        views = [torch.nn.functional.normalize(view, dim=1) for view in recommender.views(sources)]
        liked = torch.stack([(embeddings[users] * view[items]).sum(dim=1).sigmoid() for view in views])
    f = liked.mean(dim=0) * torch.exp(-2 * liked.var(dim=0))
    np.testing.assert_allclose(rows["f"], f.numpy(), rtol=1e-5)


def test_same_run_gives_the_same_bytes(layout: Layout) -> None:
    run(layout)
    first = layout.reliabilities.read_bytes()
    run(layout)
    assert layout.reliabilities.read_bytes() == first


def test_metrics_summarise_the_table(layout: Layout) -> None:
    metrics = run(layout)
    rows = RELIABILITIES.read(layout.reliabilities)
    assert metrics["interactions"] == WORLD.train.nnz
    assert metrics["f_p50"] == pytest.approx(rows["f"].median())
    assert (metrics["g_p0"], metrics["g_p100"]) == (rows["g"].min(), rows["g"].max())
    assert metrics["share_g_above_f"] == pytest.approx((rows["g"] > rows["f"]).mean())
    assert metrics["table"] == str(layout.reliabilities)
    assert metrics["consistent_graphs"] == str(layout.graph_folder("consistent"))


def test_provenance_names_the_checkpoint_and_all_that_was_read(layout: Layout) -> None:
    run(layout)
    provenance = read_provenance(layout.reliabilities)
    assert (provenance["stage"], provenance["recommender"], provenance["seed"]) == ("denoise", "da_mrs", PARAMS.seed)
    config = json.loads(layout.run("da_mrs").config.read_text())
    assert provenance["inputs"].keys() == config["inputs"].keys() | {"runs/toy/da_mrs/checkpoint.safetensors"}
    assert provenance["params"]["alpha"] == 1.0


def test_least_reliable_come_first_with_their_titles(layout: Layout) -> None:
    run(layout)
    rows = RELIABILITIES.read(layout.reliabilities)
    margin = (rows["f"] - rows["g"]).to_numpy()
    worst = int(np.argmin(margin))
    found = least_reliable(layout, 7)
    assert [each.f - each.g for each in found] == pytest.approx(np.sort(margin)[:7].tolist())
    item = rows["item"][worst]
    assert found[0] == DoubtfulInteraction(
        f"u{rows['user'][worst]}", f"i{item}", f"Item {item}", rows["f"][worst], rows["g"][worst]
    )
    assert found[0].row() == (found[0].user_id, f"i{item}", f"Item {item}", f"{found[0].f:.4f}", f"{found[0].g:.4f}")
    assert len(least_reliable(layout, 10**6)) == WORLD.train.nnz


def test_titles_that_would_steer_a_terminal_are_shown_as_escapes() -> None:
    assert DoubtfulInteraction("u", "i", "a\x1b[2J", 0.5, 0.1).row()[2] == "a\\x1b[2J"


def test_verify_knows_the_table(layout: Layout) -> None:
    run(layout)
    states = {finding.path: finding.state for finding in verify(layout)}
    assert states[layout.reliabilities] == "ok"
    checkpoint = layout.run("da_mrs").checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes() + b"x")
    finding = next(each for each in verify(layout) if each.path == layout.reliabilities)
    assert (finding.state, "mmprep denoise" in finding.fault) == ("stale", True)


def spoil_config(text: str) -> Callable[[Layout], None]:
    return lambda layout: layout.run("da_mrs").config.write_text(text) and None


def other_split(layout: Layout) -> None:
    write_world(two_groups(seed=1), layout)


def other_graph(layout: Layout) -> None:
    shutil.copy(layout.graph("knn/minilm"), layout.graph("consistent/image"))


def other_checkpoint(layout: Layout) -> None:
    layout.run("da_mrs").checkpoint.write_bytes(b"other")


def other_version(layout: Layout) -> None:
    config = json.loads(layout.run("da_mrs").config.read_text())
    config["params"]["delta"] = 1
    layout.run("da_mrs").config.write_text(json.dumps(config))


RUN = "; run `mmprep train --recommender da_mrs`$"
AGAIN = "; run `mmprep train --recommender da_mrs` again$"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_split, "da_mrs: made of another .*interactions.parquet" + RUN),
        (other_graph, "da_mrs: made of another .*consistent/image.parquet" + RUN),
        (lambda layout: layout.graph("cooccurrence").unlink(), "made of .*cooccurrence.parquet, which is gone" + RUN),
        (other_checkpoint, "da_mrs/checkpoint.safetensors: not what training wrote" + AGAIN),
        (other_version, "da_mrs: of another version of da_mrs" + AGAIN),
        (spoil_config("{"), r"da_mrs/config.json: not what training wrote \(not JSON\)" + AGAIN),
        (spoil_config('{"outputs": []}'), r"da_mrs/config.json: not what training wrote \(.*inputs.*\)" + AGAIN),
    ],
    ids=["split", "graph", "graph gone", "checkpoint", "version", "config", "config's keys"],
)
def test_run_that_does_not_fit_is_refused_in_a_line(
    layout: Layout, spoil: Callable[[Layout], None], message: str
) -> None:
    spoil(layout)
    with pytest.raises(DataError, match=message) as caught:
        run(layout)
    assert "\n" not in str(caught.value)
    assert not layout.reliabilities.exists()


def test_untrained_da_mrs_is_named_with_the_command(layout: Layout) -> None:
    shutil.rmtree(layout.run("da_mrs").folder)
    with pytest.raises(MissingInputError, match="run `mmprep train --recommender da_mrs` first"):
        run(layout)


def test_graphs_that_are_not_built_are_told_with_the_command(layout: Layout) -> None:
    from mmprep.stages.explore.denoise import places

    shutil.rmtree(layout.graph_folder("consistent"))
    assert places(layout)["consistent_graphs"] == "none; run `mmprep graph --graph consistent`"
