"""Generate the sample dataset: a synthetic shop in the Amazon 2018 edition's format, with planted user tastes."""

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.storage.files import atomic_folder
from mmprep.stages.sample.photos import COLOURS, SHAPES, STYLES, draw_photo
from mmprep.stages.sample.words import (
    BRANDS,
    DEPARTMENTS,
    EMPTY_ITEM,
    EMPTY_REVIEW,
    FILLER,
    NAMES,
    OPINIONS,
    README,
    REMARKS,
    SHOWING,
    TITLES,
    WORDS,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Row = dict[str, Any]
Rng = np.random.Generator

# Increase of the log odds of a purchase by a user's favourite, by trait. The last trait is visible in neither text nor
# photo, so that only other users' purchases reveal it.
TRAITS = (tuple(SHAPES), tuple(COLOURS), tuple(STYLES), tuple("abcdef"))
STRENGTHS = (3.2, 3.2, 3.2, 0.6)
SECOND_FAVOURITE = 0.7  # of the first one's strength
HAS_SECOND = (1.0, 0.8, 0.8, 0.0)  # share of the users who have one
POPULARITY_SLOPE = 0.35
ACTIVITY_SPREAD = 1.8  # of the users, on a log scale
LEAST_PER_USER = 5  # survives a 5-core on the user's side
USERS_AT_ONCE = 1024  # bounds the memory of the users x items scores
FIRST_DAY = datetime(2012, 1, 1, tzinfo=UTC)
DAYS = 2400


@dataclass(frozen=True)
class Shop:
    """Items of the synthetic shop: their traits, popularity, and faults of record or photo."""

    asins: list[str]
    traits: Ints  # items x len(TRAITS)
    brands: list[str]
    log_popularity: Floats
    faults: list[str]  # "", "no_text", "no_photo", "truncated", "empty" or "html"

    def words(self, item: int) -> dict[str, str]:
        """Words that describe an item: kind, colour, style and brand."""
        kind, colour, style = (TRAITS[k][self.traits[item, k]] for k in range(3))
        return {"kind": kind, "colour": colour, "style": style, "brand": self.brands[item]}


def write_sample(
    folder: Path, *, seed: int = 0, users: int = 600, items: int = 300, reviews: int | None = None
) -> dict[str, int]:
    """Write a synthetic dataset: `Sample.json.gz`, `meta_Sample.json.gz`, `images/` and a README.

    The same arguments give the same files. About one invalid row is injected per hundred valid ones.

    Args:
        folder: created, or replaced if it holds an earlier sample.
        seed: random seed.
        users: number of users, who review at least five distinct items each.
        items: number of items in the metadata, some of them without text or without a usable photo.
        reviews: number of valid reviews, each a distinct pair of user and item; None for ten per user, as far as there
            are items.

    Returns:
        Counts: users, items; reviews_good and reviews_KIND of each kind of invalid row; items_KIND of faulty metadata;
        photos_good and photos_KIND of unreadable photos.

    Raises:
        ParamsError: the sizes are inconsistent.
        DataError: the folder holds other files than an earlier sample.
    """
    folder = folder.resolve()
    if reviews is None:
        reviews = users * min(10, items // 2)
    _check(folder, users, items, reviews)
    shop_rng, taste_rng, word_rng, photo_rng = np.random.default_rng(seed).spawn(4)
    shop = _open_shop(items, shop_rng)
    bought = _purchases(shop, users, reviews, taste_rng)
    good = _review_rows(shop, bought, users, word_rng)
    bad = _bad_lines(good, word_rng)
    meta, doubled = _meta_rows(shop, word_rng)
    counts = {"users": users, "items": items, "reviews_good": len(good)}
    counts |= {f"reviews_{kind}": len(lines) for kind, lines in bad.items()} | {"items_duplicate": doubled}
    with atomic_folder(folder) as partial:
        lines = [json.dumps(row) for row in good] + [line for kind in bad.values() for line in kind]
        _write_lines(partial / "Sample.json.gz", lines, word_rng)
        _write_lines(partial / "meta_Sample.json.gz", [json.dumps(row) for row in meta], word_rng)
        counts |= _write_photos(partial / "images", shop, photo_rng)
        (partial / "README.md").write_text(_readme(counts, seed), encoding="utf-8", newline="\n")
    return counts


def _check(folder: Path, users: int, items: int, reviews: int) -> None:
    if items < 20 or users < 10:
        raise ParamsError(f"a sample of {users} users and {items} items is too small; take at least 10 and 20")
    if not LEAST_PER_USER * users <= reviews <= users * (items // 2):
        raise ParamsError(
            f"{reviews} reviews do not fit {users} users and {items} items; "
            f"take between {LEAST_PER_USER * users} and {users * (items // 2)}"
        )
    if folder.exists() and not _may_be_replaced(folder):
        raise DataError(f"{folder}: holds files other than a sample; name a new or an empty folder")


def _may_be_replaced(folder: Path) -> bool:
    """Whether the folder is empty or an earlier sample, so that replacing it deletes no file of the user's."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    own = {"Sample.json.gz", "meta_Sample.json.gz", "images", "README.md"}
    readme = folder / "README.md"
    return not names or (names == own and readme.read_bytes().startswith(README.split("\n", 1)[0].encode()))


def _open_shop(items: int, rng: Rng) -> Shop:
    traits = np.stack([rng.integers(len(levels), size=items) for levels in TRAITS], axis=1)
    # Three in five items have a brand of their style, the others any brand.
    leaning = np.where(rng.random(items) < 0.6, traits[:, 2], rng.integers(len(STYLES), size=items))
    wrong = [kind for kind in ("no_text", "no_photo") for _ in range(max(2, items // 100))]
    # One in a hundred, and few enough for ingest's default limit of rejects.
    kinds = ("truncated", "empty", "html")[: 3 if items >= 80 else 1]
    wrong += [kind for kind in kinds for _ in range(max(1, items // 300))]
    return Shop(
        asins=_ids("B0", 8, items, rng),
        traits=traits,
        brands=[_pick(BRANDS[TRAITS[2][style]], rng) for style in leaning],
        log_popularity=-POPULARITY_SLOPE * np.log(1 + rng.permutation(items)),
        faults=[str(fault) for fault in rng.permutation(wrong + [""] * (items - len(wrong)))],
    )


def _ids(prefix: str, digits: int, count: int, rng: Rng) -> list[str]:
    """Unique, unordered ids: a counter stepped through all numbers of `digits` base-36 digits."""
    step = 6 * int.from_bytes(rng.bytes(8), "big") + 1  # coprime to 36, so that no number repeats
    return [prefix + np.base_repr(n * step % 36**digits, 36).zfill(digits) for n in range(1, count + 1)]


def _purchases(shop: Shop, users: int, reviews: int, rng: Rng) -> list[tuple[int, int, float]]:
    """(user, item, liking) of each purchase: distinct items, drawn by popularity and taste."""
    counts = _activity(users, reviews, most=len(shop.asins) // 2, rng=rng)
    bought = []
    for start in range(0, users, USERS_AT_ONCE):
        batch_counts = counts[start : start + USERS_AT_ONCE]
        liking = _liking(shop.traits, len(batch_counts), rng)
        # The largest of log weights plus Gumbel noise: draws without replacement in proportion to the weights.
        noise = rng.gumbel(size=liking.shape)
        order = np.argsort(-(liking + shop.log_popularity + noise), axis=1, kind="stable")
        for row, count in enumerate(batch_counts):
            bought += [(start + row, int(item), float(liking[row, item])) for item in order[row, :count]]
    return bought


def _activity(users: int, reviews: int, most: int, rng: Rng) -> Ints:
    """Number of items that each user buys: heavy-tailed, with most users near the minimum."""
    counts = np.full(users, LEAST_PER_USER)
    weights = rng.lognormal(0, ACTIVITY_SPREAD, size=users)
    while (left := reviews - counts.sum()) > 0:
        weights[counts >= most] = 0
        counts = np.minimum(counts + rng.multinomial(left, weights / weights.sum()), most)
    return counts


def _liking(traits: Ints, users: int, rng: Rng) -> Floats:
    """Preference scores, [users, items]: the sum over traits of one or two favourites."""
    total = np.zeros((users, len(traits)))
    for trait, (levels, strength, has_second) in enumerate(zip(TRAITS, STRENGTHS, HAS_SECOND, strict=True)):
        taste = rng.normal(0, 0.2, size=(users, len(levels)))
        favourites = rng.permuted(np.tile(np.arange(len(levels)), (users, 1)), axis=1)
        rows = np.arange(users)
        taste[rows, favourites[:, 0]] += strength
        taste[rows, favourites[:, 1]] += strength * SECOND_FAVOURITE * (rng.random(users) < has_second)
        total += taste[:, traits[:, trait]]
    return total


def _review_rows(shop: Shop, bought: list[tuple[int, int, float]], users: int, rng: Rng) -> list[Row]:
    ids = _ids("A", 13, users, rng)
    names = [f"{_pick(NAMES, rng)} {chr(65 + int(rng.integers(26)))}." for _ in range(users)]
    likings = np.array([liking for _, _, liking in bought])
    pleased = (likings - likings.mean()) / likings.std() + rng.normal(size=len(bought))
    stars = np.clip(np.rint(4 + 0.8 * pleased), 1, 5)
    rows = []
    for (user, item, _), overall in zip(bought, stars.tolist(), strict=True):
        who = {"reviewerID": ids[user], "asin": shop.asins[item], "reviewerName": names[user]}
        day = _day(int(rng.integers(DAYS)))
        rows.append(EMPTY_REVIEW | who | day | _opinion(overall, shop.words(item), rng))
    return rows


def _pick(options: Sequence[str], rng: Rng) -> str:
    return options[int(rng.integers(len(options)))]


def _day(day: int) -> Row:
    when = FIRST_DAY + timedelta(days=day)
    return {"reviewTime": f"{when:%m} {when.day}, {when.year}", "unixReviewTime": int(when.timestamp())}


def _opinion(overall: float, words: dict[str, str], rng: Rng) -> Row:
    opinion = _pick(OPINIONS[(0, 0, 1, 2, 2)[int(overall) - 1]], rng)
    remark = _pick(REMARKS, rng).format(**words)
    return {
        "overall": overall,
        "verified": bool(rng.random() < 0.9),
        "reviewText": f"{opinion} {remark}".strip(),
        "summary": f"{int(overall)} Stars" if rng.random() < 0.4 else opinion,
    }


def _bad_lines(good: list[Row], rng: Rng) -> dict[str, list[str]]:
    """Additional invalid lines by kind of fault, each about 0.2 % of the valid rows."""
    count = max(1, len(good) // 500)
    picked = [[good[row] for row in rows] for rows in rng.permutation(len(good))[: 5 * count].reshape(5, count)]
    whole = [json.dumps(row) for row in picked[0]]
    return {
        "broken_json": [line[: int(len(line) * rng.uniform(0.3, 0.8))] for line in whole],
        "no_user": [_without("reviewerID", row) for row in picked[1]],
        "no_item": [_without("asin", row) for row in picked[2]],
        "duplicate": [json.dumps(row) for row in picked[3]],
        "repeated_pair": [json.dumps(_changed_mind(row, rng)) for row in picked[4]],
    }


def _without(key: str, row: Row) -> str:
    return json.dumps({name: value for name, value in row.items() if name != key})


def _changed_mind(row: Row, rng: Rng) -> Row:
    later = (row["unixReviewTime"] - int(FIRST_DAY.timestamp())) // 86400 + int(rng.integers(30, 300))
    stars = 1.0 + (row["overall"] + int(rng.integers(4))) % 5  # any other than before
    return row | _day(later) | {"overall": stars, "reviewText": "Writing again after some months.", "summary": "Update"}


def _meta_rows(shop: Shop, rng: Rng) -> tuple[list[Row], int]:
    """Metadata rows, and the number of duplicated ones."""
    rows = [_meta_row(shop, item, rng) for item in range(len(shop.asins))]
    doubled = rng.permutation(len(rows))[: max(1, len(rows) // 100)]
    return rows + [rows[row] for row in doubled], len(doubled)


def _meta_row(shop: Shop, item: int, rng: Rng) -> Row:
    asin, fault = shop.asins[item], shop.faults[item]
    view, buy = (rng.permutation(np.flatnonzero(shop.traits[:, k] == shop.traits[item, k]))[:3] for k in (0, 2))
    images = [] if fault == "no_photo" else [asin]
    links = {
        "also_buy": [shop.asins[other] for other in buy if other != item],
        "also_view": [shop.asins[other] for other in view if other != item],
        "price": f"${rng.integers(5, 80)}.99" if rng.random() < 0.8 else "",
        "asin": asin,
        "imageURL": [f"https://images.example.com/I/{name}._SS40_.jpg" for name in images],
        "imageURLHighRes": [f"https://images.example.com/I/{name}.jpg" for name in images],
    }
    return EMPTY_ITEM | _meta_text(shop.words(item), fault, rng) | links


def _meta_text(words: dict[str, str], fault: str, rng: Rng) -> Row:
    if fault == "no_text":
        return {}
    department = DEPARTMENTS[words["kind"]]
    return {
        "category": [department, words["kind"].capitalize() + "s"],
        "description": [f"{_shown(SHOWING[k], words, rng)} {_pick(FILLER, rng)}" for k in rng.permutation(4)[:2]],
        "title": _filled(_pick(TITLES, rng), words),
        "brand": words["brand"],
        "feature": [_pick(FILLER, rng)],
        "main_cat": department.replace("&", "&amp;"),
    }


def _shown(sentence: str, words: dict[str, str], rng: Rng) -> str:
    """Fill a sentence with synonyms of the item's words."""
    return _filled(sentence, {name: _pick(WORDS.get(word, (word,)), rng) for name, word in words.items()})


def _filled(sentence: str, words: dict[str, str]) -> str:
    return sentence.format(**words, Style=words["style"].capitalize(), Colour=words["colour"].capitalize())


def _write_lines(path: Path, lines: list[str], rng: Rng) -> None:
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        for line in rng.permutation(len(lines)):
            packed.write(lines[line].encode() + b"\n")


def _write_photos(folder: Path, shop: Shop, rng: Rng) -> dict[str, int]:
    folder.mkdir()
    for item, (asin, fault) in enumerate(zip(shop.asins, shop.faults, strict=True)):
        words = shop.words(item)
        photo = draw_photo(words["kind"], words["colour"], words["style"], rng)
        if fault != "no_photo":
            (folder / f"{asin}.jpg").write_bytes(_spoilt(photo, fault))
    tally = Counter(shop.faults)
    texts = {f"items_{kind}": tally[kind] for kind in ("no_text", "no_photo")}
    bad = {f"photos_{kind}": tally[kind] for kind in ("truncated", "empty", "html")}
    return texts | {"photos_good": tally[""] + tally["no_text"]} | bad


def _spoilt(photo: bytes, fault: str) -> bytes:
    """The photo as a failed download leaves it, or unchanged."""
    if fault == "truncated":
        return photo[: len(photo) * 6 // 10]
    if fault == "html":
        return b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"
    return b"" if fault == "empty" else photo


def _readme(counts: dict[str, int], seed: int) -> str:
    table = "\n".join(f"| {name} | {count} |" for name, count in counts.items())
    return README.format(seed=seed, table=table)
