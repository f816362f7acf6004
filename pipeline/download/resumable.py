"""Resumable download of a large file: streamed to a partial file, continued after interruptions, checked at the end."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from mmprep.pipeline.download.client import open_url, save_body
from mmprep.pipeline.download.outcomes import DownloadParams, Status
from mmprep.pipeline.download.retry import FetchError, retry
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.storage.files import remove, write_json

CHECK_BYTES = 1 << 20
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class PartialDownload:
    """A partially downloaded file.

    Attributes:
        target: path of the complete file.
        url: its source.
    """

    target: Path
    url: str

    @property
    def path(self) -> Path:
        """Path of the bytes received so far."""
        return self.target.with_name(f"{self.target.name}.partial")

    @property
    def note(self) -> Path:
        """Path of the JSON that identifies the version of the file being downloaded."""
        return self.target.with_name(f"{self.target.name}.note.partial")

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start a version of the file from scratch. Bytes of another version are removed before the note changes."""
        self.discard()
        write_json(self.note, {"url": self.url, "validator": validator, "total": total})

    def discard(self) -> None:
        """Remove the bytes received and the note."""
        remove(self.path)
        remove(self.note)

    def state(self) -> tuple[int, str | None, int | None]:
        """Number of bytes to continue from, the validator of their version, and the complete file's size if known."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            size = self.path.stat().st_size
            if note["url"] == self.url and note["validator"]:
                return size, note["validator"], note["total"]
        except (OSError, ValueError, LookupError, TypeError):
            pass  # nothing to continue, or no valid note of its version
        return 0, None, None


async def fetch_partial(
    client: httpx.AsyncClient, partial: PartialDownload, params: DownloadParams, progress: Progress
) -> tuple[int, int]:
    """Download a file to `partial.path`, continuing what an earlier process left.

    Returns:
        The file's size in bytes, and the number of attempts.

    Raises:
        FetchError: the error of the last attempt.
    """

    async def attempt() -> int:
        return await continue_file(client, partial, params, progress)

    return await retry(attempt, params)


async def continue_file(
    client: httpx.AsyncClient, partial: PartialDownload, params: DownloadParams, progress: Progress
) -> int:
    """Request the missing range and append it; if the file has changed meanwhile, start over."""
    offset, validator, total = partial.state()
    if offset and offset == total:
        return offset
    headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset and validator else {}
    async with open_url(client, partial.url, headers, expected=(200, 206, 416)) as response:
        if response.status_code == 200:
            offset, total = 0, length(response)
            partial.begin(validator_of(response), total)
        else:
            check_range(response, partial, offset, total)
        if total is not None and total > params.max_file_bytes:
            raise FetchError(Status.TOO_LARGE, f"{total} bytes, allowed are {params.max_file_bytes}", 200)
        with partial.path.open("ab") as file, bytes_shown(progress, partial, offset, total) as advance:
            size = offset + await save_body(response, file, params.max_file_bytes - offset, advance)
    if total not in (None, size):
        raise FetchError(Status.CONNECTION_FAILED, f"{size} of {total} bytes came", retry=True)
    return size


def length(response: httpx.Response) -> int | None:
    """The body's length in bytes; None if the response does not declare it."""
    declared = response.headers.get("Content-Length")
    return None if declared is None else int(declared)


def validator_of(response: httpx.Response) -> str | None:
    """Validator of the file's version for If-Range: a strong ETag, else the Last-Modified date."""
    etag = response.headers.get("ETag", "")
    validator: str | None = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    return validator


def check_range(response: httpx.Response, partial: PartialDownload, offset: int, total: int | None) -> None:
    """Check that a response continues the bytes received so far.

    Raises:
        FetchError: it does not; the bytes are discarded, and the next attempt starts over.
    """
    content_range = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    fits = content_range and int(content_range[1]) == offset and (total is None or int(content_range[2]) == total)
    same = validator_of(response) in (None, partial.state()[1])
    if response.status_code != 206 or not fits or not same:
        partial.discard()
        detail = f"{response.status_code} {response.headers.get('Content-Range', 'without a range')}"
        raise FetchError(Status.CONNECTION_FAILED, f"does not continue the file: {detail}", retry=True)


@contextmanager
def bytes_shown(
    progress: Progress, partial: PartialDownload, offset: int, total: int | None
) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes that starts at `offset`."""
    with progress(f"fetching {partial.target.name}", total, "bytes") as advance:
        advance(offset, "")
        yield lambda size: advance(size, "")


def finish(partial: PartialDownload, progress: Progress) -> None:
    """Check a completely received file and rename it to its target.

    Raises:
        FetchError: it is damaged, or its content does not match its name. It is discarded.
    """
    fault = find_fault(partial, progress)
    if fault:
        partial.discard()
        raise FetchError(Status.DAMAGED, fault, 200)
    partial.path.replace(partial.target)
    partial.discard()


def find_fault(partial: PartialDownload, progress: Progress) -> str:
    """Describe what is wrong with a file, after reading all of it if it is compressed; empty if it is valid."""
    with partial.path.open("rb") as file:
        start = file.read(CHECK_BYTES)
        if not start:
            return "empty"
        if partial.target.suffix != ".gz":
            return "a web page instead of the file" if start.lstrip().startswith(b"<") else ""
        if not start.startswith(GZIP_MAGIC):
            return f"not gzip; begins with {start[:20]!r}"
        file.seek(0)
        size = partial.path.stat().st_size
        with progress(f"checking {partial.target.name}", size, "bytes") as advance, gzip.open(file) as content:
            try:
                read = 0
                while content.read(CHECK_BYTES):
                    advance(file.tell() - read, "")
                    read = file.tell()
            except (EOFError, OSError, zlib.error) as error:
                return f"damaged gzip: {error}"
    return ""
