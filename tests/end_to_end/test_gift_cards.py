"""The whole pipeline, without DVC, on real raw files: Amazon Gift Cards, 2018 edition, with stand-in photos."""

import gzip
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from checkout import alexnet_for_vgg16, run
from imports import ROOT

SHARED = ROOT.parent / "shared" / "data"
CATEGORY = SHARED / "gift_cards_2018"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CATEGORY.is_dir(), reason=f"real data is not redistributed and not at {CATEGORY}"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the raw files, a photo of a garment for each reviewed item, and nothing else of the repository."""
    folder = tmp_path_factory.mktemp("gift_cards")
    raw = folder / "data" / "raw" / "gift_cards"
    (raw / "images").mkdir(parents=True)
    for name in ("Gift_Cards_5.json.gz", "meta_Gift_Cards.json.gz"):
        shutil.copy(CATEGORY / name, raw)
    with gzip.open(raw / "Gift_Cards_5.json.gz") as reviews:
        items = sorted({json.loads(line)["asin"] for line in reviews})
    photos = sorted((SHARED / "photos" / "clothing").glob("*.jpg"))
    for item, photo in zip(items, photos, strict=False):
        shutil.copy(photo, raw / "images" / f"{item}.jpg")
    shutil.copy(ROOT / "params.yaml", folder)
    alexnet_for_vgg16(folder)
    for stage in ("ingest", "filter", "split", "extract", "graph", "train", "evaluate"):
        run(folder, "mmprep", stage, "--dataset", "gift_cards")
    return folder


def metrics(project: Path, stage: str) -> dict[str, int]:
    loaded: dict[str, int] = json.loads((project / "data" / "metrics" / "gift_cards" / f"{stage}.json").read_text())
    return loaded


def test_counts_are_those_of_the_published_files(project: Path) -> None:
    ingested = metrics(project, "ingest")
    assert (ingested["users"], ingested["reviewed_items"], ingested["interactions"]) == (458, 148, 2972)
    assert ingested["items"] == 1547
    assert ingested["reviewed_items_with_text"] == ingested["reviewed_items_with_photo"] == 148
    assert ingested["descriptions_without_review"] == 1547 - 148
    assert ingested["rejects"] == 0


def test_filter_and_split_keep_every_distinct_pair_of_the_core(project: Path) -> None:
    filtered = metrics(project, "filter")
    assert filtered["lost_to_duplicates"] == 2972 - 2965
    # The published "5-core" counts reviews; counted in distinct pairs a few users fall below 5.
    assert (filtered["users"], filtered["items"], filtered["interactions"]) == (453, 147, 2941)
    split = metrics(project, "split")
    assert split["train"] + split["val"] + split["test"] == 2941


def test_every_item_has_both_vectors_and_neighbours(project: Path) -> None:
    for encoder in ("alexnet", "minilm"):
        assert metrics(project, f"extract-{encoder}")["encoded"] == 147
        assert metrics(project, f"graph-knn-{encoder}")["without_neighbours"] == 0


def test_nearest_items_by_text_are_often_of_the_same_brand(project: Path) -> None:
    items = pl.read_parquet(project / "data/processed/gift_cards/items.parquet")
    edges = pl.read_parquet(project / "data/graphs/gift_cards/knn/minilm.parquet")
    brands = dict(items.select("item", "brand").iter_rows())
    nearest = edges.filter(pl.col("source") != pl.col("target")).unique("source", keep="first", maintain_order=True)
    same = [brands[s] == brands[t] for s, t, _ in nearest.iter_rows() if brands[s]]
    known = [brand for brand in brands.values() if brand]
    chance = sum(known.count(brand) for brand in known) / len(known) ** 2
    assert sum(same) / len(same) > 3 * chance


@pytest.mark.parametrize("recommender", ["bpr", "lightgcn", "vbpr"])
def test_recommenders_beat_chance_by_far(project: Path, recommender: str) -> None:
    found = json.loads((project / "data/runs/gift_cards" / recommender / "metrics.json").read_text())
    chance = 20 / 147
    assert found["recall@20"] > 2 * chance


def test_report_shows_the_recommenders_and_says_which_weights_were_random(project: Path) -> None:
    output = run(project, "mmprep", "report", "--dataset", "gift_cards")
    assert all(name in output for name in ("bpr", "lightgcn", "vbpr", "recall@20"))
    assert "alexnet has random weights" in output
