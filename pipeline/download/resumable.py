"""Fetching one large file: streamed beside its place, continued where it broke off, checked before it appears."""

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
    """A file on its way.

    Attributes:
        target: the file's place when it is whole.
        url: where it comes from.
    """

    target: Path
    url: str

    @property
    def path(self) -> Path:
        """What has come so far."""
        return self.target.with_name(f"{self.target.name}.partial")

    @property
    def note(self) -> Path:
        """What tells whether the rest belongs to the same file."""
        return self.target.with_name(f"{self.target.name}.note.partial")

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start from nothing with a version of the file. Bytes of another one are gone before the note changes."""
        self.discard()
        write_json(self.note, {"url": self.url, "validator": validator, "total": total})

    def discard(self) -> None:
        """Forget all that has come."""
        remove(self.path)
        remove(self.note)

    def state(self) -> tuple[int, str | None, int | None]:
        """The bytes that can be continued, the version that they are of, and the whole file's size if it is known."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            size = self.path.stat().st_size
            if note["url"] == self.url and note["validator"]:
                return size, note["validator"], note["total"]
        except (OSError, ValueError, LookupError, TypeError):
            pass  # there is nothing to continue, or nothing that says of what it is
        return 0, None, None


async def fetch_partial(
    client: httpx.AsyncClient, partial: PartialDownload, params: DownloadParams, progress: Progress
) -> tuple[int, int]:
    """Fetch a file as far as `partial.path`, continuing what an earlier process left.

    Returns:
        The file's size in bytes, and the attempts.

    Raises:
        FetchError: the last attempt's.
    """

    async def attempt() -> int:
        return await continue_file(client, partial, params, progress)

    return await retry(attempt, params)


async def continue_file(
    client: httpx.AsyncClient, partial: PartialDownload, params: DownloadParams, progress: Progress
) -> int:
    """Ask for what is missing and append it; if the file has changed meanwhile, begin anew."""
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
    """The body's length in bytes if the answer tells it."""
    told = response.headers.get("Content-Length")
    return None if told is None else int(told)


def validator_of(response: httpx.Response) -> str | None:
    """What names this version of the file in If-Range: a strong ETag, else the date of its last change."""
    etag = response.headers.get("ETag", "")
    found: str | None = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    return found


def check_range(response: httpx.Response, partial: PartialDownload, offset: int, total: int | None) -> None:
    """Check that an answer continues what is there.

    Raises:
        FetchError: it does not; what is there is discarded, and another try begins anew.
    """
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    fits = found and int(found[1]) == offset and (total is None or int(found[2]) == total)
    same = validator_of(response) in (None, partial.state()[1])
    if response.status_code != 206 or not fits or not same:
        partial.discard()
        detail = f"{response.status_code} {response.headers.get('Content-Range', 'without a range')}"
        raise FetchError(Status.CONNECTION_FAILED, f"does not continue the file: {detail}", retry=True)


@contextmanager
def bytes_shown(
    progress: Progress, partial: PartialDownload, offset: int, total: int | None
) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes that starts where the file continues."""
    with progress(f"fetching {partial.target.name}", total, "bytes") as advance:
        advance(offset, "")
        yield lambda size: advance(size, "")


def finish(partial: PartialDownload, progress: Progress) -> None:
    """Check a file that has come whole, and give it its name.

    Raises:
        FetchError: it is damaged, or not what its name says. It is discarded.
    """
    fault = find_fault(partial, progress)
    if fault:
        partial.discard()
        raise FetchError(Status.DAMAGED, fault, 200)
    partial.path.replace(partial.target)
    partial.discard()


def find_fault(partial: PartialDownload, progress: Progress) -> str:
    """What is wrong with a file, told by reading all of it if it is compressed; empty if nothing is."""
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
