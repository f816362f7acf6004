"""Stage `ingest`: raw reviews, metadata and photos to three tables: interactions, items, rejects."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from pipeline.errors import DataError, MissingInputError
from pipeline.files import write_json
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.photos import SUFFIXES, PhotoError, item_of_photo, open_photo
from pipeline.progress import Progress, silent
from pipeline.provenance import record
from pipeline.rejects import SURPLUS, Reason, Reject, count_reasons, excerpt, to_frame
from pipeline.tables import INTERACTIONS, RAW_ITEMS, REJECTS
from stages.formats import amazon_2018
from stages.formats.lines import read_lines

logger = logging.getLogger(__name__)

ROW_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
LINES_TO_RECOGNISE = 100
BATCH_ROWS = 50_000
DRAFT_PIXELS = 32


class IngestParams(Params):
    """Section `ingest` of params.yaml."""

    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05


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


def run(params: IngestParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Read a dataset's raw folder and write its interactions, items and rejects.

    Raises:
        MissingInputError: there is no such folder, or no reviews in it.
        DataError: more than `max_reject_fraction` of the reviews, items or photos was rejected.
    """
    raw = layout.require_raw()
    review_files, item_files, unknown = recognise_files(raw)
    if not review_files:
        raise MissingInputError(
            f"{raw}: no reviews found among {len(item_files) + len(unknown)} files; expected JSON lines of the Amazon "
            "2018 edition (overall, reviewerID, asin, unixReviewTime), plain or .gz"
        )
    reviews, items, photos = Intake("reviews"), Intake("items"), Intake("photos")
    interactions = read_reviews(review_files, raw, reviews, progress)
    described = read_items(item_files, raw, items, progress)
    table = with_photos(all_items(interactions, described), raw, photos, progress)

    intakes = (reviews, items, photos)
    provenance = record("ingest", layout, params, [*review_files, *item_files])
    rejects = [*unknown, *(reject for intake in intakes for reject in intake.rejects)]
    REJECTS.write(to_frame(rejects), layout.rejects, provenance)
    for intake in intakes:
        check_fraction(intake, params.max_reject_fraction, layout.rejects)
    INTERACTIONS.write(interactions, layout.raw_interactions, provenance)
    RAW_ITEMS.write(table, layout.raw_items, provenance)
    metrics = summarise(interactions, table, rejects)
    write_json(layout.metrics("ingest"), metrics)
    return metrics


def recognise_files(raw: Path) -> tuple[list[Path], list[Path], list[Reject]]:
    """Sort the files of a raw folder by what their first rows are: reviews, items, or neither.

    Raises:
        MissingInputError: one of them is a link to nothing.
    """
    reviews, items, unknown = [], [], []
    for path in sorted(path for path in raw.iterdir() if path.name.endswith(ROW_SUFFIXES) and not path.is_dir()):
        if not path.exists():
            raise MissingInputError(f"{path}: a link to a file that is not there")
        rows = list(first_rows(path))
        if any(map(amazon_2018.is_review, rows)):
            reviews.append(path)
        elif any(map(amazon_2018.is_item, rows)):
            items.append(path)
        else:
            reason = Reason.UNKNOWN_FORMAT if path.stat().st_size else Reason.EMPTY_FILE
            unknown.append(Reject(path.name, None, reason, ""))
            logger.warning("%s: %s; not read", path, reason.value)
    return reviews, items, unknown


def first_rows(path: Path) -> Iterator[dict[str, object]]:
    """The objects among the first lines of a file."""
    for number, line in read_lines(path, path.name, []):
        row = amazon_2018.parse_object(line)
        if isinstance(row, dict):
            yield row
        if number >= LINES_TO_RECOGNISE:
            return


def read_reviews(files: Iterable[Path], raw: Path, intake: Intake, progress: Progress) -> pl.DataFrame:
    """The usable reviews of all files, in the order of files and lines."""
    schema = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    batches = [pl.DataFrame(schema=schema)]
    rows: list[amazon_2018.Review] = []
    for source, number, line, row in read_rows(files, raw, intake, progress):
        review = amazon_2018.parse_review(row)
        if isinstance(review, Reason):
            intake.rejects.append(Reject(source, number, review, excerpt(line)))
            continue
        rows.append(review)
        if len(rows) == BATCH_ROWS:
            batches.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows = []
    batches.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return pl.concat(batches)


def read_items(files: Iterable[Path], raw: Path, intake: Intake, progress: Progress) -> dict[str, amazon_2018.Item]:
    """The items that the files describe, by id; the first description of an item is kept."""
    items: dict[str, amazon_2018.Item] = {}
    for source, number, line, row in read_rows(files, raw, intake, progress):
        item = amazon_2018.parse_item(row)
        if isinstance(item, Reason):
            intake.rejects.append(Reject(source, number, item, excerpt(line)))
        elif item.item_id in items:
            intake.rejects.append(Reject(source, number, Reason.DUPLICATE_ITEM, excerpt(line)))
        else:
            items[item.item_id] = item
    return items


def read_rows(
    files: Iterable[Path], raw: Path, intake: Intake, progress: Progress
) -> Iterator[tuple[str, int, bytes, dict[str, object]]]:
    """Each JSON object of the files as (source, line number, line, object); the other lines go to the rejects."""
    with progress(f"reading {intake.kind}", None, "rows") as advance:
        for path in files:
            source = path.relative_to(raw).as_posix()
            for number, line in read_lines(path, source, intake.rejects):
                intake.seen += 1
                row = amazon_2018.parse_object(line)
                if isinstance(row, Reason):
                    intake.rejects.append(Reject(source, number, row, excerpt(line)))
                else:
                    yield source, number, line, row
                advance(1, "")


def all_items(interactions: pl.DataFrame, described: dict[str, amazon_2018.Item]) -> pl.DataFrame:
    """A row an item, described or only reviewed, by id."""
    ids = sorted({*described, *interactions["item_id"].unique()})
    empty = amazon_2018.Item("", "", "", "", "", None)
    rows = [described.get(item_id, empty)._replace(item_id=item_id) for item_id in ids]
    return pl.DataFrame(rows, schema=dict.fromkeys(amazon_2018.Item._fields, pl.String), orient="row")


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
    paths = (
        sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()) if folder.is_dir() else []
    )
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


def check_fraction(intake: Intake, limit: float, rejects: Path) -> None:
    """Refuse an input of which too much was rejected.

    Raises:
        DataError: with the counts by reason.
    """
    bad = [reject for reject in intake.rejects if reject.reason not in SURPLUS]
    if len(bad) / max(intake.seen, 1) > limit:  # a product would be rounded: 0.29 * 100 < 29
        reasons = ", ".join(f"{count} {reason}" for reason, count in count_reasons(bad).items())
        raise DataError(
            f"{len(bad)} of {intake.seen} {intake.kind} rejected ({reasons}), more than "
            f"ingest.max_reject_fraction allows ({limit:g}); see {rejects}, mend the input or raise the limit"
        )


def summarise(interactions: pl.DataFrame, items: pl.DataFrame, rejects: list[Reject]) -> dict[str, Any]:
    """The stage's metrics."""
    has_text = pl.any_horizontal(pl.col("title", "description", "categories", "brand") != "")
    return {
        "users": interactions["user_id"].n_unique(),
        "reviewed_items": interactions["item_id"].n_unique(),
        "interactions": len(interactions),
        "items": len(items),
        "items_with_text": items.select(has_text.sum()).item(),
        "items_with_photo": len(items) - items["image"].null_count(),
        "rejects": len(rejects),
        "rejects_by_reason": count_reasons(rejects),
    }
