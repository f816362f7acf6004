"""Large files come whole, are continued where they broke off, and are never mixed from two versions."""

import asyncio
import gzip
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loopback import Page, Site, serve

from mmprep.pipeline.download.client import make_client
from mmprep.pipeline.download.outcomes import DownloadParams, Status
from mmprep.pipeline.download.resumable import PartialDownload, fetch_partial, finish
from mmprep.pipeline.download.retry import FetchError
from mmprep.pipeline.progress import Advance, Progress, silent

QUICK = DownloadParams(timeout=2, backoff=0.01, max_wait=0.05, retries=3)
CONTENT = gzip.compress(random.Random(0).randbytes(300_000))  # noqa: S311 - no secret
OTHER = gzip.compress(random.Random(1).randbytes(200_000))  # noqa: S311
DATE, LATER = "Mon, 02 Nov 2026 10:00:00 GMT", "Tue, 03 Nov 2026 10:00:00 GMT"


def fetch(partial: PartialDownload, params: DownloadParams = QUICK, progress: Progress = silent) -> tuple[int, int]:
    async def run() -> tuple[int, int]:
        async with make_client(params, allow_private=True) as client:
            return await fetch_partial(client, partial, params, progress)

    done = asyncio.run(run())
    finish(partial, progress)
    return done


def failure(partial: PartialDownload, params: DownloadParams = QUICK) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(partial, params)
    return caught.value


def ranges(site: Site) -> list[str | None]:
    return [visit.headers.get("range") for visit in site.visits]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("length", [None, "none", "chunked"])
def test_a_file_comes_whole(tmp_path: Path, length: str | None) -> None:
    with serve({"/x": Page(CONTENT, length=length, etag='"1"')}) as site:
        assert fetch(PartialDownload(tmp_path / "x.gz", site.url("/x"))) == (len(CONTENT), 1)
    assert (tmp_path / "x.gz").read_bytes() == CONTENT
    assert left_in(tmp_path) == ["x.gz"]


@pytest.mark.parametrize("validator", [{"etag": '"1"'}, {"modified": DATE}, {"etag": '"1"', "modified": DATE}])
def test_a_file_is_continued_where_the_connection_broke(tmp_path: Path, validator: dict[str, Any]) -> None:
    pages = [
        Page(CONTENT, cut=100_000, **validator),
        Page(CONTENT, cut=50_000, **validator),
        Page(CONTENT, **validator),
    ]
    with serve({"/x": pages}) as site:
        assert fetch(PartialDownload(tmp_path / "x.gz", site.url("/x"))) == (len(CONTENT), 3)
        assert ranges(site) == [None, "bytes=100000-", "bytes=150000-"]
        assert site.visits[1].headers["if-range"] == validator.get("etag", DATE)
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


def test_a_later_process_continues_too(tmp_path: Path) -> None:
    with serve({"/x": [Page(CONTENT, cut=1000, etag='"1"'), Page(CONTENT, etag='"1"')]}) as site:
        partial = PartialDownload(tmp_path / "x.gz", site.url("/x"))
        error = failure(partial, DownloadParams(retries=0))
        assert (error.status, error.attempts) == (Status.CONNECTION_FAILED, 1)
        assert left_in(tmp_path) == ["x.gz.note.partial", "x.gz.partial"]
        fetch(partial)
        assert ranges(site) == [None, "bytes=1000-"]
    assert (tmp_path / "x.gz").read_bytes() == CONTENT
    assert left_in(tmp_path) == ["x.gz"]


@pytest.mark.parametrize(
    ("old", "new"), [({"etag": '"1"'}, {"etag": '"2"'}), ({"modified": DATE}, {"modified": LATER})]
)
def test_a_file_that_has_changed_is_begun_anew(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    with serve({"/x": [Page(CONTENT, cut=1000, **old), Page(OTHER, **new)]}) as site:
        assert fetch(PartialDownload(tmp_path / "x.gz", site.url("/x"))) == (len(OTHER), 2)
        assert ranges(site) == [None, "bytes=1000-"]
    assert (tmp_path / "x.gz").read_bytes() == OTHER


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"2"', "Content-Range": f"bytes 1000-{len(OTHER) - 1}/{len(CONTENT)}"},
        {"ETag": '"1"', "Content-Range": f"bytes 1000-{len(OTHER) - 1}/{len(OTHER)}"},
        {"ETag": '"1"', "Content-Range": f"bytes 900-{len(OTHER) - 1}/{len(CONTENT)}"},
        {"ETag": '"1"', "Content-Range": "lines 1-2/3"},
        {"ETag": '"1"'},
    ],
)
def test_an_answer_that_does_not_continue_the_file_is_not_appended(tmp_path: Path, headers: dict[str, str]) -> None:
    pages = [Page(CONTENT, cut=1000, etag='"1"'), Page(OTHER[1000:], 206, headers), Page(CONTENT, etag='"1"')]
    with serve({"/x": pages}) as site:
        assert fetch(PartialDownload(tmp_path / "x.gz", site.url("/x"))) == (len(CONTENT), 3)
        assert ranges(site) == [None, "bytes=1000-", None]
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("validator", [{}, {"headers": {"ETag": 'W/"1"'}}])
def test_without_a_validator_a_file_is_begun_anew(tmp_path: Path, validator: dict[str, Any]) -> None:
    with serve({"/x": [Page(CONTENT, cut=1000, **validator), Page(CONTENT, **validator)]}) as site:
        fetch(PartialDownload(tmp_path / "x.gz", site.url("/x")))
        assert ranges(site) == [None, None]
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


def test_a_server_without_ranges_is_served_from_the_start(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"headers": {"ETag": '"1"'}}
    with serve({"/x": [Page(CONTENT, cut=1000, **plain), Page(CONTENT, **plain)]}) as site:
        fetch(PartialDownload(tmp_path / "x.gz", site.url("/x")))
        assert ranges(site) == [None, "bytes=1000-"]
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


def test_a_range_that_is_refused_is_begun_anew(tmp_path: Path) -> None:
    pages = [Page(CONTENT, cut=1000, etag='"1"'), Page(b"", 416), Page(CONTENT, etag='"1"')]
    with serve({"/x": pages}) as site:
        fetch(PartialDownload(tmp_path / "x.gz", site.url("/x")))
        assert ranges(site) == [None, "bytes=1000-", None]
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


def test_what_came_from_another_url_is_not_continued(tmp_path: Path) -> None:
    twin = gzip.compress(random.Random(2).randbytes(300_000))  # noqa: S311 - no secret
    assert len(twin) == len(CONTENT)
    with serve({"/x": Page(CONTENT, cut=1000, etag='"1"'), "/y": Page(twin, etag='"1"')}) as site:
        failure(PartialDownload(tmp_path / "x.gz", site.url("/x")))
        fetch(PartialDownload(tmp_path / "x.gz", site.url("/y")))
        assert site.visits[-1].headers.get("range") is None
    assert (tmp_path / "x.gz").read_bytes() == twin


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"url": 3}', '{"url": null, "validator": [], "total": 1}'])
def test_a_damaged_note_is_no_ground_to_continue(tmp_path: Path, note: str) -> None:
    with serve({"/x": Page(CONTENT, etag='"1"')}) as site:
        partial = PartialDownload(tmp_path / "x.gz", site.url("/x"))
        partial.path.write_bytes(b"old")
        partial.note.write_text(note)
        fetch(partial)
        assert ranges(site) == [None]
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


def test_a_file_that_had_come_whole_is_not_asked_for_again(tmp_path: Path) -> None:
    with serve({}) as site:
        partial = PartialDownload(tmp_path / "x.gz", site.url("/x"))
        partial.begin('"1"', len(CONTENT))
        partial.path.write_bytes(CONTENT)
        fetch(partial)
        assert site.visits == []
    assert (tmp_path / "x.gz").read_bytes() == CONTENT


def test_the_note_never_vouches_for_bytes_of_another_version(tmp_path: Path) -> None:
    partial = PartialDownload(tmp_path / "x.gz", "http://a.example/x")
    partial.path.write_bytes(b"of an older version")
    partial.begin('"2"', 100)
    assert json.loads(partial.note.read_text()) == {"url": partial.url, "validator": '"2"', "total": 100}
    assert not partial.path.exists()


@pytest.mark.parametrize("length", [None, "none", "chunked"])
def test_a_file_beyond_the_limit_is_given_up(tmp_path: Path, length: str | None) -> None:
    with serve({"/x": Page(CONTENT, length=length)}) as site:
        error = failure(PartialDownload(tmp_path / "x.gz", site.url("/x")), DownloadParams(max_file_bytes=1000))
        assert (error.status, error.retry, len(site.visits)) == (Status.TOO_LARGE, False, 1)
    assert [path for path in tmp_path.iterdir() if path.stat().st_size > 1000] == []


def test_continuing_counts_towards_the_limit(tmp_path: Path) -> None:
    limit = len(CONTENT) - 1
    pages = [Page(CONTENT, cut=1000, length="chunked", etag='"1"'), Page(CONTENT, etag='"1"')]
    with serve({"/x": pages}) as site:
        error = failure(
            PartialDownload(tmp_path / "x.gz", site.url("/x")), DownloadParams(max_file_bytes=limit, backoff=0)
        )
        assert (error.status, len(site.visits)) == (Status.TOO_LARGE, 2)


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("x.gz", CONTENT[:-9], "damaged gzip: Compressed file ended before the end-of-stream marker was reached"),
        ("x.gz", CONTENT[:1000] + b"\0" + CONTENT[1001:], "damaged gzip: "),
        ("x.gz", CONTENT + b"more", "damaged gzip: Not a gzipped file"),
        ("x.gz", b"<html>not found</html>", "not gzip; begins with b'<html>not found</htm'"),
        ("x.gz", b"", "empty"),
        ("x.csv", b"", "empty"),
        ("x.csv", b"\n <!DOCTYPE html>", "a web page instead of the file"),
    ],
)
def test_a_damaged_file_does_not_get_its_name(tmp_path: Path, name: str, content: bytes, detail: str) -> None:
    with serve({"/x": Page(content, etag='"1"')}) as site:
        error = failure(PartialDownload(tmp_path / name, site.url("/x")))
    assert (error.status, error.retry) == (Status.DAMAGED, False)
    assert error.detail.startswith(detail)
    assert left_in(tmp_path) == []


def test_a_length_that_is_too_small_is_found_by_reading_the_file(tmp_path: Path) -> None:
    with serve({"/x": Page(CONTENT, length=len(CONTENT) - 100)}) as site:
        assert failure(PartialDownload(tmp_path / "x.gz", site.url("/x"))).status is Status.DAMAGED


def test_a_length_that_is_too_large_is_a_broken_connection(tmp_path: Path) -> None:
    with serve({"/x": Page(CONTENT, length=len(CONTENT) + 100)}) as site:
        assert failure(PartialDownload(tmp_path / "x.gz", site.url("/x"))).status is Status.CONNECTION_FAILED
        assert len(site.visits) == 1 + QUICK.retries


def test_gzip_of_several_members_and_plain_files_are_sound(tmp_path: Path) -> None:
    with serve({"/x": Page(CONTENT + OTHER), "/y": Page(b"A,B,5.0,1\n")}) as site:
        fetch(PartialDownload(tmp_path / "x.gz", site.url("/x")))
        fetch(PartialDownload(tmp_path / "y.csv", site.url("/y")))
    assert left_in(tmp_path) == ["x.gz", "y.csv"]


def test_a_slow_file_is_no_timeout_as_long_as_it_comes(tmp_path: Path) -> None:
    with serve({"/x": Page(CONTENT[:10_000], pieces=(1000, 0.05)), "/y": Page(CONTENT, pieces=(1000, 1))}) as site:
        partial = PartialDownload(tmp_path / "x.gz", site.url("/x"))
        assert failure(partial, DownloadParams(timeout=0.3)).status is Status.DAMAGED, "it came, cut as it is"
        hung = PartialDownload(tmp_path / "y.gz", site.url("/y"))
        assert failure(hung, DownloadParams(timeout=0.1, retries=0)).status is Status.TIMED_OUT


def test_progress_is_in_bytes_and_starts_where_the_file_continues(tmp_path: Path) -> None:
    bars: list[tuple[str, int | None, str, list[int]]] = []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        moves: list[int] = []
        bars.append((task, total, unit, moves))
        yield lambda units, _: moves.append(units)

    with serve({"/x": [Page(CONTENT, cut=1000, etag='"1"'), Page(CONTENT, etag='"1"')]}) as site:
        fetch(PartialDownload(tmp_path / "x.gz", site.url("/x")), progress=progress)
    size = len(CONTENT)
    assert [bar[:3] for bar in bars] == [
        ("fetching x.gz", size, "bytes"),
        ("fetching x.gz", size, "bytes"),
        ("checking x.gz", size, "bytes"),
    ]
    assert [sum(bar[3]) for bar in bars] == [1000, size, size]
    assert bars[1][3][0] == 1000
