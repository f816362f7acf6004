"""Photos from the items' URLs: what is to be fetched, and fetching it, many at once."""

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
        item_id: whose it is.
        url: checked as far as can be told from itself.
        host: of the URL.
        damaged: files of the item that are no photos, to be replaced.
    """

    item_id: str
    url: str
    host: str
    damaged: tuple[Path, ...] = ()

    def temporary(self, folder: Path) -> Path:
        """Where the photo is received."""
        return folder / temporary_name(photo_name(self.item_id, ""))


def plan_photos(
    urls: Mapping[str, str], folder: Path, ledger: DownloadManifest, retry_failed: bool, progress: Progress
) -> list[PhotoJob]:
    """Tell what is to be fetched, and record what need not or cannot be.

    Args:
        urls: of each item's photo, by the item's id.
        folder: of photos; what is there and decodes is not fetched again.
        ledger: what earlier runs found out; their final failures stand.
        retry_failed: fetch those too.
        progress: shows how far the check of the folder is.
    """
    there = check_folder(folder, urls, progress)
    jobs = []
    for item_id, url in urls.items():
        sound, damaged = there.get(item_id, ([], []))
        earlier = ledger.find(item_id, url)
        if sound:
            size = sound[0].stat().st_size
            ledger.record(Outcome(url, item_id, f"{IMAGES}/{sound[0].name}", Status.ALREADY_THERE, size=size))
        elif retry_failed or earlier is None or not is_final(earlier):
            try:
                jobs.append(PhotoJob(item_id, url, check_job(item_id, url), tuple(damaged)))
            except FetchError as error:
                ledger.record(error.outcome(url, item_id))
    return jobs


def check_job(item_id: str, url: str) -> str:
    """Check what can be checked without asking anybody.

    Returns:
        The URL's host.

    Raises:
        FetchError: the URL is refused, or the id makes no file name.
    """
    longest = photo_name(item_id, max(SUFFIXES, key=len))
    if not item_id or len(longest) > LONGEST_NAME:
        raise FetchError(Status.REFUSED_ID, f"a file name of {len(longest)} characters")
    return check_url(url).host


def check_folder(
    folder: Path, wanted: Mapping[str, str], progress: Progress
) -> dict[str, tuple[list[Path], list[Path]]]:
    """The files that the wanted items have: those that decode and those that do not.

    What a killed process was receiving is removed.
    """
    remove_leftovers(folder)
    for left in folder.glob(f".*{SUFFIX}"):
        if not is_temporary(left.name):  # by an earlier version, whose writers the dataset's lock keeps out
            left.unlink()
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    paths = [path for path in paths if item_of_photo(path) in wanted]
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    with ThreadPoolExecutor() as pool, progress("checking photos", len(paths), "photos") as advance:
        for path, sound in zip(paths, pool.map(is_photo, paths), strict=True):
            found.setdefault(item_of_photo(path), ([], []))[not sound].append(path)
            advance(1, "")
    return found


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
    """Fetch photos into a folder, within the limits of `params`, and record each outcome as it comes."""
    failed = 0
    in_a_row: Counter[str] = Counter()  # failures that may pass, by host
    async with make_client(params, allow_private) as client:
        with progress("fetching photos", len(jobs), "photos") as advance:

            async def work(job: PhotoJob) -> None:
                nonlocal failed
                if in_a_row[job.host] >= params.give_up_after:
                    said = f"{in_a_row[job.host]} others of {job.host} failed in a row"
                    outcome = Outcome(job.url, job.item_id, None, Status.HOST_GIVEN_UP, detail=said)
                else:
                    outcome = await fetch_photo(client, job, folder, params)
                    in_a_row[job.host] = in_a_row[job.host] + 1 if may_pass(outcome) else 0
                record(outcome)
                failed += outcome.status not in GOOD
                advance(1, f"{failed} failed" if failed else "")

            await run_per_host(jobs, work, params.connections, params.per_host)


async def fetch_photo(client: httpx.AsyncClient, job: PhotoJob, folder: Path, params: DownloadParams) -> Outcome:
    """Fetch one photo, check it, and give it the name that fits what it is."""
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
    """Save what a URL gives.

    Returns:
        Its size in bytes, and whether the answer told where it ends, so that a cut-off one would have been noticed.
    """
    with explained():
        # Of the whole, since a server may send a byte now and then for ever.
        async with asyncio.timeout(params.timeout), open_url(client, url) as response:
            with path.open("wb") as file:
                size = await save_body(response, file, params.max_photo_bytes)
            return size, not {"content-length", "transfer-encoding"}.isdisjoint(response.headers)


def check_photo(path: Path, framed: bool) -> str:
    """Decode a photo.

    Args:
        path: the file.
        framed: whether it is known to have come whole.

    Returns:
        The suffix that fits it.

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
