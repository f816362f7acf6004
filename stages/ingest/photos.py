"""Photos of a raw folder: check that each is usable, and match it to its item."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import polars as pl

from mmprep.pipeline.photos.decode import PhotoError, decode_photo
from mmprep.pipeline.photos.folder import Candidate, PhotoFiles
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.rejects import Rejects
from mmprep.pipeline.tables.schemas import ExtraText
from mmprep.stages.ingest.photo_items import PhotoItems

DRAFT_PIXELS = 32
PHOTOS_AHEAD = 4096  # queued for the threads at once


@dataclass
class InputTally:
    """Running tally of one kind of input.

    Attributes:
        kind: reviews, items or photos.
        seen: number of rows or files read.
        rejects: the rejected ones.
        extra_text: columns that items have in addition.
        unusable: for each field of items.parquet, the number of rows whose published value could not be used.
        examples: for each of these fields, the first such row: file and line.
    """

    kind: str
    seen: int = 0
    rejects: Rejects = field(default_factory=Rejects)
    extra_text: tuple[ExtraText, ...] = ()
    unusable: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


def with_photos(items: pl.DataFrame, raw: Path, intake: InputTally, progress: Progress) -> pl.DataFrame:
    """Add the column `image`: the name of the item's usable photo in `PhotoFiles(raw)`, or null."""
    usable: dict[str, str] = {}
    known = set(items["item_id"])
    with PhotoFiles(raw) as files:
        photo_items = PhotoItems(raw, known, files)
        for name, fault in check_photos(files, progress):
            intake.seen += 1
            item_id = "" if fault else photo_items.item_of(name)
            reason = fault or refuse_photo(item_id, known, usable)
            if reason is None:
                usable[item_id] = name
            else:
                intake.rejects.append(Reject(name, None, reason, ""))
    photo_items.report()
    images = [usable.get(item_id) for item_id in items["item_id"]]
    return items.with_columns(pl.Series("image", images, dtype=pl.String))


def refuse_photo(item_id: str, known: set[str], usable: dict[str, str]) -> Reason | None:
    """The reason to reject a photo that decodes, or None."""
    if item_id not in known:
        return Reason.UNKNOWN_ITEM
    return Reason.SECOND_PHOTO if item_id in usable else None


def check_photos(files: PhotoFiles, progress: Progress) -> Iterator[Candidate]:
    """Decode each photo of a raw folder, in the order of names; yield names and reasons why unusable, or None."""
    with ThreadPoolExecutor() as pool:
        names = list(files.names())
        with progress("checking photos", len(names), "photos") as advance:
            for start in range(0, len(names), PHOTOS_AHEAD):
                batch = names[start : start + PHOTOS_AHEAD]
                for (name, _), reason in zip(batch, pool.map(partial(find_fault, files), batch), strict=True):
                    advance(1, "")
                    yield name, reason


def find_fault(files: PhotoFiles, candidate: Candidate) -> Reason | None:
    """The reason why a photo is unusable, or None; read here, so that each thread holds one photo at a time."""
    name, refused = candidate
    if refused is not None:
        return refused
    try:
        decode_photo(files.read(name), draft=DRAFT_PIXELS)
    except PhotoError as error:
        # Without a suffix, nothing says that the file should be a photo.
        other = error.reason in (Reason.NOT_AN_IMAGE, Reason.EMPTY_FILE) and not PurePosixPath(name).suffix
        return Reason.NOT_A_PHOTO if other else error.reason
    return None
