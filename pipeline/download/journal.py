"""The ledger of a dataset's downloads: a table and, until that is written, a journal that outlives a killed process."""

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
    """The outcomes of earlier runs and of this one; the last one of an item or of a raw file's URL counts."""

    def __init__(self, earlier: Iterable[Outcome], journal: IO[str]) -> None:
        self.outcomes = {key_of(outcome): outcome for outcome in earlier}
        self.journal = journal

    def find(self, item_id: str, url: str) -> Outcome | None:
        """What became of an item's URL in an earlier run; None if it was never tried."""
        found = self.outcomes.get((item_id, None))
        return found if found and found.url == url else None

    def record(self, outcome: Outcome) -> None:
        """Note an outcome, at once also in the journal."""
        self.outcomes[key_of(outcome)] = outcome
        self.journal.write(json.dumps(outcome) + "\n")


def key_of(outcome: Outcome) -> Key:
    """What an outcome is about: an item's photo, or a raw file's URL."""
    return (outcome.item_id, None if outcome.item_id is not None else outcome.url)


@contextmanager
def open_manifest(layout: Layout, provenance: Provenance) -> Iterator[DownloadManifest]:
    """Open a dataset's ledger; when the block ends, in whatever way, the table is written.

    Of a process that was killed the journal is left, and read by the next one.

    Raises:
        DataError: another process has it open, or the table is damaged.
    """
    layout.download_journal.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered but for the line, so that killing the process loses nothing.
    with layout.download_journal.open("a+", encoding="utf-8", buffering=1) as journal:
        lock(journal, layout)
        table = DOWNLOADS.read(layout.downloads) if layout.downloads.exists() else pl.DataFrame()
        ledger = DownloadManifest([*read_rows(table), *read_journal(journal)], journal)
        try:
            yield ledger
        finally:
            DOWNLOADS.write(to_frame(ledger.outcomes.values()), layout.downloads, provenance)
            journal.truncate(0)


def lock(journal: IO[str], layout: Layout) -> None:
    """Keep other downloads of the dataset out until the journal is closed or the process ends.

    Raises:
        DataError: one is running.
    """
    # Not `FileLock`, which wants a file of its own: earlier versions lock the journal, and are to be kept out too.
    if not lock_descriptor(journal.fileno(), blocking=False):
        raise DataError(f"{layout.raw}: another `mmprep download` of this dataset is running; wait for it or stop it")


def read_rows(table: pl.DataFrame) -> Iterator[Outcome]:
    """The rows of a table as outcomes; those with a status of another version of mmprep are left out."""
    known = {status.value for status in Status}
    for url, item_id, path, status, *rest in table.rows():
        if status in known:
            yield Outcome(url, item_id, path, Status(status), *rest)


def read_journal(journal: IO[str]) -> list[Outcome]:
    """What a killed process had noted. Its last line may be cut off."""
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
