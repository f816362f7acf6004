"""`download --photos`: photos from a real server on loopback, and what becomes of each URL."""

import io
import json
import os
import random
import signal
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from loopback import Page, Site, redirect, serve
from PIL import Image
from worlds import made_by_hand, write_items

from mmprep.pipeline.download import public_addresses as networks
from mmprep.pipeline.download.outcomes import DownloadParams
from mmprep.pipeline.download.public_addresses import Address
from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.temporary import temporary_name, this_host
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import DOWNLOADS, RAW_ITEMS
from mmprep.stages.download.download import PhotosWanted, run_photos
from mmprep.stages.ingest import ingest

MMPREP = Path(sysconfig.get_path("scripts")) / "mmprep"
QUICK = DownloadParams(timeout=2, backoff=0.01, max_wait=0.05, retries=2, max_failed_fraction=1)
ANY = PhotosWanted(allow_private=True)
Row = dict[str, Any]


def photo(kind: str = "JPEG", side: int = 24, colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, kind)
    return buffer.getvalue()


def thread() -> bytes:
    """A photo that is far longer than wide."""
    buffer = io.BytesIO()
    Image.new("L", (8, 801)).save(buffer, "PNG")
    return buffer.getvalue()


def noisy_jpeg() -> bytes:
    """A photo of a few kilobytes."""
    pixels = random.Random(0).randbytes(64 * 64 * 3)  # noqa: S311 - no secret
    buffer = io.BytesIO()
    Image.frombytes("RGB", (64, 64), pixels).save(buffer, "JPEG")
    return buffer.getvalue()


JPEG, NOISE = photo(), noisy_jpeg()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", "toys")


def write_raw_items(layout: Layout, urls: Mapping[str, str | None]) -> None:
    """The table of items that ingest writes."""
    rows = [{"item_id": item_id, "image_url": url} for item_id, url in urls.items()]
    texts = [pl.lit("").alias(name) for name in ("title", "description", "categories", "brand")]
    frame = pl.DataFrame(rows, schema={"item_id": pl.String, "image_url": pl.String})
    items = frame.with_columns(*texts, pl.lit(None, pl.String).alias("image"))
    RAW_ITEMS.write(items, layout.raw_items, made_by_hand(layout))


def images(layout: Layout) -> list[str]:
    return sorted(path.name for path in (layout.raw / "images").iterdir())


def table(layout: Layout) -> dict[str, Row]:
    """The rows of the table, by item."""
    return {row["item_id"]: row for row in DOWNLOADS.read(layout.downloads).to_dicts()}


def statuses(layout: Layout) -> dict[str, str]:
    return {item_id: row["status"] for item_id, row in table(layout).items()}


def fetch_all(layout: Layout, site: Site, params: DownloadParams = QUICK, **more: bool) -> dict[str, Any]:
    """Fetch a photo of each page of a site; the items are named as the pages are."""
    write_raw_items(layout, {path[1:]: site.url(path) for path in site.pages})
    return run_photos(params, layout, PhotosWanted(allow_private=True, **more))


def test_photos_are_named_by_item_and_by_what_they_are_and_not_by_their_url(layout: Layout) -> None:
    kinds = {"B0": "JPEG", "B1": "PNG", "B2": "WEBP", "B3": "GIF", "B4": "BMP"}
    with serve({f"/{item}.jpg?size=large": Page(photo(kind)) for item, kind in kinds.items()}) as site:
        write_raw_items(layout, {item: site.url(f"/{item}.jpg?size=large") for item in kinds})
        metrics = run_photos(QUICK, layout, ANY)
    assert images(layout) == ["B0.jpg", "B1.png", "B2.webp", "B3.gif", "B4.bmp"]
    assert (layout.raw / "images" / "B1.png").read_bytes() == photo("PNG")
    assert metrics == {
        "items": 5,
        "items_from": str(layout.raw_items),
        "items_without_url": 0,
        "photos": 5,
        "photos_by_status": {"fetched": 5},
        "requests": 5,
    }
    row = table(layout)["B1"]
    assert row == {
        "url": site.url("/B1.jpg?size=large"),
        "item_id": "B1",
        "path": "images/B1.png",
        "status": "fetched",
        "http_status": 200,
        "bytes": len(photo("PNG")),
        "attempts": 1,
        "detail": "",
    }


def test_the_table_says_what_made_it(layout: Layout) -> None:
    with serve({"/B0": Page(JPEG)}) as site:
        fetch_all(layout, site)
    provenance = read_provenance(layout.downloads)
    assert (provenance["stage"], provenance["params"]) == ("download", QUICK.model_dump())
    assert list(provenance["inputs"]) == ["interim/toys/items.parquet"]


FAILURES: dict[str, tuple[Page, str, int | None, int]] = {
    "gone": (Page(b"", 404), "http error", 404, 1),
    "forbidden": (Page(b"", 403), "http error", 403, 1),
    "broken": (Page(b"", 500), "http error", 500, 3),
    "busy": (Page(b"", 429, {"Retry-After": "9999"}), "http error", 429, 3),
    "page": (Page(b"<html>no such photo</html>"), "not an image", 200, 1),
    "empty": (Page(b""), "not an image", 200, 1),
    "damaged": (Page(NOISE[: len(NOISE) // 2]), "not an image", 200, 1),
    "cut": (Page(NOISE, cut=500), "connection failed", None, 3),
    "boastful": (Page(NOISE, length=len(NOISE) + 10), "connection failed", None, 3),
    "modest": (Page(NOISE, length=len(NOISE) // 2), "not an image", 200, 1),
    "unframed": (Page(NOISE, length="none", cut=500), "not an image", 200, 3),
    "large": (Page(b"\xff\xd8" + b"x" * 60_000), "too large", 200, 1),
    "endless": (Page(b"x" * 10_000_000, length="chunked", pieces=(10_000, 0.001)), "too large", 200, 1),
    "circle": (redirect("/circle"), "too many redirects", 302, 1),
    "away": (redirect("ftp://127.0.0.1/"), "refused url", None, 1),
    "slow": (Page(JPEG, delay=60), "timed out", None, 3),
    "dripping": (Page(JPEG, pieces=(1, 0.05)), "timed out", None, 3),
}


def test_each_failure_has_its_status_and_no_file_and_what_may_pass_is_tried_again(layout: Layout) -> None:
    params = QUICK.model_copy(update={"timeout": 0.4, "max_photo_bytes": 50_000})
    pages = {f"/{name}": page for name, (page, *_) in FAILURES.items()}
    with serve({**pages, "/good": Page(NOISE)}) as site:
        metrics = fetch_all(layout, site, params)
    assert images(layout) == ["good.jpg"]
    found = table(layout)
    for name, (_, *expected) in FAILURES.items():
        row = found[name]
        assert [row["status"], row["http_status"], row["attempts"]] == expected, name
        assert (row["path"], row["bytes"]) == (None, 0)
    assert metrics["photos"] == 1
    assert site.counts()["/broken"] == 3
    assert metrics["requests"] == 1 + sum(attempts for *_, attempts in FAILURES.values())


def test_no_photo_of_too_many_pixels(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmprep.pipeline.photos.decode.MAX_PIXELS", 100)
    with serve({"/B0": Page(JPEG)}) as site:
        fetch_all(layout, site)
    assert (table(layout)["B0"]["status"], table(layout)["B0"]["detail"]) == ("too large", "image has too many pixels")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (photo("GIF", side=1), "image has a side of fewer than 8 pixels"),
        (thread(), "image has a side more than 100 times as long as the other"),
    ],
)
def test_the_picture_that_stands_for_none_is_no_photo_and_is_not_asked_for_again(
    layout: Layout, content: bytes, detail: str
) -> None:
    with serve({"/B0": Page(content)}) as site:
        fetch_all(layout, site)
        fetch_all(layout, site)
        assert site.counts() == {"/B0": 1}
    assert (table(layout)["B0"]["status"], table(layout)["B0"]["detail"]) == ("not an image", detail)
    assert images(layout) == []


def test_what_passes_while_it_is_tried_again_is_fetched(layout: Layout) -> None:
    busy = Page(b"", 429, {"Retry-After": "0"})
    pages = {
        "/B0": [busy, busy, Page(JPEG)],
        "/B1": [Page(b"", 503), Page(JPEG)],
        "/B2": [Page(NOISE, cut=100), Page(NOISE)],
        "/B3": [Page(NOISE, cut=500, length="none"), Page(NOISE, length="none")],
    }
    with serve(pages) as site:
        fetch_all(layout, site)
        assert site.counts() == {"/B0": 3, "/B1": 2, "/B2": 2, "/B3": 2}
    assert images(layout) == ["B0.jpg", "B1.jpg", "B2.jpg", "B3.jpg"]
    assert (layout.raw / "images" / "B2.jpg").read_bytes() == NOISE
    assert {key: row["attempts"] for key, row in table(layout).items()} == {"B0": 3, "B1": 2, "B2": 2, "B3": 2}


def test_a_server_that_asks_for_time_is_given_it(layout: Layout) -> None:
    with serve({"/B0": [Page(b"", 429, {"Retry-After": "1"}), Page(JPEG)]}) as site:
        start = time.monotonic()
        fetch_all(layout, site, QUICK.model_copy(update={"max_wait": 60}))
    assert 1 <= time.monotonic() - start < 10
    assert statuses(layout) == {"B0": "fetched"}


def test_photos_that_are_there_are_not_fetched_again(layout: Layout) -> None:
    with serve({"/B0": Page(JPEG), "/B1": Page(JPEG)}) as site:
        fetch_all(layout, site)
        metrics = fetch_all(layout, site)
        assert site.counts() == {"/B0": 1, "/B1": 1}
    assert (metrics["photos"], metrics["photos_by_status"], metrics["requests"]) == (2, {"already there": 2}, 0)
    assert table(layout)["B0"]["path"] == "images/B0.jpg"
    assert table(layout)["B0"]["bytes"] == len(JPEG)


@pytest.mark.parametrize("name", ["B0.png", "B0.JPEG", "B0.gif"])
def test_a_photo_that_someone_else_put_there_counts(layout: Layout, name: str) -> None:
    (layout.raw / "images").mkdir(parents=True)
    (layout.raw / "images" / name).write_bytes(JPEG)
    with serve({"/B0": Page(JPEG)}) as site:
        fetch_all(layout, site)
        assert site.visits == []
    assert images(layout) == [name]
    assert table(layout)["B0"]["path"] == f"images/{name}"


def test_a_damaged_photo_on_disk_is_replaced(layout: Layout) -> None:
    folder = layout.raw / "images"
    folder.mkdir(parents=True)
    for name in ("B0.jpg", "B1.png", "B2.jpg"):
        (folder / name).write_bytes(NOISE[:700])
    for item_id in ("B0", "B9"):
        (folder / f".{item_id}.partial").write_bytes(b"of a killed process")
    with serve({"/B0": Page(JPEG), "/B1": Page(JPEG), "/B2": Page(b"", 404)}) as site:
        fetch_all(layout, site)
    assert images(layout) == ["B0.jpg", "B1.jpg", "B2.jpg"]
    assert (folder / "B0.jpg").read_bytes() == JPEG
    assert (folder / "B2.jpg").read_bytes() == NOISE[:700], "nothing better came"


def test_what_is_received_on_another_machine_is_left_alone(layout: Layout, dead_process: int) -> None:
    folder = layout.raw / "images"
    folder.mkdir(parents=True)
    mine = temporary_name("B0")
    foreign = mine.replace(this_host(), "0" * 12)
    dead = mine.replace(f".{os.getpid()}.", f".{dead_process}.")
    for name in (mine, foreign, dead):
        (folder / name).write_bytes(NOISE[:700])
    with serve({"/B0": Page(JPEG)}) as site:
        fetch_all(layout, site)
    assert images(layout) == sorted([mine, foreign, "B0.jpg"])


def test_a_final_failure_is_remembered_and_a_passing_one_is_tried_by_the_next_run(layout: Layout) -> None:
    pages = {"/gone": Page(b"", 404), "/page": Page(b"<html>"), "/down": Page(b"", 503), "/B0": Page(JPEG)}
    with serve(pages) as site:
        fetch_all(layout, site)
        before = table(layout)
        metrics = fetch_all(layout, site)
        assert site.counts() == {"/gone": 1, "/page": 1, "/down": 6, "/B0": 1}
        assert [table(layout)[name] for name in ("gone", "page")] == [before["gone"], before["page"]]
        assert metrics["photos_by_status"] == {"http error": 2, "not an image": 1, "already there": 1}
        assert metrics["requests"] == 3
        site.pages["/gone"] = site.pages["/down"] = Page(JPEG)
        fetch_all(layout, site)
        assert site.counts()["/gone"] == 1
        assert statuses(layout)["down"] == "fetched"
        fetch_all(layout, site, retry_failed=True)
        assert site.counts() == {"/gone": 2, "/page": 2, "/down": 7, "/B0": 1}
    assert statuses(layout) == {
        "gone": "fetched",
        "page": "not an image",
        "down": "already there",
        "B0": "already there",
    }


def test_a_new_url_of_an_item_is_tried_although_the_old_one_failed(layout: Layout) -> None:
    with serve({"/old": Page(b"", 404), "/new": Page(JPEG)}) as site:
        for path in ("/old", "/new"):
            write_raw_items(layout, {"B0": site.url(path)})
            run_photos(QUICK, layout, ANY)
    assert [row["url"] for row in DOWNLOADS.read(layout.downloads).to_dicts()] == [site.url("/new")]


def test_loopback_is_refused_without_a_request_and_tried_when_it_is_allowed(layout: Layout) -> None:
    with serve({"/B0": Page(JPEG)}) as site:
        write_raw_items(layout, {"B0": site.url("/B0"), "B1": site.url("/B0", "localhost")})
        run_photos(QUICK, layout, PhotosWanted())
        assert (site.visits, set(statuses(layout).values())) == ([], {"refused address"})
        assert table(layout)["B0"]["detail"] == "127.0.0.1: no public address"
        run_photos(QUICK, layout, ANY)
    assert set(statuses(layout).values()) == {"fetched"}


def test_urls_of_other_kinds_are_refused(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    urls = {
        "file": f"file://{tmp_path}/secret.jpg",
        "ftp": "ftp://127.0.0.1/a.jpg",
        "login": "http://user:password@127.0.0.1:1/a.jpg",
        "none": "not a url",
        "blank": "",
        "huge": "http://" + "a" * 100_000,
    }
    write_raw_items(layout, urls)
    run_photos(QUICK, layout, ANY)
    assert statuses(layout) == dict.fromkeys(urls, "refused url")
    assert images(layout) == []


def test_hostile_item_ids_stay_in_their_folder_and_ingest_finds_them(layout: Layout) -> None:
    ids = [
        "../../../escaped",
        "/etc/passwd",
        "..",
        ".hidden",
        "a/b\\c",
        "nul:\u00e9\u4e2d",
        "50%",
        "%41",
        "~",
        "x" * 300,
        "x" * 240,
    ]
    with serve({"/photo": Page(JPEG)}) as site:
        write_raw_items(layout, dict.fromkeys(ids, site.url("/photo")))
        run_photos(QUICK, layout, ANY)
    found = statuses(layout)
    assert found.pop("x" * 300) == "refused item id"
    assert set(found.values()) == {"fetched"}
    files = [path for path in layout.root.rglob("*.jpg") if path.is_file()]
    assert len(files) == len(ids) - 1
    assert {path.parent for path in files} == {layout.raw / "images"}
    rows = [
        json.dumps({"asin": item, "reviewerID": "A", "overall": 5, "unixReviewTime": 1_400_000_000}) for item in ids
    ]
    (layout.raw / "reviews.json").write_text("\n".join(rows))
    metrics = ingest.run(ingest.IngestParams(), layout)
    assert metrics["reviewed_items_with_photo"] == len(ids) - 1


def test_no_more_connections_than_allowed_in_all_and_to_a_host(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[Address]:
        assert host.endswith(".example")
        assert port
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(networks, "look_up", look_up)
    hosts = [f"{name}.example" for name in "abc"]
    with serve({"/photo": Page(JPEG, delay=0.05)}) as site:
        write_raw_items(layout, {f"{host}-{n}": site.url("/photo", host) for host in hosts for n in range(12)})
        run_photos(QUICK.model_copy(update={"connections": 5, "per_host": 2}), layout, ANY)
        assert len(site.visits) == 36
        assert site.peak[""] == 5
        assert max(site.peak[host] for host in hosts) == 2


def test_a_host_that_fails_again_and_again_is_left_for_another_run(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(host: str, port: int) -> list[Address]:
        assert host.endswith(".example")
        assert port
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(networks, "look_up", look_up)
    params = QUICK.model_copy(update={"per_host": 1, "give_up_after": 3})
    with serve({"/down": Page(b"", 503), "/gone": Page(b"", 404), "/photo": Page(JPEG)}) as site:
        urls = {f"a{n:02}": site.url("/down", "down.example") for n in range(10)}
        # A failure for good says that the host is there.
        mixed = ["/down", "/down", "/gone", "/down", "/down", "/photo", "/down", "/down"]
        urls |= {f"b{n:02}": site.url(path, "up.example") for n, path in enumerate(mixed)}
        write_raw_items(layout, urls)
        metrics = run_photos(params, layout, ANY)
        assert metrics["photos_by_status"] == {"http error": 10, "host given up": 7, "fetched": 1}
        assert site.counts()["/down"] == 3 * (3 + 6)
        assert table(layout)["a09"]["detail"] == "3 others of down.example failed in a row"
        assert table(layout)["a09"]["attempts"] == 0
        site.pages["/down"] = Page(JPEG)
        assert run_photos(params, layout, ANY)["photos"] == 17


def test_photos_are_of_the_k_core_if_there_is_one_and_of_all_items_when_asked_for(layout: Layout) -> None:
    with serve({f"/i{n}": Page(JPEG) for n in range(4)}) as site:
        write_raw_items(layout, {f"i{n}": site.url(f"/i{n}") for n in range(4)} | {"i9": None})
        write_items(layout, [{"image_url": site.url("/i0")}, {"image_url": site.url("/i1")}, {"image_url": None}])
        metrics = run_photos(QUICK, layout, ANY)
        assert images(layout) == ["i0.jpg", "i1.jpg"]
        assert (metrics["items_from"], metrics["items"], metrics["items_without_url"]) == (str(layout.items), 3, 1)
        metrics = run_photos(QUICK, layout, PhotosWanted(all_items=True, allow_private=True))
        assert images(layout) == ["i0.jpg", "i1.jpg", "i2.jpg", "i3.jpg"]
        assert (metrics["items_from"], metrics["items"], metrics["items_without_url"]) == (str(layout.raw_items), 5, 1)
        layout.items.unlink()
        assert run_photos(QUICK, layout, ANY)["items"] == 5


def test_too_many_failures_are_an_error_with_counts_after_everything_was_tried(layout: Layout) -> None:
    pages = {"/gone": Page(b"", 404), "/down": Page(b"", 503), **{f"/B{n}": Page(JPEG) for n in range(8)}}
    with serve(pages) as site:
        with pytest.raises(DataError) as caught:
            fetch_all(layout, site, QUICK.model_copy(update={"max_failed_fraction": 0.19}))
        assert str(caught.value) == (
            "2 of 10 photos not fetched (2 http error), more than download.max_failed_fraction allows (0.19); see "
            f"{layout.downloads}, run it again for the 1 that may succeed, or raise the limit"
        )
        assert len(images(layout)) == 8
        assert len(table(layout)) == 10
        assert fetch_all(layout, site, QUICK.model_copy(update={"max_failed_fraction": 0.2}))["photos"] == 8


def test_without_items_or_urls_there_is_nothing_to_do(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="run `mmprep ingest` first"):
        run_photos(QUICK, layout, ANY)
    write_raw_items(layout, {"B0": None})
    with pytest.raises(DataError, match="none of 1 items has an image_url"):
        run_photos(QUICK, layout, ANY)


def test_a_full_disk_ends_the_run_and_what_was_fetched_is_known(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == "B1.jpg":
            raise OSError(28, "No space left on device", str(target))
        return write(self, target)

    monkeypatch.setattr(Path, "replace", full)
    pages = {"/B0": Page(JPEG), "/B1": Page(JPEG, delay=0.2)}
    with serve(pages) as site, pytest.raises(OSError, match="No space left"):
        fetch_all(layout, site)
    assert statuses(layout) == {"B0": "fetched"}
    assert images(layout) == ["B0.jpg"]


def wait_for(condition: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 20, "it never came to that"
        time.sleep(0.01)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [str(MMPREP), "download", "--allow-private", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_photo_run_that_is_ended_goes_on_where_it_was(tmp_path: Path, layout: Layout, how: signal.Signals) -> None:
    (tmp_path / "params.yaml").write_text("dataset: toys\ndownload: {connections: 3, max_failed_fraction: 1}\n")
    # So many that the run has seconds to go when the signal comes, also from a busy machine.
    pages = {f"/B{n:02}": Page(NOISE, delay=min(0.006 * n, 0.12)) for n in range(0, 100, 2)}
    pages |= {f"/B{n:02}": Page(b"", 404, delay=min(0.006 * n, 0.12)) for n in range(1, 100, 2)}
    with serve(pages) as site:
        write_raw_items(layout, {path[1:]: site.url(path) for path in pages})
        with start(tmp_path, "--photos") as process:
            wait_for(lambda: len(site.visits) > 14)
            process.send_signal(how)
            _, shown = process.communicate()
        assert process.returncode == (1 if how is signal.SIGINT else -how)
        assert "Traceback" not in shown
        visited = site.counts()
        whole = {f"/{Path(name).stem}" for name in images(layout) if not name.startswith(".")}
        assert len(whole) >= 4
        if how is signal.SIGINT:
            assert [name for name in images(layout) if name.startswith(".")] == []
            assert len(visited) - 3 <= len(table(layout)) <= len(visited), "all but those under way"
        run_photos(QUICK, layout, ANY)
        again = site.counts()
        assert set(again) == set(pages)
        assert {path for path in whole if again[path] > 1} == set(), "fetched twice"
        assert sum((again - Counter(set(pages))).values()) <= 3, "only what was under way is asked for twice"
    assert len(images(layout)) == 50
    assert Counter(statuses(layout).values()) == {
        "http error": 50,
        "already there": len(whole),
        "fetched": 50 - len(whole),
    }
