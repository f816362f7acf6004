import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from worlds import World, one_thread, two_groups, write_items, write_world

from mmprep.models.recommenders.bpr import BPRParams
from mmprep.models.training.metrics import ranking_metrics
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import RECOMMENDATIONS
from mmprep.stages.training import train
from mmprep.stages.training.evaluate import run

PARAMS = TrainParams(batch_size=128, max_epochs=3, patience=2)
CUTOFFS = (5, 10, 20, 50)


def lonely_world() -> World:
    """Two groups, in which user 5 has nothing in train."""
    world = two_groups()
    rows = torch.ones(40, 1).numpy()
    rows[5] = 0
    kept = csr_array(world.train.toarray() * rows)
    kept.eliminate_zeros()
    return World(kept, world.val, world.test)


WORLD = lonely_world()


@pytest.fixture(scope="module", autouse=True)
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("trained") / "data", "toy")
    write_world(WORLD, layout)
    train.run("bpr", PARAMS, BPRParams(embedding_size=8, learning_rate=0.02), layout)
    return layout


@pytest.fixture
def layout(trained: Layout, tmp_path: Path) -> Layout:
    """A copy that a test may spoil."""
    shutil.copytree(trained.root, tmp_path / "data")
    return Layout(tmp_path / "data", "toy")


def evaluate(layout: Layout, *, mask_val: bool = False) -> tuple[dict[str, float], pl.DataFrame]:
    metrics = run("bpr", EvaluateParams(mask_val=mask_val), layout)
    return metrics, RECOMMENDATIONS.read(layout.run("bpr").recommendations)


def lists(recommendations: pl.DataFrame) -> dict[int, list[int]]:
    """Each user's items in the order of ranks."""
    ordered = recommendations.sort("user", "rank").group_by("user", maintain_order=True)
    return {int(key[0]): rows["item"].to_list() for key, rows in ordered}


def of_user(split: csr_array, user: int) -> set[int]:
    return {int(item) for item in split.toarray()[user].nonzero()[0]}


@pytest.mark.parametrize("mask_val", [False, True])
def test_metrics_are_those_of_the_recommendations(layout: Layout, mask_val: bool) -> None:
    metrics, recommendations = evaluate(layout, mask_val=mask_val)
    best = lists(recommendations)
    users = [user for user in range(40) if of_user(WORLD.train, user)]
    for k in CUTOFFS:
        recall = precision = ndcg = 0.0
        for user in users:
            wanted = of_user(WORLD.test, user)
            gains = [1 / math.log2(place + 2) for place, item in enumerate(best[user][:k]) if item in wanted]
            recall += len(gains) / len(wanted)
            precision += len(gains) / k
            ndcg += sum(gains) / sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
        found = [metrics[f"{kind}@{k}"] for kind in ("recall", "precision", "ndcg")]
        assert found == pytest.approx([total / len(users) for total in (recall, precision, ndcg)], rel=1e-6)
    assert json.loads(layout.run("bpr").metrics.read_text()) == metrics


@pytest.mark.parametrize("mask_val", [False, True])
def test_the_written_lists_alone_give_the_same_metrics_to_the_last_bit(layout: Layout, mask_val: bool) -> None:
    metrics, recommendations = evaluate(layout, mask_val=mask_val)
    wanted = {user: of_user(WORLD.test, user) for user, _ in lists(recommendations).items()}
    hits = np.zeros((len(wanted), 50), dtype=bool)
    for row, (user, items) in enumerate(lists(recommendations).items()):
        hits[row, : len(items)] = [item in wanted[user] for item in items]
    relevant = np.array([len(items) for items in wanted.values()])
    assert json.loads(layout.run("bpr").metrics.read_text()) == ranking_metrics(hits, relevant) == metrics


def test_metrics_of_groups_are_written_beside(layout: Layout) -> None:
    metrics = run("bpr", EvaluateParams(user_groups=(10, 11)), layout)
    groups = json.loads(layout.run("bpr").metrics_by_group.read_text())
    users = groups["users_by_train_items"]
    assert list(users) == ["1-9", "10", "11+"]
    assert users["1-9"] == users["11+"] == {"users": 0}
    assert users["10"] == {"users": 39, **metrics}  # all but user 5, who has nothing in train
    items = groups["items_by_popularity"].values()
    assert sum(group["interactions"] for group in items) == 39
    found = sum(group["interactions"] * group.get("recall@20", 0) for group in items)
    assert found / 39 == pytest.approx(metrics["recall@20"])  # each has one test item


def test_nobody_is_recommended_a_train_item(layout: Layout) -> None:
    _, recommendations = evaluate(layout)
    for user, items in lists(recommendations).items():
        assert not of_user(WORLD.train, user) & set(items)


def test_everyone_with_train_items_gets_the_fifty_best_of_the_others(layout: Layout) -> None:
    _, recommendations = evaluate(layout)
    embeddings = load_file(layout.run("bpr").embeddings)
    best = lists(recommendations)
    assert best.keys() == set(range(40)) - {5}
    scores = (embeddings["users"] @ embeddings["items"].T).tolist()
    for user, items in best.items():
        others = set(range(60)) - of_user(WORLD.train, user)
        assert items == sorted(others, key=lambda item: (-scores[user][item], item))[:50]


def test_ranks_start_at_one_and_scores_fall(layout: Layout) -> None:
    _, recommendations = evaluate(layout)
    assert recommendations.equals(recommendations.sort("user", "rank"))
    for _, rows in recommendations.group_by("user"):
        ordered = rows.sort("rank")
        assert ordered["rank"].to_list() == list(range(1, len(rows) + 1))
        assert ordered["score"].is_sorted(descending=True)


def test_scores_are_inner_products_and_ids_and_titles_are_the_tables(layout: Layout) -> None:
    write_items_like_training(layout)
    _, recommendations = evaluate(layout)
    embeddings = load_file(layout.run("bpr").embeddings)
    users, items = (torch.tensor(recommendations[kind].to_list()) for kind in ("user", "item"))
    expected = (embeddings["users"][users] * embeddings["items"][items]).sum(dim=1)
    torch.testing.assert_close(torch.tensor(recommendations["score"].to_list()), expected)
    for row in recommendations.iter_rows(named=True):
        assert (row["user_id"], row["item_id"], row["title"]) == (
            f"u{row['user']}",
            f"i{row['item']}",
            f"Item {row['item']}",
        )


def write_items_like_training(layout: Layout) -> None:
    """Write the items again; the bytes are those that training read."""
    before = sha256(layout.items)
    write_items(layout, [{} for _ in range(60)])
    assert sha256(layout.items) == before


def test_masked_items_do_not_fill_up_short_lists(layout: Layout) -> None:
    # 60 items less 10 in train and 1 in val leave 49.
    _, recommendations = evaluate(layout, mask_val=True)
    assert set(recommendations.group_by("user").len()["len"].to_list()) == {49}
    assert recommendations["score"].is_finite().all()


def test_val_items_are_candidates_unless_they_are_masked(layout: Layout) -> None:
    plain, with_val = evaluate(layout)
    masked, without_val = evaluate(layout, mask_val=True)
    val = {(user, item) for user in range(40) for item in of_user(WORLD.val, user)}
    assert val & set(with_val.select("user", "item").iter_rows())
    assert not val & set(without_val.select("user", "item").iter_rows())
    assert plain != masked
    assert all(masked[name] >= value for name, value in plain.items())


def test_recommendations_tell_what_made_them(layout: Layout) -> None:
    evaluate(layout, mask_val=True)
    files = layout.run("bpr")
    provenance = read_provenance(files.recommendations)
    assert provenance["stage"] == "evaluate"
    assert provenance["recommender"] == "bpr"
    assert provenance["params"] == {"mask_val": True, "every": 1, "user_groups": [6, 10, 50]}
    inputs = (files.embeddings, layout.interactions, layout.users, layout.items)
    assert provenance["inputs"] == {layout.relative(path): sha256(path) for path in inputs}


def test_same_run_gives_the_same_bytes(layout: Layout) -> None:
    evaluate(layout)
    files = layout.run("bpr")
    written = (files.recommendations, files.metrics, files.metrics_by_group)
    before = [sha256(path) for path in written]
    evaluate(layout)
    assert [sha256(path) for path in written] == before


@pytest.mark.parametrize("gone", ["config", "embeddings"])
def test_recommender_that_is_not_trained_is_reported(layout: Layout, gone: str) -> None:
    getattr(layout.run("bpr"), gone).unlink()
    with pytest.raises(MissingInputError, match="run `mmprep train --recommender bpr` first"):
        evaluate(layout)


@pytest.mark.parametrize("how", ["other values", "cut off"])
def test_embeddings_that_training_did_not_write_are_refused(layout: Layout, how: str) -> None:
    file = layout.run("bpr").embeddings
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:100])
    else:
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(DataError, match="not what training wrote; run `mmprep train --recommender bpr` again"):
        evaluate(layout)
    assert not layout.run("bpr").metrics.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"outputs": {}}'])
def test_damaged_config_is_refused(layout: Layout, content: str) -> None:
    layout.run("bpr").config.write_text(content)
    with pytest.raises(DataError, match="run `mmprep train --recommender bpr` again"):
        evaluate(layout)


def test_embeddings_of_a_dataset_of_another_size_are_refused(layout: Layout) -> None:
    other = World(*(csr_array(matrix.toarray()[:39, :]) for matrix in (WORLD.train, WORLD.val, WORLD.test)))
    write_world(other, layout)
    with pytest.raises(DataError, match=r"runs/toy/bpr: made of another .*; run `mmprep train --recommender bpr`$"):
        evaluate(layout)


def test_recommender_trained_on_another_split_is_refused_as_it_knows_test_items(layout: Layout) -> None:
    write_world(World(WORLD.train, WORLD.test, WORLD.val), layout)
    with pytest.raises(DataError) as caught:
        evaluate(layout)
    folder = layout.run("bpr").folder
    assert str(caught.value) == f"{folder}: made of another {layout.interactions}; run `mmprep train --recommender bpr`"


def test_training_that_ended_in_the_middle_is_not_evaluated(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmprep.stages.training.write_run.write_history", killed)
    with pytest.raises(KeyboardInterrupt):
        train.run("bpr", PARAMS.model_copy(update={"seed": 9}), BPRParams(embedding_size=8), layout)
    with pytest.raises(DataError, match="not what training wrote"):
        evaluate(layout)
