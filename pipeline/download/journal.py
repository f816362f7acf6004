"""Manifest of a dataset's downloads: a table, plus a journal that preserves a killed process's outcomes."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

import polars as pl
from filelock import lock_descriptor

from mmprep.pipeline.download.outcomes import Outcome, Status
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import DOWNLOADS

Key = tuple[str | None, str | None]


class DownloadManifest:
    """Outcomes of earlier runs and of this one; the latest for each item or raw file's URL counts."""

    def __init__(self, earlier: Iterable[Outcome], journal: IO[str]) -> None:
        self.outcomes = {key_of(outcome): outcome for outcome in earlier}
        self.journal = journal

    def find(self, item_id: str, url: str) -> Outcome | None:
        """The latest outcome of an item's URL; None if it was never tried."""
        outcome = self.outcomes.get((item_id, None))
        return outcome if outcome and outcome.url == url else None

    def record(self, outcome: Outcome) -> None:
        """Record an outcome, immediately also in the journal."""
        self.outcomes[key_of(outcome)] = outcome
        self.journal.write(json.dumps(outcome) + "\n")


def key_of(outcome: Outcome) -> Key:
    """Key of an outcome: the item of a photo, or the URL of a raw file."""
    return (outcome.item_id, None if outcome.item_id is not None else outcome.url)


@contextmanager
def open_manifest(layout: Layout, provenance: Provenance) -> Iterator[DownloadManifest]:
    """Open a dataset's manifest; the table is written when the block ends, also by an exception.

    A killed process leaves its journal, which the next process reads.

    Raises:
        DataError: another process has the manifest open, or the table is damaged.
    """
    layout.download_journal.parent.mkdir(parents=True, exist_ok=True)
    # Line-buffered, so that killing the process loses no outcome.
    with layout.download_journal.open("a+", encoding="utf-8", buffering=1) as journal:
        lock(journal, layout)
        table = DOWNLOADS.read(layout.downloads) if layout.downloads.exists() else pl.DataFrame()
        manifest = DownloadManifest([*read_rows(table), *read_journal(journal)], journal)
        try:
            yield manifest
        finally:
            DOWNLOADS.write(to_frame(manifest.outcomes.values()), layout.downloads, provenance)
            journal.truncate(0)


def lock(journal: IO[str], layout: Layout) -> None:
    """Exclude other downloads of the dataset until the journal is closed or the process ends.

    Raises:
        DataError: another one is running.
    """
    # Not `FileLock`, which needs a separate file: earlier versions lock the journal, and must be excluded too.
    if not lock_descriptor(journal.fileno(), blocking=False):
        raise DataError(f"{layout.raw}: another `mmprep download` of this dataset is running; wait for it or stop it")


def read_rows(table: pl.DataFrame) -> Iterator[Outcome]:
    """The rows of a table as outcomes, without those whose status this version of mmprep does not know."""
    known = {status.value for status in Status}
    for url, item_id, path, status, *rest in table.rows():
        if status in known:
            yield Outcome(url, item_id, path, Status(status), *rest)


def read_journal(journal: IO[str]) -> list[Outcome]:
    """Read the outcomes that a killed process recorded. Its last line may be cut off."""
    journal.seek(0)
    outcomes = []
    text = journal.read()
    for line in text.splitlines():
        try:
            url, item_id, path, status, *rest = json.loads(line)
            outcomes.append(Outcome(url, item_id, path, Status(status), *rest))
        except (ValueError, TypeError):
            continue
    if text and not text.endswith("\n"):
        journal.write("\n")
    return outcomes


def to_frame(outcomes: Iterable[Outcome]) -> pl.DataFrame:
    """The outcomes as a table: raw files first, then photos by item."""
    kinds = (pl.String, pl.String, pl.String, pl.String, pl.Int32, pl.Int64, pl.Int32, pl.String)
    schema = dict(zip(DOWNLOADS.schema.names, kinds, strict=True))
    rows = [(url, item_id, path, status.value, *rest) for url, item_id, path, status, *rest in outcomes]
    return pl.DataFrame(rows, schema=schema, orient="row").sort("item_id", "url", nulls_last=False)
