"""The photos of a raw folder: which are usable, and whose they are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import polars as pl

from mmprep.pipeline.photos.decode import PhotoError, decode_photo
from mmprep.pipeline.photos.folder import Candidate, PhotoFiles
from mmprep.pipeline.photos.names import item_of_photo
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.rejects import Rejects

DRAFT_PIXELS = 32
PHOTOS_AHEAD = 4096  # that wait for a thread


@dataclass
class InputTally:
    """What has been read so far of one kind of input.

    Attributes:
        kind: reviews, items or photos.
        seen: how many rows or files were looked at.
        rejects: those that were not taken.
    """

    kind: str
    seen: int = 0
    rejects: Rejects = field(default_factory=Rejects)


def with_photos(items: pl.DataFrame, raw: Path, intake: InputTally, progress: Progress) -> pl.DataFrame:
    """Add the column `image`: the name of the item's photo in `PhotoFiles(raw)` if a usable one is there, else null."""
    usable: dict[str, str] = {}
    known = set(items["item_id"])
    for name, fault in check_photos(raw, progress):
        intake.seen += 1
        item_id = item_of_photo(PurePosixPath(name))  # looked up among the known ones, never made into a path
        reason = fault or refuse_photo(item_id, known, usable)
        if reason is None:
            usable[item_id] = name
        else:
            intake.rejects.append(Reject(name, None, reason, ""))
    images = [usable.get(item_id) for item_id in items["item_id"]]
    return items.with_columns(pl.Series("image", images, dtype=pl.String))


def refuse_photo(item_id: str, known: set[str], usable: dict[str, str]) -> Reason | None:
    """Why a sound photo is not taken, if it is not."""
    if item_id not in known:
        return Reason.UNKNOWN_ITEM
    return Reason.SECOND_PHOTO if item_id in usable else None


def check_photos(raw: Path, progress: Progress) -> Iterator[Candidate]:
    """Decode each photo of a raw folder, in the order of names, and tell why it is not usable, if it is not."""
    with PhotoFiles(raw) as files, ThreadPoolExecutor() as pool:
        names = list(files.names())
        with progress("checking photos", len(names), "photos") as advance:
            for start in range(0, len(names), PHOTOS_AHEAD):
                some = names[start : start + PHOTOS_AHEAD]
                for (name, _), reason in zip(some, pool.map(partial(find_fault, files), some), strict=True):
                    advance(1, "")
                    yield name, reason


def find_fault(files: PhotoFiles, candidate: Candidate) -> Reason | None:
    """Why a photo cannot be used, or None; it is read here, so that no more photos are held than there are threads."""
    name, refused = candidate
    if refused is not None:
        return refused
    try:
        decode_photo(files.read(name), draft=DRAFT_PIXELS)
    except PhotoError as error:
        return error.reason
    return None
