"""The photos of a raw folder: which are usable, and whose they are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.photos import SUFFIXES, PhotoError, item_of_photo, open_photo
from pipeline.progress import Progress
from pipeline.rejects import Reason, Reject

DRAFT_PIXELS = 32


@dataclass
class Intake:
    """What has been read so far of one kind of input.

    Attributes:
        kind: reviews, items or photos.
        seen: how many rows or files were looked at.
        rejects: those that were not taken.
    """

    kind: str
    seen: int = 0
    rejects: list[Reject] = field(default_factory=list)


def with_photos(items: pl.DataFrame, raw: Path, intake: Intake, progress: Progress) -> pl.DataFrame:
    """Add the column `image`: the item's photo below the raw folder if `images/` has a usable one, else null."""
    usable: dict[str, str] = {}
    known = set(items["item_id"])
    for path, reason in check_photos(raw / "images", progress):
        intake.seen += 1
        source = path.relative_to(raw).as_posix()
        item_id = item_of_photo(path)  # looked up among the known ones, never made into a path
        reason = reason or refuse_photo(item_id, known, usable)
        if reason is None:
            usable[item_id] = source
        else:
            intake.rejects.append(Reject(source, None, reason, ""))
    images = [usable.get(item_id) for item_id in items["item_id"]]
    return items.with_columns(pl.Series("image", images, dtype=pl.String))


def refuse_photo(item_id: str, known: set[str], usable: dict[str, str]) -> Reason | None:
    """Why a sound photo is not taken, if it is not."""
    if item_id not in known:
        return Reason.UNKNOWN_ITEM
    return Reason.SECOND_PHOTO if item_id in usable else None


def check_photos(folder: Path, progress: Progress) -> Iterator[tuple[Path, Reason | None]]:
    """Decode each photo of a folder, in the order of names, and tell why it is not usable, if it is not."""
    there = folder.iterdir() if folder.is_dir() else ()
    paths = sorted(path for path in there if path.suffix.lower() in SUFFIXES and path.is_file())
    with ThreadPoolExecutor() as pool, progress("checking photos", len(paths), "photos") as advance:
        for path, reason in zip(paths, pool.map(find_fault, paths), strict=True):
            advance(1, "")
            yield path, reason


def find_fault(path: Path) -> Reason | None:
    """Why a photo cannot be used, or None."""
    try:
        open_photo(path, draft=DRAFT_PIXELS)
    except PhotoError as error:
        return error.reason
    return None
