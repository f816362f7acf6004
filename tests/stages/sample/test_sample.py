import gzip
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.stages.sample.sample import write_sample

SHIPPED = Path(__file__).parents[3] / "data" / "raw" / "sample"
REVIEWS, ITEMS = "Sample.json.gz", "meta_Sample.json.gz"
KINDS = {"mug", "lamp", "chair", "clock", "vase", "umbrella", "shirt", "bag", "hat", "boot"}
COLOURS = {"red", "orange", "yellow", "green", "teal", "blue", "purple", "charcoal"}
STYLES = {"plain", "striped", "dotted", "checked", "wavy", "starry"}


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("regenerated") / "sample"
    return folder, write_sample(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("tiny") / "sample"
    return folder, write_sample(folder, users=60, items=40, reviews=800)


@pytest.fixture(params=["regenerated", "tiny"])
def sample(request: pytest.FixtureRequest) -> tuple[Path, dict[str, int]]:
    folder, counts = request.getfixturevalue(request.param)
    return folder, counts


def lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def rows(path: Path) -> list[dict[str, Any]]:
    parsed = []
    for line in lines(path):
        try:
            parsed.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return parsed


def pairs(folder: Path) -> Counter[tuple[str, str]]:
    reviews = [row for row in rows(folder / REVIEWS) if {"reviewerID", "asin"} <= row.keys()]
    return Counter((row["reviewerID"], row["asin"]) for row in reviews)


def pixels(path: Path) -> np.ndarray | None:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=float)
    except OSError:
        return None


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_regeneration_equals_the_shipped_folder(regenerated: tuple[Path, dict[str, int]]) -> None:
    folder, _ = regenerated
    assert contents(folder).keys() == contents(SHIPPED).keys()
    assert (folder / "README.md").read_bytes() == (SHIPPED / "README.md").read_bytes()
    for name in (REVIEWS, ITEMS):  # what zlib makes of them may change with its version
        assert lines(folder / name) == lines(SHIPPED / name)
    for path in (SHIPPED / "images").iterdir():  # and so may what libjpeg makes of a photo
        ours, shipped = pixels(folder / "images" / path.name), pixels(path)
        assert (ours is None) == (shipped is None), path.name
        assert ours is None or shipped is None or np.abs(ours - shipped).mean() < 3, path.name


def test_shipped_folder_takes_at_most_three_megabytes() -> None:
    assert sum(len(content) for content in contents(SHIPPED).values()) <= 3_000_000


def test_same_arguments_give_the_same_bytes_and_another_seed_others(
    tiny: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    first = contents(tiny[0])
    write_sample(tmp_path / "again", users=60, items=40, reviews=800)
    write_sample(tmp_path / "other", seed=1, users=60, items=40, reviews=800)
    assert contents(tmp_path / "again") == first
    assert contents(tmp_path / "other")[REVIEWS] != first[REVIEWS]
    assert contents(tmp_path / "other").keys() & first.keys() == {REVIEWS, ITEMS, "README.md"}


def test_good_reviews_are_as_many_distinct_pairs_as_asked_for(sample: tuple[Path, dict[str, int]]) -> None:
    folder, counts = sample
    bought = pairs(folder)
    assert len(bought) == counts["reviews_good"] == {600: 6000, 60: 800}[counts["users"]]
    assert len({user for user, _ in bought}) == counts["users"]
    assert len({row["asin"] for row in rows(folder / ITEMS)}) == counts["items"]
    assert min(Counter(user for user, _ in bought).values()) >= 5


def test_most_items_are_bought_five_times(regenerated: tuple[Path, dict[str, int]]) -> None:
    bought = Counter(item for _, item in pairs(regenerated[0]))
    assert sum(count >= 5 for count in bought.values()) > 0.95 * 300


def test_bad_reviews_are_there_as_counted(sample: tuple[Path, dict[str, int]]) -> None:
    folder, counts = sample
    parsed = rows(folder / REVIEWS)
    whole = [line for line in lines(folder / REVIEWS) if line.endswith("}")]
    repeated = sum(count - 1 for count in pairs(folder).values())
    found = {
        "reviews_broken_json": len(lines(folder / REVIEWS)) - len(parsed),
        "reviews_no_user": sum("reviewerID" not in row for row in parsed),
        "reviews_no_item": sum("asin" not in row for row in parsed),
        "reviews_duplicate": len(whole) - len(set(whole)),
        "reviews_repeated_pair": repeated - (len(whole) - len(set(whole))),
    }
    assert found == {kind: counts[kind] for kind in found}
    assert min(found.values()) >= 1
    assert 0.005 < sum(found.values()) / len(parsed) < 0.02


def test_a_repeated_pair_has_another_rating_and_a_later_day(regenerated: tuple[Path, dict[str, int]]) -> None:
    folder, _ = regenerated
    reviews: dict[tuple[str, str], set[tuple[int, float]]] = {}
    for row in rows(folder / REVIEWS):
        key = (row.get("reviewerID", ""), row.get("asin", ""))
        reviews.setdefault(key, set()).add((row["unixReviewTime"], row["overall"]))
    changed = [sorted(found) for (user, item), found in reviews.items() if len(found) > 1 and user and item]
    assert changed
    assert all(first[0] < second[0] and first[1] != second[1] for first, second in changed)


def test_odd_items_are_there_as_counted(sample: tuple[Path, dict[str, int]]) -> None:
    folder, counts = sample
    found = lines(folder / ITEMS)
    items = {row["asin"]: row for row in rows(folder / ITEMS)}
    textless = [row for row in items.values() if not any(row[key] for key in ("title", "description", "category"))]
    assert len(found) - len(set(found)) == counts["items_duplicate"] >= 1
    assert len(textless) == counts["items_no_text"] >= 2
    assert {row["brand"] for row in textless} == {""}
    photos = {path.stem for path in (folder / "images").iterdir()}
    assert photos < items.keys()
    assert len(items.keys() - photos) == counts["items_no_photo"] >= 2


def test_photos_are_distinct_and_the_bad_ones_as_counted(sample: tuple[Path, dict[str, int]]) -> None:
    folder, counts = sample
    paths = list((folder / "images").iterdir())
    decoded = [pixels(path) for path in paths]
    bad = [path.read_bytes() for path, image in zip(paths, decoded, strict=True) if image is None]
    good = [image for image in decoded if image is not None]
    assert len(good) == counts["photos_good"]
    assert {image.shape for image in good} == {(96, 96, 3)}
    assert len({image.tobytes() for image in good}) == len(good)
    few = len(paths) < 80  # of which ingest's default limit allows one bad photo
    assert sum(content == b"" for content in bad) == counts["photos_empty"] == (0 if few else 1)
    assert sum(content.startswith(b"<!DOCTYPE html>") for content in bad) == counts["photos_html"] == (0 if few else 1)
    assert sum(content.startswith(b"\xff\xd8") for content in bad) == counts["photos_truncated"] >= 1


def test_rows_are_in_the_form_of_the_edition(tiny: tuple[Path, dict[str, int]]) -> None:
    folder, _ = tiny
    for row in rows(folder / REVIEWS):
        day = datetime.fromtimestamp(row["unixReviewTime"], tz=UTC)
        assert row["reviewTime"] == f"{day:%m} {day.day}, {day.year}"
        assert row["unixReviewTime"] % 86400 == 0
        assert row["overall"] in (1.0, 2.0, 3.0, 4.0, 5.0)
        assert re.fullmatch(r"A[0-9A-Z]{13}", row.get("reviewerID", "A" * 14))
        assert re.fullmatch(r"B0[0-9A-Z]{8}", row.get("asin", "B0" * 5))
    text = "\n".join(lines(folder / ITEMS))
    assert "&amp;" in text
    assert "<br>" in text


@pytest.mark.parametrize("trait", [KINDS, COLOURS, STYLES], ids=["kind", "colour", "style"])
def test_what_a_user_favoured_at_first_is_far_above_chance_later(trait: set[str]) -> None:
    shown = {row["asin"]: trait & set(re.findall("[a-z]+", row["title"].lower())) for row in rows(SHIPPED / ITEMS)}
    bought: dict[str, list[str]] = {}
    for user, item in sorted(pairs(SHIPPED)):
        bought.setdefault(user, []).extend(shown[item])
    overall = Counter(level for levels in bought.values() for level in levels)
    shares, chances = [], []
    for levels in bought.values():
        favourite, _ = Counter(levels[::2]).most_common(1)[0]
        shares.append(levels[1::2].count(favourite) / len(levels[1::2]))
        chances.append(overall[favourite] / overall.total())
    assert np.mean(shares) > 2 * np.mean(chances)


def test_readme_tells_the_counts(sample: tuple[Path, dict[str, int]]) -> None:
    folder, counts = sample
    text = (folder / "README.md").read_text()
    assert all(f"| {name} | {count} |" in text for name, count in counts.items())


def test_an_earlier_sample_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    write_sample(folder, users=10, items=20, reviews=50)
    write_sample(folder, seed=1, users=10, items=20, reviews=60)
    assert len(pairs(folder)) == 60
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds files other than a sample"):
        write_sample(folder, users=10, items=20, reviews=50)
    assert (folder / "notes.txt").read_text() == "mine"


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="take at least 10 and 20"):
        write_sample(tmp_path / "sample", users=10, items=5)
    with pytest.raises(ParamsError, match="take between 500 and 1000"):
        write_sample(tmp_path / "sample", users=100, items=20, reviews=100)
    assert not (tmp_path / "sample").exists()
