"""Stage `ingest`: parse raw reviews, metadata and photos into tables of interactions, items and rejects."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.reject_reasons import SURPLUS, Reason, Reject, count_reasons, excerpt
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.rejects import Rejects, by_file_and_line
from mmprep.pipeline.tables.schemas import EXTRA_TEXTS, INTERACTIONS, RAW_ITEMS, REJECTS, TEXT_FIELDS, ExtraText
from mmprep.stages.ingest.catalogue import longest_line
from mmprep.stages.ingest.columns import ColumnsParams
from mmprep.stages.ingest.json_documents import read_rows
from mmprep.stages.ingest.line_reader import LineBlock, prefetch
from mmprep.stages.ingest.matching import ItemMatches, check_matches, match_items
from mmprep.stages.ingest.matrices import common_shape
from mmprep.stages.ingest.nested import details_text, nested_text
from mmprep.stages.ingest.photos import InputTally, with_photos
from mmprep.stages.ingest.raw_files import RawFile, companions_of, matrix_paths, recognise_files
from mmprep.stages.ingest.records import ITEMS, REVIEWS, Fault, Item, Parsed, Review

logger = logging.getLogger(__name__)

FRAME_ROWS = 50_000  # at least, except in the last frame
IDS_BY_NUMBER = "users and items are the numbers of rows and columns of matrices, from 0"
EXTRA: dict[ExtraText, Callable[[object], str]] = {"features": nested_text, "details": details_text}
CUT_OFF = (Reason.CUT_OFF_FILE, Reason.BROKEN_DOCUMENT)
UNREADABLE_PARTS = (*CUT_OFF, Reason.LINE_TOO_LONG)
SMALL_PIECE = 8192  # bytes; smaller blocks are parsed line by line


class IngestParams(Params):
    """Section `ingest` of params.yaml.

    Attributes:
        files: paths to read, below the raw folder; empty for all files of a known format.
        max_reject_fraction: largest share of reviews, of items or of photos that may be rejected.
        max_unmatched_fraction: largest share of reviewed items without a description, and largest share of photos of
            no known item while as large a share of the reviewed items has no photo. Raw folders without metadata, or
            without photos, are exempt.
        columns: columns of users, items, ratings and times in reviews with other names.
        extra_text: columns that items get in addition, for templates that name them: `features` and `details`.
    """

    files: tuple[str, ...] = ()
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    max_unmatched_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    columns: ColumnsParams = ColumnsParams()
    extra_text: tuple[ExtraText, ...] = ()

    @model_serializer(mode="wrap")
    def without_default_extra_text(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The parameters as recorded; without an empty `extra_text`, as in tables recorded before it existed."""
        values: dict[str, Any] = serialise(self)
        return {key: value for key, value in values.items() if key != "extra_text" or value}


class DistinctIds:
    """Distinct ids of a stream of ids.

    Attributes:
        seen: number of ids added, repetitions included.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._known = pl.Series("id", [], dtype=pl.String)
        self._pending: list[pl.Series] = []

    def add(self, ids: pl.Series) -> None:
        """Add ids."""
        self.seen += len(ids)
        self._pending.append(ids.unique())
        if sum(map(len, self._pending)) > max(FRAME_ROWS, len(self._known)):  # so that the work stays linear
            self.all()

    def all(self) -> pl.Series:
        """Each id once, unordered."""
        self._known = pl.concat([self._known, *(ids.alias("id") for ids in self._pending)]).unique()
        self._pending.clear()
        return self._known


def run(params: IngestParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Read a dataset's raw folder and write its interactions, items and rejects.

    Reviews are streamed in bounded memory; items and the distinct ids of users are held in memory.

    Raises:
        MissingInputError: there is no such folder, or it holds no reviews.
        DataError: more than `max_reject_fraction` of the reviews, items or photos was rejected, or more than
            `max_unmatched_fraction` of the reviewed items matches no description or photo.
    """
    raw = layout.require_raw()
    files, unknown = recognise_files(raw, params.files, params.columns)
    shape = common_shape(matrix_paths(files))
    inputs = [*(file.path for file in files), *companions_of(files)]
    provenance = record("ingest", layout, params, inputs, **({} if shape is None else {"ids": IDS_BY_NUMBER}))
    folder = layout.rejects.parent
    folder.mkdir(parents=True, exist_ok=True)
    tallies = reviews, items, photos = [
        InputTally(kind, rejects=Rejects(folder)) for kind in ("reviews", "items", "photos")
    ]
    users, reviewed = DistinctIds(), DistinctIds()
    with INTERACTIONS.writer(layout.raw_interactions, provenance) as write:
        for frame in prefetch(read_kind(files, reviews, progress)):
            write(frame)
            users.add(frame["user_id"])
            reviewed.add(frame["item_id"])
        items.extra_text = params.extra_text
        described = pl.concat([pl.DataFrame(schema=columns_of(items)), *read_kind(files, items, progress)])
        table = with_photos(with_undescribed(described, reviewed.all()), raw, photos, progress)
        rejects = [unknown, *(tally.rejects for tally in tallies)]
        with REJECTS.writer(layout.rejects, provenance) as write:
            for frame in by_file_and_line(rejects):
                write(frame)
        for tally in tallies:
            check_fraction(tally, params.max_reject_fraction, layout.rejects)
        warn_of_unusable(items)
        matches = match_items(reviewed.all(), described, table, items, photos)
        check_matches(raw, matches, params.max_unmatched_fraction)
    RAW_ITEMS.write(table, layout.raw_items, provenance)
    metrics = summarise(users, reviewed, table, matches, rejects)
    if items.unusable:
        metrics["unusable_fields"] = dict(items.unusable.most_common())
    if shape is not None:
        metrics |= {"matrix_rows": shape[0], "matrix_columns": shape[1]}
    write_json(layout.metrics("ingest"), metrics)
    return metrics


def read_kind(files: list[RawFile], intake: InputTally, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the valid rows of all files of one kind as frames, in the order of files and lines; reject the others.

    Blocks are merged into larger frames, since every operation on a frame has a fixed cost.
    """
    described: set[str] = set()
    pending: list[pl.DataFrame] = []
    with progress(f"reading {intake.kind}", None, "rows") as advance:
        for file in files:
            if file.known.kind != intake.kind:
                continue
            before = intake.seen
            for frames in frames_of(file, intake, described):
                pending.extend(frames)
                if sum(map(len, pending)) >= FRAME_ROWS:
                    yield pl.concat(pending)
                    pending.clear()
                advance(intake.seen - before, file.source)
                before = intake.seen
    if pending:
        yield pl.concat(pending)


def frames_of(file: RawFile, intake: InputTally, described: set[str]) -> Iterator[list[pl.DataFrame]]:
    """Yield the valid rows of one file as frames, those of a block at a time; reject the others."""
    if file.known.read_frames is not None:
        for rows in file.known.read_frames(file.head, file.source):
            if isinstance(rows, Reject) and rows.reason in UNREADABLE_PARTS:
                refuse_part(file, rows, intake)
            elif isinstance(rows, Reject):
                intake.seen += 1
                intake.rejects.append(rows)
            else:
                intake.seen += len(rows)
                yield [rows]
        return
    reader = Reader(file, intake, described)
    if file.known.read_parsed is not None:
        for parsed in prefetch(file.known.read_parsed(file.path, file.source)):
            if isinstance(parsed, Reject):
                refuse_part(file, parsed, intake)
            else:
                yield [reader.frame((number, row, b"") for number, row in parsed)]
        return
    for piece in prefetch(read_rows(file.path, file.source, longest_line(file.path))):
        if isinstance(piece, Reject):
            refuse_part(file, piece, intake)
        else:
            yield list(reader.frames(piece))


def refuse_part(file: RawFile, reject: Reject, intake: InputTally) -> None:
    """Record the part of a file that could not be read."""
    intake.rejects.append(reject)
    if reject.reason in CUT_OFF:
        logger.warning(
            "%s: breaks off in line %s (%s); the lines before it are kept, and the number of lost lines is not known; "
            "fetch the file again",
            *(file.path, reject.line, reject.excerpt),
        )


class Reader:
    """Parses the blocks of one file into frames of valid rows.

    Of several descriptions of an item, in this file or an earlier one (`described`), the first is kept.
    """

    def __init__(self, file: RawFile, intake: InputTally, described: set[str]) -> None:
        self._source = file.source
        self._recheck = file.known.parse_block
        make = file.known.block_parser
        self._parse_block = file.known.parse_block if make is None else make(file.head)
        self._parse = file.parse
        self._schema = REVIEWS if file.known.kind == "reviews" else columns_of(intake)
        self._described = described
        self._intake = intake

    def frames(self, piece: LineBlock) -> Iterator[pl.DataFrame]:
        """The valid rows of a block: parsed at once if all are valid, else by halves, and finally line by line."""
        frame = None if self._parse_block is None else self._parse_block(piece)
        if frame is not None:
            self._intake.seen += len(frame)
            yield frame
        elif self._parse_block is not None and len(piece.content) > SMALL_PIECE and (halves := piece.halves()):
            for half in halves:
                yield from self.frames(half)
        else:
            yield self._line_by_line(piece)

    def frame(self, parsed: Iterable[tuple[int, Parsed, bytes]]) -> pl.DataFrame:
        """The valid ones of parsed rows, each with its number and the beginning of its text; reject the others."""
        rows: list[Any] = []
        for number, outcome, line in parsed:
            for row in outcome if isinstance(outcome, list) else [outcome]:
                self._intake.seen += 1
                kept = self._describe_once(row, number) if isinstance(row, Item) else row
                if isinstance(kept, Reason):
                    self._intake.rejects.append(Reject(self._source, number, kept, excerpt(line)))
                elif isinstance(kept, Fault):
                    shown = f"{kept.detail}; {excerpt(line)}"
                    self._intake.rejects.append(Reject(self._source, number, kept.reason, shown))
                else:
                    rows.append(kept)
        return pl.DataFrame(rows, schema=self._schema, orient="row")

    def _line_by_line(self, piece: LineBlock) -> pl.DataFrame:
        return self.frame((number, self._parse_line(line), line) for number, line in piece.lines())

    def _describe_once(self, item: Item, number: int) -> tuple[Any, ...] | Reason:
        """The row of an item, unless it was described before; counts the fields that could not be used."""
        if item.item_id in self._described:
            return Reason.DUPLICATE_ITEM
        self._described.add(item.item_id)
        self._intake.unusable.update(item.unusable)
        for name in item.unusable:
            self._intake.examples.setdefault(name, f"{self._source}, line {number}")
        return (*item[: len(ITEMS)], *(EXTRA[name](getattr(item, name)) for name in self._intake.extra_text))

    def _parse_line(self, line: bytes) -> Parsed:
        parsed = self._parse(line)
        if (
            isinstance(parsed, Reason | Fault)
            and self._recheck is not None
            and (frame := self._recheck(LineBlock(1, line))) is not None
        ):
            # The block parser skips fields that it does not need, faults included. The outcome of a row must not
            # depend on its neighbours, so a row that the block parser accepts is accepted here too.
            return [Review(*row) for row in frame.iter_rows()]
        return parsed


def columns_of(items: InputTally) -> dict[str, type[pl.String]]:
    """Columns of item descriptions, before photos are added."""
    return ITEMS | dict.fromkeys(items.extra_text, pl.String)


def with_undescribed(described: pl.DataFrame, reviewed: pl.Series) -> pl.DataFrame:
    """One row per item, described or only reviewed, sorted by id; the latter have empty text."""
    others = pl.DataFrame({"item_id": reviewed}).join(described, on="item_id", how="anti")
    texts = [name for name in (*TEXT_FIELDS, *EXTRA_TEXTS) if name in described.columns]
    empty = others.with_columns(*(pl.lit("").alias(name) for name in texts), image_url=pl.lit(None, pl.String))
    return pl.concat([described, empty.select(described.columns)]).sort("item_id")


def warn_of_unusable(items: InputTally) -> None:
    """Warn, for each field, of descriptions whose value could not be used."""
    for name, count in items.unusable.most_common():
        logger.warning(
            "%s: the value of %d of %d descriptions could not be used, first in %s; found another shape than "
            "docs/formats.md lists, or markup without text; the column is empty there",
            *(name, count, items.seen, items.examples[name]),
        )


def check_fraction(intake: InputTally, limit: float, rejects: Path) -> None:
    """Fail if more than a share `limit` of an input was rejected.

    Raises:
        DataError: the message has the counts by reason.
    """
    bad = {reason: count for reason, count in intake.rejects.counts.items() if reason not in SURPLUS}
    count = sum(bad.values())
    if count / max(intake.seen, 1) > limit:  # a quotient, as a product is rounded: 0.29 * 100 < 29
        reasons = ", ".join(f"{count} {reason}" for reason, count in count_reasons(bad).items())
        first = intake.rejects.first
        example = "" if first is None else f"; the first is line {first.line} of {first.source}: {first.excerpt}"
        raise DataError(
            f"{count} of {intake.seen} {intake.kind} rejected ({reasons}), more than "
            f"ingest.max_reject_fraction allows ({limit:g}); see {rejects}, fix the input or raise the limit{example}"
        )


def summarise(
    users: DistinctIds, reviewed: DistinctIds, items: pl.DataFrame, matches: ItemMatches, rejects: list[Rejects]
) -> dict[str, Any]:
    """The stage's metrics."""
    counts = sum((table.counts for table in rejects), Counter[Reason]())
    return {
        "users": len(users.all()),
        "reviewed_items": len(reviewed.all()),
        "interactions": users.seen,
        "items": len(items),
        **matches.metrics(),
        "cut_off_files": sum(counts[reason] for reason in CUT_OFF),
        "rejects": counts.total(),
        "rejects_by_reason": count_reasons(counts),
    }
