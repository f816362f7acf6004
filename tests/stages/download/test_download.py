"""`download`: an edition's raw files from a real server on loopback, and the whole verb on the command line."""

import gzip
import io
import json
import os
import random
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from loopback import Page, Site, serve
from PIL import Image

from mmprep.pipeline.download import public_addresses as networks
from mmprep.pipeline.download.outcomes import DownloadParams
from mmprep.pipeline.download.public_addresses import Address
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.features.external import open_foreign
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import DOWNLOADS
from mmprep.stages.cli.main import bar, main
from mmprep.stages.download.download import FilesWanted, run_files
from mmprep.stages.download.editions import EDITIONS, Extent

MMPREP = Path(sysconfig.get_path("scripts")) / "mmprep"
QUICK = DownloadParams(timeout=2, backoff=0.01, max_wait=0.05, retries=2)
EMPTY = gzip.compress(b"{}\n")
Row = dict[str, Any]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", "toys")


def table(layout: Layout) -> dict[str, Row]:
    """The rows of the table, by the raw file's published name."""
    return {row["url"].split("/")[-1]: row for row in DOWNLOADS.read(layout.downloads).to_dicts()}


def statuses(layout: Layout) -> dict[str, str]:
    return {name: row["status"] for name, row in table(layout).items()}


def files_of(edition: str, extent: Extent, site: Site, category: str = "Video_Games") -> FilesWanted:
    return FilesWanted(edition, category, extent, site.url("/mirror"), allow_private=True)


@pytest.mark.parametrize(
    ("edition", "extent"), [(name, extent) for name, edition in EDITIONS.items() for extent in edition.interactions]
)
def test_raw_files_of_each_edition_are_fetched_from_their_addresses(
    layout: Layout, edition: str, extent: Extent
) -> None:
    found = EDITIONS[edition]
    wanted = (*found.interactions[extent], found.metadata)
    paths = {f"/mirror/{file.address.format(category='Video_Games')}": file for file in wanted}
    pages = {path: Page(EMPTY if path.endswith(".gz") else b"A,B,5.0,1\n") for path in paths}
    with serve(pages) as site:
        metrics = run_files(QUICK, layout, files_of(edition, extent, site))
        assert site.counts() == dict.fromkeys(paths, 1)
        assert run_files(QUICK, layout, files_of(edition, extent, site)) != metrics
        assert site.counts() == dict.fromkeys(paths, 1), "what is there is not asked for"
    names = sorted(file.local_name("Video_Games") for file in wanted)
    assert sorted(path.name for path in layout.raw.iterdir()) == names
    assert {path.removeprefix("/mirror/") for path in paths} == {
        row["url"].removeprefix(site.url("/mirror/")) for row in table(layout).values()
    }
    assert {row["path"] for row in table(layout).values()} == set(names)
    assert {row["item_id"] for row in table(layout).values()} == {None}


def with_image_features(site: Site) -> FilesWanted:
    return FilesWanted("2014", "Baby", Extent.RATINGS, site.url("/mirror"), allow_private=True, image_features=True)


IMAGE_FEATURES = "/mirror/image_features/categoryFiles/image_features_Baby.b"


def test_released_vectors_of_photos_are_fetched_where_the_edition_has_them(layout: Layout) -> None:
    vectors = b"".join(asin.encode() + b"\x00" * 16384 for asin in ("B000000001", "B000000002"))
    pages = {
        IMAGE_FEATURES: Page(vectors),
        "/mirror/categoryFiles/ratings_Baby.csv": Page(b"A,B,5.0,1\n"),
        "/mirror/categoryFiles/meta_Baby.json.gz": Page(EMPTY),
    }
    with serve(pages) as site:
        run_files(QUICK, layout, with_image_features(site))
        assert site.counts() == dict.fromkeys(pages, 1)
        assert open_foreign(layout.raw / "image_features_Baby.b").dimension == 4096
        with pytest.raises(ParamsError, match=r"^--image-features: not in the 2018 edition \(allowed: 2014\)$"):
            run_files(QUICK, layout, FilesWanted("2018", "Gift_Cards", image_features=True))


@pytest.mark.parametrize("content", [b"rubbish", b"B000000001" + b"\x00" * 16384 + b"B"])
def test_vectors_that_are_damaged_are_not_kept(layout: Layout, content: bytes) -> None:
    pages = {
        IMAGE_FEATURES: Page(content),
        "/mirror/categoryFiles/ratings_Baby.csv": Page(b"A,B,5.0,1\n"),
        "/mirror/categoryFiles/meta_Baby.json.gz": Page(EMPTY),
    }
    with serve(pages) as site, pytest.raises(DataError, match=r"image_features_Baby.b: found [\d,]+ bytes, expected"):
        run_files(QUICK, layout, with_image_features(site))
    assert not (layout.raw / "image_features_Baby.b").exists()
    assert (layout.raw / "ratings_Baby.csv").exists()


def test_the_editions_own_address_is_the_default(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def look_up(host: str, port: int) -> list[Address]:
        asked.append((host, port))
        raise OSError("no network here")

    monkeypatch.setattr(networks, "look_up", look_up)
    with pytest.raises(DataError) as caught:
        run_files(DownloadParams(retries=0), layout, FilesWanted("2018", "Gift_Cards"))
    assert asked == [("mcauleylab.ucsd.edu", 443)] * 2
    first, second = str(caught.value).splitlines()
    assert first == (
        "Gift_Cards_5.json.gz: connection failed mcauleylab.ucsd.edu: no network here "
        "(https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/categoryFilesSmall/Gift_Cards_5.json.gz); "
        "run the command again: it continues where this one broke off"
    )
    assert second.startswith("meta_Gift_Cards.json.gz: connection failed")


def test_files_that_fail_are_named_with_what_to_do_and_the_others_are_kept(layout: Layout) -> None:
    path = "/mirror/categoryFilesSmall/Video_Games_5.json.gz"
    pages = {path: Page(EMPTY), "/mirror/metaFiles2/meta_Video_Games.json.gz": Page(b"<html>")}
    with serve(pages) as site:
        with pytest.raises(DataError) as caught:
            run_files(QUICK, layout, files_of("2018", Extent.SMALL, site))
        assert str(caught.value) == (
            "meta_Video_Games.json.gz: damaged file 200 not gzip; begins with b'<html>' "
            f"({site.url('/mirror/metaFiles2/meta_Video_Games.json.gz')}); see "
            "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/ for what is published, or give a mirror with "
            "--base-url"
        )
        assert [path.name for path in layout.raw.iterdir()] == ["Video_Games_5.json.gz"]
        assert statuses(layout) == {"Video_Games_5.json.gz": "fetched", "meta_Video_Games.json.gz": "damaged file"}
        with pytest.raises(DataError, match=r"meta_Video_Games.json.gz: http error 404 Not Found \(.*for what is publ"):
            site.pages.clear()
            run_files(QUICK, layout, files_of("2018", Extent.SMALL, site))


def test_nothing_stays_of_a_file_that_is_too_large(layout: Layout) -> None:
    path = "/mirror/categoryFilesSmall/Video_Games_5.json.gz"
    with serve({path: Page(b"x" * 100_000, length="chunked", etag='"1"')}) as site:
        with pytest.raises(DataError, match=r"^Video_Games_5.json.gz: too large 200 more than 70000 bytes \("):
            run_files(QUICK.model_copy(update={"max_file_bytes": 70_000}), layout, files_of("2018", Extent.SMALL, site))
        assert list(layout.raw.iterdir()) == []


def test_a_mirror_on_a_private_network_must_be_allowed(layout: Layout) -> None:
    with serve({}) as site:
        with pytest.raises(
            DataError, match=r"refused address 127.0.0.1: no public address .*; give --allow-private if "
        ):
            run_files(QUICK, layout, FilesWanted("2018", "Gift_Cards", base_url=site.url("/")))
        assert site.visits == []


def test_two_extents_of_a_category_are_not_mixed(layout: Layout) -> None:
    layout.raw.mkdir(parents=True)
    (layout.raw / "Video_Games.json.gz").touch()
    with serve({}) as site:
        with pytest.raises(DataError) as caught:
            run_files(QUICK, layout, files_of("2018", Extent.SMALL, site))
        assert site.visits == []
    assert str(caught.value) == (
        f"{layout.raw}: holds Video_Games.json.gz, which ingest would read beside Video_Games_5.json.gz; remove it, or "
        "give another folder with --dataset"
    )


def test_an_extent_that_an_edition_has_not_is_named(layout: Layout) -> None:
    with pytest.raises(ParamsError) as caught:
        run_files(QUICK, layout, FilesWanted("2018", "Books", Extent.LAST_OUT))
    assert str(caught.value) == "--last-out: not in the 2018 edition (allowed: --small, --full)"


def test_a_mirror_may_have_categories_of_its_own_but_no_paths(layout: Layout) -> None:
    with serve({}) as site:
        with pytest.raises(DataError, match="http error 404"):
            run_files(QUICK, layout, files_of("2018", Extent.SMALL, site, "Tiny"))
        for name in ("../Tiny", "a/b", "", "a b", "{0}"):
            with pytest.raises(ParamsError, match="expected letters, digits and '_', as it names files"):
                run_files(QUICK, layout, files_of("2018", Extent.SMALL, site, name))


def test_a_raw_file_that_was_killed_is_continued_and_whole_ones_are_left_alone(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "params.yaml").write_text("dataset: toys\n")
    content = gzip.compress(random.Random(0).randbytes(2_000_000))  # noqa: S311 - no secret
    reviews, meta = "/categoryFilesSmall/Gift_Cards_5.json.gz", "/metaFiles2/meta_Gift_Cards.json.gz"
    pages = {reviews: Page(EMPTY), meta: Page(content, etag='"1"', pieces=(20_000, 0.02))}
    partial = layout.raw / "meta_Gift_Cards.json.gz.partial"
    with serve(pages) as site:
        arguments = ("--edition", "2018", "--category", "Gift_Cards", "--base-url", site.url("/"))
        command = [str(MMPREP), "download", "--allow-private", *arguments]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            start = time.monotonic()
            while not (partial.exists() and partial.stat().st_size > 400_000):
                assert time.monotonic() - start < 20, "it never came to that"
                time.sleep(0.01)
            process.kill()
        had = partial.stat().st_size
        assert sorted(path.name for path in layout.raw.iterdir()) == [
            "Gift_Cards_5.json.gz",
            "meta_Gift_Cards.json.gz.note.partial",
            "meta_Gift_Cards.json.gz.partial",
        ]
        site.pages[meta] = Page(content, etag='"1"')
        wanted = FilesWanted("2018", "Gift_Cards", base_url=site.url("/"), allow_private=True)
        shown = run_files(QUICK, layout, wanted)
        assert site.counts() == {reviews: 1, meta: 2}
        assert site.visits[-1].headers["range"] == f"bytes={had}-"
    assert (layout.raw / "meta_Gift_Cards.json.gz").read_bytes() == content
    assert len(list(layout.raw.iterdir())) == 2
    assert statuses(layout) == {"Gift_Cards_5.json.gz": "already there", "meta_Gift_Cards.json.gz": "fetched"}
    assert shown["Gift_Cards_5.json.gz"] == f"already there, {len(EMPTY)} bytes"


def photo(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), "red").save(buffer, kind)
    return buffer.getvalue()


def mmprep(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_from_nothing_to_photos_on_the_command_line(in_folder: Path) -> None:
    (in_folder / "params.yaml").write_text("dataset: other\nfilter: {k_core: 2}\ndownload: {backoff: 0.01}\n")
    pages: dict[str, Page] = {
        "/photos/B0.jpg": Page(photo("JPEG")),
        "/photos/B1.jpg": Page(photo("PNG")),
        "/photos/B2.jpg": Page(photo("JPEG")),
    }
    with serve(pages) as site:
        reviews = [
            {"reviewerID": f"A{user}", "asin": f"B{item}", "overall": 5.0, "unixReviewTime": 1_400_000_000}
            for user in range(2)
            for item in range(2)
        ]
        items = [
            {"asin": f"B{item}", "title": "Card", "imageURL": [site.url(f"/photos/B{item}.jpg")]} for item in range(3)
        ]
        for path, rows in (("categoryFilesSmall/Gift_Cards_5", reviews), ("metaFiles2/meta_Gift_Cards", items)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            site.pages[f"/{path}.json.gz"] = Page(gzip.compress(lines.encode()))
        toys, ours = ("--dataset", "toys"), ("--allow-private",)
        files = ("--edition", "2018", "--category", "Gift_Cards", "--base-url", site.url(""))
        for arguments in (
            ["download", *files, *ours],
            ["ingest"],
            ["filter"],
            ["download", "--photos", *ours],
            ["ingest"],
        ):
            result = mmprep(*arguments, *toys)
            assert (result.exit_code, result.stderr) == (0, ""), result.output
        assert "reviewed_items_with_photo   2" in result.stdout
        result = mmprep("download", "--photos", "--all-items", *ours, *toys)
        assert "photos_by_status           2 already there, 1 fetched" in result.stdout
    assert sorted(path.name for path in Path("data/raw/toys/images").iterdir()) == ["B0.jpg", "B1.png", "B2.jpg"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--edition", "2018"],
        ["--category", "Gift_Cards"],
        ["--photos", "--edition", "2018", "--category", "Gift_Cards"],
        ["--photos", "--category", "Gift_Cards"],
    ],
)
def test_either_files_or_photos(in_folder: Path, arguments: list[str]) -> None:
    assert in_folder == Path.cwd()
    result = mmprep("download", *arguments)
    assert result.exit_code == 2
    assert "give --edition and --category, or --photos" in result.stderr


@pytest.mark.parametrize(("option", "name"), [("--small", "Books_5"), ("--full", "Books"), (None, "Books_5")])
def test_the_extent_is_the_5_core_unless_another_is_asked_for(in_folder: Path, option: str | None, name: str) -> None:
    (in_folder / "params.yaml").write_text("dataset: toys\n")
    with serve({}) as site:
        arguments = ["--edition", "2018", "--category", "Books", "--base-url", site.url(""), "--allow-private"]
        result = mmprep("download", *arguments, *([option] if option else []))
        assert result.exit_code == 4
        assert f"error: {name}.json.gz: http error 404" in result.stderr


def test_a_bar_of_bytes_tells_its_size_and_speed_as_people_read_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "FORCE_COLOR", "1")
    monkeypatch.setitem(os.environ, "COLUMNS", "160")
    with bar("fetching", 3_000_000, "bytes") as advance:
        for _ in range(3):
            time.sleep(0.01)
            advance(500_000, "")
    shown = capsys.readouterr().err
    assert "1.5/3.0 MB" in shown
    assert " MB/s" in shown


def test_help_and_parameters_do_without_the_http_library() -> None:
    code = "import sys; from mmprep.stages.cli import main; from mmprep.stages.config import load\n"
    code += "print('httpx' in sys.modules, 'filelock' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
