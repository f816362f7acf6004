"""Photos from item URLs: select those to fetch, and fetch them concurrently."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from mmprep.pipeline.download.by_host import run_per_host
from mmprep.pipeline.download.client import check_url, explained, make_client, open_url, save_body
from mmprep.pipeline.download.journal import DownloadManifest
from mmprep.pipeline.download.outcomes import GOOD, DownloadParams, Outcome, Status, is_final, may_pass
from mmprep.pipeline.download.retry import FetchError, retry
from mmprep.pipeline.photos.decode import SUFFIXES, PhotoError, open_photo, suffix_of
from mmprep.pipeline.photos.names import item_of_photo, photo_name
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.storage.temporary import SUFFIX, is_temporary, remove_leftovers, temporary_name

IMAGES = "images"
DRAFT_PIXELS = 32
LONGEST_NAME = 255


@dataclass(frozen=True)
class PhotoJob:
    """A photo to fetch.

    Attributes:
        item_id: the item's id.
        url: its URL, checked as far as possible without a connection.
        host: the URL's host.
        damaged: files of the item that do not decode, to be replaced.
    """

    item_id: str
    url: str
    host: str
    damaged: tuple[Path, ...] = ()

    def temporary(self, folder: Path) -> Path:
        """Temporary path of the photo while it is downloaded."""
        return folder / temporary_name(photo_name(self.item_id, ""))


def plan_photos(
    urls: Mapping[str, str], folder: Path, ledger: DownloadManifest, retry_failed: bool, progress: Progress
) -> list[PhotoJob]:
    """Select the photos to fetch, and record the outcome of those that need not or cannot be fetched.

    Args:
        urls: URL of each item's photo, by the item's id.
        folder: folder of photos; existing ones that decode are not fetched again.
        ledger: outcomes of earlier runs; their final failures are not retried.
        retry_failed: retry final failures too.
        progress: shows the progress of checking the folder.
    """
    existing = check_folder(folder, urls, progress)
    jobs = []
    for item_id, url in urls.items():
        intact, damaged = existing.get(item_id, ([], []))
        earlier = ledger.find(item_id, url)
        if intact:
            size = intact[0].stat().st_size
            ledger.record(Outcome(url, item_id, f"{IMAGES}/{intact[0].name}", Status.ALREADY_THERE, size=size))
        elif retry_failed or earlier is None or not is_final(earlier):
            try:
                jobs.append(PhotoJob(item_id, url, check_job(item_id, url), tuple(damaged)))
            except FetchError as error:
                ledger.record(error.outcome(url, item_id))
    return jobs


def check_job(item_id: str, url: str) -> str:
    """Check what can be checked without a connection.

    Returns:
        The URL's host.

    Raises:
        FetchError: the URL is refused, or the id is no valid file name.
    """
    longest = photo_name(item_id, max(SUFFIXES, key=len))
    if not item_id or len(longest) > LONGEST_NAME:
        raise FetchError(Status.REFUSED_ID, f"a file name of {len(longest)} characters")
    return check_url(url).host


def check_folder(
    folder: Path, wanted: Mapping[str, str], progress: Progress
) -> dict[str, tuple[list[Path], list[Path]]]:
    """Photo files of the items in `wanted`: those that decode and those that do not.

    Unfinished files of killed processes are removed.
    """
    remove_leftovers(folder)
    for leftover in folder.glob(f".*{SUFFIX}"):
        if not is_temporary(leftover.name):  # of an earlier version, whose writers the dataset's lock excludes
            leftover.unlink()
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    paths = [path for path in paths if item_of_photo(path) in wanted]
    by_item: dict[str, tuple[list[Path], list[Path]]] = {}
    with ThreadPoolExecutor() as pool, progress("checking photos", len(paths), "photos") as advance:
        for path, intact in zip(paths, pool.map(is_photo, paths), strict=True):
            by_item.setdefault(item_of_photo(path), ([], []))[not intact].append(path)
            advance(1, "")
    return by_item


def is_photo(path: Path) -> bool:
    """Whether a file decodes."""
    try:
        open_photo(path, draft=DRAFT_PIXELS)
    except PhotoError:
        return False
    return True


async def fetch_photos(
    jobs: Sequence[PhotoJob],
    folder: Path,
    params: DownloadParams,
    allow_private: bool,
    record: Callable[[Outcome], None],
    progress: Progress,
) -> None:
    """Fetch photos into a folder, within the limits of `params`, and record each outcome as it completes."""
    failed = 0
    in_a_row: Counter[str] = Counter()  # transient failures, by host
    async with make_client(params, allow_private) as client:
        with progress("fetching photos", len(jobs), "photos") as advance:

            async def work(job: PhotoJob) -> None:
                nonlocal failed
                if in_a_row[job.host] >= params.give_up_after:
                    detail = f"{in_a_row[job.host]} others of {job.host} failed in a row"
                    outcome = Outcome(job.url, job.item_id, None, Status.HOST_GIVEN_UP, detail=detail)
                else:
                    outcome = await fetch_photo(client, job, folder, params)
                    in_a_row[job.host] = in_a_row[job.host] + 1 if may_pass(outcome) else 0
                record(outcome)
                failed += outcome.status not in GOOD
                advance(1, f"{failed} failed" if failed else "")

            await run_per_host(jobs, work, params.connections, params.per_host)


async def fetch_photo(client: httpx.AsyncClient, job: PhotoJob, folder: Path, params: DownloadParams) -> Outcome:
    """Fetch one photo, check it, and name it with the suffix of its actual format."""
    temporary = job.temporary(folder)

    async def attempt() -> tuple[int, str]:
        size, framed = await receive(client, job.url, temporary, params)
        return size, await asyncio.to_thread(check_photo, temporary, framed)

    try:
        (size, suffix), attempts = await retry(attempt, params)
        target = folder / photo_name(job.item_id, suffix)
        temporary.replace(target)
    except FetchError as error:
        return error.outcome(job.url, job.item_id)
    finally:
        temporary.unlink(missing_ok=True)
    for path in job.damaged:
        if path != target:
            path.unlink(missing_ok=True)
    return Outcome(job.url, job.item_id, f"{IMAGES}/{target.name}", Status.FETCHED, 200, size, attempts)


async def receive(client: httpx.AsyncClient, url: str, path: Path, params: DownloadParams) -> tuple[int, bool]:
    """Save the body of a URL's response.

    Returns:
        Its size in bytes, and whether the headers define where it ends, so that a cut-off body would have been noticed.
    """
    with explained():
        # For the whole body, since a server may send single bytes for ever.
        async with asyncio.timeout(params.timeout), open_url(client, url) as response:
            with path.open("wb") as file:
                size = await save_body(response, file, params.max_photo_bytes)
            return size, not {"content-length", "transfer-encoding"}.isdisjoint(response.headers)


def check_photo(path: Path, framed: bool) -> str:
    """Decode a photo.

    Args:
        path: the file.
        framed: whether a cut-off body would have been noticed.

    Returns:
        The suffix of its format.

    Raises:
        FetchError: it does not decode, or is too large.
    """
    try:
        open_photo(path, draft=DRAFT_PIXELS)
        return suffix_of(path)
    except PhotoError as error:
        if error.reason is Reason.IMAGE_TOO_LARGE:
            raise FetchError(Status.TOO_LARGE, error.reason.value, 200) from error
        cut_off = error.reason is Reason.BAD_IMAGE and not framed
        raise FetchError(Status.NOT_AN_IMAGE, error.reason.value, 200, retry=cut_off) from error
