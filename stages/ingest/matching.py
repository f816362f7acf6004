"""Descriptions and photos compared with the reviewed items: whether the ids of the sources belong together."""

import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.photos.names import item_of_photo
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.id_matching import IdComparison
from mmprep.pipeline.tables.schemas import TEXT_FIELDS
from mmprep.stages.ingest.photos import InputTally

logger = logging.getLogger(__name__)

KEY = "ingest.max_unmatched_fraction"


@dataclass(frozen=True)
class ItemMatches:
    """The reviewed items beside the descriptions and photos of a raw folder.

    Attributes:
        descriptions: reviewed items beside items whose description has a text.
        photos: reviewed items beside items of usable photos.
        unknown_photos: number of these photos' items that are neither reviewed nor described.
        not_photos: names of files among the photos that are none by their name.
        without_text: number of reviewed items whose description has no text.
        repeated: share of the descriptions that are of an item described before.
        empty: kinds of input of which the folder has none: descriptions, photos.
    """

    descriptions: IdComparison
    photos: IdComparison
    unknown_photos: int
    not_photos: tuple[str, ...]
    without_text: int
    repeated: float
    empty: tuple[str, ...]

    @property
    def photo_mismatch(self) -> float:
        """Share of photos that are of no known item or none by their name; at most that of items without a photo."""
        unused = self.unknown_photos + len(self.not_photos)
        return min(self.photos.lacking_share, unused / max(self.photos.available + len(self.not_photos), 1))

    def metrics(self) -> dict[str, int]:
        """Counts for the stage's metrics."""
        return {
            "reviewed_items_with_text": self.descriptions.expected - len(self.descriptions.lacking),
            "reviewed_items_with_photo": self.photos.expected - len(self.photos.lacking),
            "descriptions_without_review": len(self.descriptions.spare),
            "photos_without_review": len(self.photos.spare),
        }


def match_items(
    reviewed: pl.Series, described: pl.DataFrame, table: pl.DataFrame, items: InputTally, photos: InputTally
) -> ItemMatches:
    """Compare the ids of reviews, descriptions and photos.

    Args:
        reviewed: ids of the reviewed items.
        described: the described items, with the columns of texts.
        table: all items, with the column `image`.
        items: the descriptions read.
        photos: the photos checked.
    """
    names = names_of(photos, Reason.UNKNOWN_ITEM)
    unknown = pl.Series([item_of_photo(PurePosixPath(name)) for name in names], dtype=pl.String)
    shown = pl.concat([table.filter(pl.col("image").is_not_null())["item_id"], unknown])
    has_text = pl.any_horizontal(pl.col(*TEXT_FIELDS) != "")
    described = described.select("item_id", has_text=has_text)
    empty = described.filter(~pl.col("has_text"), pl.col("item_id").is_in(reviewed.implode()))
    return ItemMatches(
        descriptions=IdComparison(reviewed, described.filter("has_text")["item_id"]),
        photos=IdComparison(reviewed, shown),
        unknown_photos=unknown.n_unique(),
        not_photos=tuple(names_of(photos, Reason.NOT_A_PHOTO)),
        without_text=len(empty),
        repeated=items.rejects.counts[Reason.DUPLICATE_ITEM] / max(items.seen, 1),
        empty=tuple(name for name, tally in (("descriptions", items), ("photos", photos)) if not tally.seen),
    )


def names_of(photos: InputTally, reason: Reason) -> list[str]:
    """Names of the photos rejected for a reason."""
    return [reject.source for reject in photos.rejects.whole_files() if reject.reason is reason]


def check_matches(raw: Path, matches: ItemMatches, limit: float) -> None:
    """Warn of reviewed items without a description or photo, and fail if they are too many.

    Descriptions of items that nobody reviewed are normal, as a category's metadata has them all; so the share of
    reviewed items without a description counts. Photos may be missing for a good reason, such as a dead URL; so photos
    count only as far as there are also photos of no known item.

    Args:
        raw: the raw folder.
        matches: the comparison.
        limit: largest share of either kind.

    Raises:
        DataError: a share is above the limit; the message has an example of each side and, if there is one, the
            change of spelling that would let ids match.
    """
    if matches.empty:
        kinds = " and no ".join(matches.empty)
        advice = "add them (mmprep download), or read features from files (library: file)"
        logger.warning("%s: no %s of items; %s", raw, kinds, advice)
    if matches.repeated > limit:
        logger.warning(
            "%s: %.0f %% of the descriptions are of an item described before, expected one an item; the first of each "
            "is used; check that no file of reviews or second edition is read as metadata",
            *(raw, 100 * matches.repeated),
        )
    faults = []
    for noun, compared, share, note in (
        ("description", matches.descriptions, matches.descriptions.lacking_share, note_empty(matches.without_text)),
        ("photo", matches.photos, matches.photo_mismatch, note_files(matches.not_photos)),
    ):
        if f"{noun}s" in matches.empty or compared.lacking.is_empty():
            continue
        line = (
            f"{raw}: {len(compared.lacking)} of {compared.expected} reviewed items have no {noun}, and "
            f"{len(compared.spare)} of {compared.available} items with a {noun} have no review "
            f"({compared.explain()}{note})"
        )
        if share > limit:
            advice = "make the ids alike, or raise the limit if nothing is misspelt"
            faults.append(f"{line}; a share of {share:.2g}, more than {KEY} allows ({limit:g}); {advice}")
        else:
            logger.warning("%s", line)
    for fault in faults[1:]:
        logger.warning("%s", fault)
    if faults:
        raise DataError(faults[0])


def note_empty(count: int) -> str:
    """A note of descriptions without a text; empty if there are none."""
    return f"; {count} are described, but without any text" if count else ""


def note_files(names: tuple[str, ...]) -> str:
    """A note of files that are no photos by their name; empty without such files."""
    return f"; {len(names)} files are no photos by their name, such as {names[0]!r}" if names else ""
