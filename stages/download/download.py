"""Verb `download`: fetch an edition's raw files or item photos to the raw folder, with a table of outcomes.

Not a stage of dvc.yaml, as it changes data/raw, which the stages only read.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmprep.pipeline.download.client import make_client
from mmprep.pipeline.download.journal import open_manifest
from mmprep.pipeline.download.outcomes import GOOD, DownloadParams, Outcome, Status, count_statuses, is_final
from mmprep.pipeline.download.resumable import PartialDownload, fetch_partial, finish
from mmprep.pipeline.download.retry import FetchError
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.features.external_amazon import check_records
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import ITEMS, RAW_ITEMS
from mmprep.stages.download.editions import EDITIONS, Edition, Extent, check_category, find_edition
from mmprep.stages.download.photos import IMAGES, fetch_photos, plan_photos

CATEGORY = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class FilesWanted:
    """Selection of raw files to fetch.

    Attributes:
        edition: year of the edition.
        category: category, spelled as in the edition's file names.
        extent: subset of the category's interactions.
        base_url: a mirror's, instead of the edition's own; a mirror may have categories that the edition lacks.
        allow_private: also connect to loopback and private networks.
        image_features: also the vectors of photos that the edition was released with.
    """

    edition: str
    category: str
    extent: Extent = Extent.SMALL
    base_url: str | None = None
    allow_private: bool = False
    image_features: bool = False


@dataclass(frozen=True)
class PhotosWanted:
    """Selection of photos to fetch.

    Attributes:
        all_items: photos of all items, even if there is a k-core.
        retry_failed: also photos that failed permanently in an earlier run.
        allow_private: also connect to loopback and private networks.
    """

    all_items: bool = False
    retry_failed: bool = False
    allow_private: bool = False


def run_files(
    params: DownloadParams, layout: Layout, wanted: FilesWanted, progress: Progress = silent
) -> dict[str, Any]:
    """Fetch the raw files of a category that do not exist yet.

    Raises:
        ParamsError: there is no such edition, category or extent.
        DataError: the folder holds the category's interactions in another extent, or a file could not be fetched.
    """
    files = choose_files(wanted, layout.raw)
    provenance = record("download", layout, params, [], ["httpx"], edition=wanted.edition, category=wanted.category)
    outcomes = {}
    with open_manifest(layout, provenance) as ledger:
        layout.raw.mkdir(parents=True, exist_ok=True)
        for name, url in files.items():
            outcomes[name] = fetch_file(PartialDownload(layout.raw / name, url), params, wanted.allow_private, progress)
            ledger.record(outcomes[name])
            if outcomes[name].status is Status.FETCHED and name.endswith(".b"):
                check_features(layout.raw / name)
    failures = [explain(name, outcome, wanted) for name, outcome in outcomes.items() if outcome.status not in GOOD]
    if failures:
        raise DataError("\n".join(failures))
    return {
        "folder": str(layout.raw),
        **{name: f"{outcome.status.value}, {outcome.size} bytes" for name, outcome in outcomes.items()},
    }


def check_features(path: Path) -> None:
    """Check that fetched vectors of photos are whole, and remove them otherwise, so that the next run fetches them.

    Raises:
        DataError: they are truncated, or something else, such as a web page.
    """
    try:
        check_records(path)
    except DataError:
        path.unlink()
        raise


def choose_files(wanted: FilesWanted, raw: Path) -> dict[str, str]:
    """URL of each selected file, by its name in the raw folder.

    Raises:
        ParamsError: there is no such edition, category or extent.
        DataError: the folder holds the category's interactions in another extent, which ingest would read as well.
    """
    edition, category = find_edition(wanted.edition), wanted.category
    if wanted.base_url is None:
        check_category(category, wanted.edition)
    elif not CATEGORY.fullmatch(category):
        raise ParamsError(f"--category: found {category!r}, expected letters, digits and '_', as it names files")
    if wanted.extent not in edition.interactions:
        raise ParamsError(f"--{wanted.extent}: not in the {wanted.edition} edition{options(edition)}")
    chosen = [*edition.interactions[wanted.extent], edition.metadata]
    if wanted.image_features:
        if edition.image_features is None:
            having = ", ".join(name for name, other in EDITIONS.items() if other.image_features)
            raise ParamsError(f"--image-features: not in the {wanted.edition} edition (allowed: {having})")
        chosen.append(edition.image_features)
    files = {file.local_name(category): file.address.format(category=category) for file in chosen}
    others = {file.local_name(category) for group in edition.interactions.values() for file in group} - files.keys()
    if existing := sorted(name for name in others if (raw / name).exists()):
        raise DataError(
            f"{raw}: holds {existing[0]}, which ingest would read beside {next(iter(files))}; remove it, or give "
            "another folder with --dataset"
        )
    base = (wanted.base_url or edition.base_url).rstrip("/")
    return {name: f"{base}/{address}" for name, address in files.items()}


def options(edition: Edition) -> str:
    """Extents of an edition, formatted for the end of a message."""
    return f" (allowed: {', '.join(f'--{extent}' for extent in edition.interactions)})"


def fetch_file(partial: PartialDownload, params: DownloadParams, allow_private: bool, progress: Progress) -> Outcome:
    """Fetch one raw file unless it exists."""
    name = partial.target.name
    if partial.target.exists():
        return Outcome(partial.url, None, name, Status.ALREADY_THERE, size=partial.target.stat().st_size)

    async def fetch() -> tuple[int, int]:
        async with make_client(params, allow_private) as client:
            return await fetch_partial(client, partial, params, progress)

    attempts = 0
    try:
        size, attempts = asyncio.run(fetch())
        finish(partial, progress)
    except FetchError as error:
        if error.status is Status.TOO_LARGE:
            partial.discard()
        error.attempts = error.attempts or attempts
        return error.outcome(partial.url, None)
    return Outcome(partial.url, None, name, Status.FETCHED, 200, size, attempts)


def explain(name: str, outcome: Outcome, wanted: FilesWanted) -> str:
    """One-line message: why a raw file was not fetched, and what to do."""
    failure = " ".join(str(part) for part in (outcome.status.value, outcome.http_status, outcome.detail) if part)
    if outcome.status is Status.REFUSED_ADDRESS:
        advice = "give --allow-private if you trust it"
    elif is_final(outcome) or outcome.status is Status.DAMAGED:
        advice = f"see {find_edition(wanted.edition).page} for what is published, or give a mirror with --base-url"
    else:
        advice = "run the command again: it continues where this one broke off"
    return f"{name}: {failure} ({outcome.url}); {advice}"


def run_photos(
    params: DownloadParams, layout: Layout, wanted: PhotosWanted, progress: Progress = silent
) -> dict[str, Any]:
    """Fetch the photos at the items' URLs that do not exist yet.

    Raises:
        MissingInputError: `ingest` has not run.
        DataError: no item has a URL, or more than `max_failed_fraction` of the photos were not fetched.
    """
    table, source = (RAW_ITEMS, layout.raw_items)
    if layout.items.exists() and not wanted.all_items:
        table, source = (ITEMS, layout.items)
    items = table.read(source, ["item_id", "image_url"])
    urls = dict(items.drop_nulls().iter_rows())
    if not urls:
        raise DataError(f"{source}: none of {len(items)} items has an image_url; is the metadata in {layout.raw}?")
    folder = layout.raw / IMAGES
    with open_manifest(layout, record("download", layout, params, [source], ["httpx", "pillow"])) as ledger:
        folder.mkdir(parents=True, exist_ok=True)
        jobs = plan_photos(urls, folder, ledger, wanted.retry_failed, progress)
        asyncio.run(fetch_photos(jobs, folder, params, wanted.allow_private, ledger.record, progress))
        outcomes = [ledger.outcomes[item_id, None] for item_id in urls]
    check_failures(outcomes, params.max_failed_fraction, layout.downloads)
    return {
        "items": len(items),
        "items_from": str(source),
        "items_without_url": len(items) - len(urls),
        "photos": sum(outcome.status in GOOD for outcome in outcomes),
        "photos_by_status": count_statuses(outcomes),
        "requests": sum(outcome.attempts for job in jobs for outcome in [ledger.outcomes[job.item_id, None]]),
    }


def check_failures(outcomes: list[Outcome], limit: float, table: Path) -> None:
    """Fail if more than a share `limit` of the photos was not fetched.

    Raises:
        DataError: the message has the counts by status.
    """
    failed = [outcome for outcome in outcomes if outcome.status not in GOOD]
    if len(failed) / len(outcomes) > limit:
        counts = ", ".join(f"{count} {status}" for status, count in count_statuses(failed).items())
        retriable = sum(not is_final(outcome) for outcome in failed)
        raise DataError(
            f"{len(failed)} of {len(outcomes)} photos not fetched ({counts}), more than download.max_failed_fraction "
            f"allows ({limit:g}); see {table}, run it again for the {retriable} that may succeed, or raise the limit"
        )
