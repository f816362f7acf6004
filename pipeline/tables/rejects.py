"""Rejected input, collected in bounded memory for rejects.parquet."""

import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge
from pathlib import Path
from typing import IO
from weakref import finalize

import polars as pl

from mmprep.pipeline.reject_reasons import SURPLUS, Reason, Reject
from mmprep.pipeline.tables.schemas import REJECTS

ROWS_HELD = 50_000


class Rejects:
    """Counts rejects and keeps them for rejects.parquet in bounded memory.

    Rejects of whole files are held in memory. Rejects of lines are held up to ROWS_HELD and then moved to an unnamed
    temporary file, which vanishes with the process. The lines of a file must be appended in order, one file after the
    other.

    Attributes:
        counts: number of rejects by reason.
        first: the first reject of a line, but for surplus; None without one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Start empty; `folder` is for the unnamed temporary file, by default the system's temporary folder."""
        self.counts: Counter[Reason] = Counter()
        self.first: Reject | None = None
        self._folder = folder
        self._whole: list[Reject] = []
        self._lines: list[Reject] = []
        self._frames: list[tuple[str, pl.DataFrame | int]] = []  # by source: the rows, or their offset in the file
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self.counts.total()

    def append(self, reject: Reject) -> None:
        """Add one reject."""
        self.counts[reject.reason] += 1
        if reject.line is None:
            self._whole.append(reject)
            return
        if self.first is None and reject.reason not in SURPLUS:
            self.first = reject
        if self._lines and (self._lines[-1].source != reject.source or len(self._lines) >= ROWS_HELD):
            self._put_away()
        self._lines.append(reject)

    def _put_away(self) -> None:
        """Turn the held lines into a frame; a full frame is written to the disk."""
        source, frame = self._lines[0].source, to_frame(self._lines)
        if len(frame) < ROWS_HELD:
            self._frames.append((source, frame))
        else:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - as long as this object lives
                finalize(self, self._file.close)
            packed = io.BytesIO()
            frame.write_ipc(packed, compression="zstd")
            self._frames.append((source, self._file.seek(0, io.SEEK_END)))
            self._file.write(len(packed.getvalue()).to_bytes(8, "big") + packed.getvalue())
        self._lines.clear()

    def whole_files(self) -> list[Reject]:
        """The rejects of whole files."""
        return self._whole

    def frames(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The rejects of lines, by file and line, each frame with its file."""
        if self._lines:
            self._put_away()
        for source, frame in sorted(self._frames, key=lambda each: each[0]):
            yield source, frame if isinstance(frame, pl.DataFrame) else self._read(frame)

    def _read(self, start: int) -> pl.DataFrame:
        if self._file is None:
            raise TypeError("nothing was put on the disk")
        self._file.seek(start)
        return pl.read_ipc(io.BytesIO(self._file.read(int.from_bytes(self._file.read(8), "big"))))


def by_file_and_line(kinds: Iterable[Rejects]) -> Iterator[pl.DataFrame]:
    """All rejects as frames, by file and line; no file may have lines in two of `kinds`."""
    kinds = list(kinds)
    whole = to_frame(reject for kind in kinds for reject in kind.whole_files())
    for source, frame in merge(*(kind.frames() for kind in kinds), key=lambda each: each[0]):
        before = pl.col("source") <= source
        yield whole.filter(before)
        whole = whole.filter(~before)
        yield frame
    yield whole


def to_frame(rejects: Iterable[Reject]) -> pl.DataFrame:
    """The rejects as a table, by file and line."""
    # A file's name may not be valid UTF-8.
    rows = [
        (source.encode("utf-8", errors="backslashreplace").decode("utf-8"), line, reason.value, excerpt)
        for source, line, reason, excerpt in rejects
    ]
    schema = {"source": pl.String, "line": pl.Int64, "reason": pl.String, "excerpt": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.select(REJECTS.schema.names).sort("source", "line", "reason", nulls_last=False)
