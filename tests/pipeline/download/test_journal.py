"""What was downloaded is not forgotten, however the process ends."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmprep.pipeline.download.journal import open_manifest
from mmprep.pipeline.download.outcomes import Outcome, Status, count_statuses, is_final
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import Provenance, read_provenance
from mmprep.pipeline.tables.schemas import DOWNLOADS

PROVENANCE = Provenance("download", {}, {}, {}, {})
RAW = Outcome("http://a.example/X.json.gz", None, "X.json.gz", Status.FETCHED, 200, 1234, 1)
PHOTO = Outcome("http://a.example/B0.jpg", "B0", "images/B0.jpg", Status.FETCHED, 200, 99, 2)
GONE = Outcome("http://a.example/B1.jpg", "B1", None, Status.HTTP_ERROR, 404, 0, 1, "Not Found")
REFUSED = Outcome("ftp://a.example/", "A0", None, Status.REFUSED_URL)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", "toys")


def record(layout: Layout, *outcomes: Outcome) -> None:
    with open_manifest(layout, PROVENANCE) as ledger:
        for outcome in outcomes:
            ledger.record(outcome)


def rows(layout: Layout) -> list[tuple[object, ...]]:
    return DOWNLOADS.read(layout.downloads).rows()


def test_outcomes_become_a_table_of_raw_files_then_items(layout: Layout) -> None:
    record(layout, GONE, PHOTO, RAW, REFUSED)
    assert rows(layout) == [tuple(outcome) for outcome in (RAW, REFUSED, PHOTO, GONE)]
    assert DOWNLOADS.read(layout.downloads).columns == [
        *("url", "item_id", "path", "status", "http_status", "bytes", "attempts", "detail")
    ]
    assert read_provenance(layout.downloads)["stage"] == "download"
    assert layout.download_journal.read_text() == ""


def test_a_later_outcome_replaces_the_earlier_one_of_the_item_or_of_the_raw_url(layout: Layout) -> None:
    record(layout, RAW, PHOTO, GONE)
    moved = GONE._replace(url="http://b.example/B1.jpg", http_status=410)
    record(layout, RAW._replace(status=Status.ALREADY_THERE), moved)
    assert rows(layout) == [tuple(RAW._replace(status=Status.ALREADY_THERE)), tuple(PHOTO), tuple(moved)]


def test_an_earlier_outcome_is_found_by_item_and_url(layout: Layout) -> None:
    record(layout, GONE)
    with open_manifest(layout, PROVENANCE) as ledger:
        assert ledger.find("B1", GONE.url) == GONE
        assert isinstance(ledger.find("B1", GONE.url).status, Status)  # type: ignore[union-attr]
        assert ledger.find("B1", "http://elsewhere.example/") is None
        assert ledger.find("B2", GONE.url) is None


def test_an_interrupted_block_leaves_the_table(layout: Layout) -> None:
    with pytest.raises(KeyboardInterrupt), open_manifest(layout, PROVENANCE) as ledger:
        ledger.record(PHOTO)
        raise KeyboardInterrupt
    assert rows(layout) == [tuple(PHOTO)]


def test_a_killed_process_leaves_all_that_it_noted(layout: Layout) -> None:
    record(layout, RAW)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from mmprep.pipeline.download.outcomes import Outcome, Status; from mmprep.pipeline.layout import Layout\n"
        "from mmprep.pipeline.download.journal import open_manifest\n"
        "from mmprep.pipeline.tables.provenance import Provenance\n"
        "with open_manifest(Layout(Path(sys.argv[1]), 'toys'), Provenance('download', {}, {}, {}, {})) as ledger:\n"
        "    for n in range(100):\n"
        "        ledger.record(Outcome(f'http://a.example/{n}', f'i{n:02}', None, Status.TIMED_OUT))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[3])
    killed = subprocess.run([sys.executable, "-c", code, str(layout.root), root], check=False)
    assert killed.returncode == -9
    assert rows(layout) == [tuple(RAW)], "the table is the old one"
    with layout.download_journal.open("a") as journal:
        journal.write('["http://a.example/half", "h0", nu')  # as a full disk may leave it
    record(layout, PHOTO)
    found = rows(layout)
    assert found[:2] == [tuple(RAW), tuple(PHOTO)]
    assert [row[1] for row in found[2:]] == [f"i{n:02}" for n in range(100)]


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '["u"]', '["u", "i", null, "no such status"]', '"text"', "\0"])
def test_lines_of_a_journal_that_are_none_are_left_out(layout: Layout, line: str) -> None:
    layout.download_journal.parent.mkdir(parents=True)
    layout.download_journal.write_text(f"{line}\n{json.dumps(PHOTO)}\n{line}")
    record(layout, GONE)
    assert rows(layout) == [tuple(PHOTO), tuple(GONE)]


def test_after_a_line_that_was_cut_off_the_journal_goes_on_with_a_new_one(layout: Layout) -> None:
    layout.download_journal.parent.mkdir(parents=True)
    layout.download_journal.write_text('["http://a.example/half", "h0", nu')
    with open_manifest(layout, PROVENANCE) as ledger:
        ledger.record(PHOTO)
        assert json.loads(layout.download_journal.read_text().splitlines()[-1]) == list(PHOTO)


def test_two_downloads_of_a_dataset_exclude_each_other(layout: Layout) -> None:
    with open_manifest(layout, PROVENANCE):
        with pytest.raises(DataError) as caught, open_manifest(layout, PROVENANCE):
            pass
        with open_manifest(Layout(layout.root, "books"), PROVENANCE):
            pass
    assert str(caught.value) == (
        f"{layout.raw}: another `mmprep download` of this dataset is running; wait for it or stop it"
    )
    record(layout, PHOTO)


def test_a_download_by_an_earlier_version_is_kept_out_of_too(layout: Layout) -> None:
    layout.download_journal.parent.mkdir(parents=True)
    with layout.download_journal.open("a+") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(DataError, match="another `mmprep download`"), open_manifest(layout, PROVENANCE):
            pass
    record(layout, PHOTO)
    assert [path.name for path in layout.download_journal.parent.iterdir() if path.name.startswith(".")] == [
        ".downloads.jsonl"
    ]


def test_a_damaged_table_is_told(layout: Layout) -> None:
    record(layout, PHOTO)
    layout.downloads.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="remove it and run `mmprep download`"), open_manifest(layout, PROVENANCE):
        pass


@pytest.mark.parametrize("status", Status)
def test_which_failures_are_final(status: Status) -> None:
    final = {"refused url", "refused item id", "too many redirects", "too large", "not an image"}
    assert is_final(Outcome("u", "i", None, status)) == (status.value in final)


@pytest.mark.parametrize(("number", "final"), [(404, True), (410, True), (403, True), (304, True)])
def test_which_http_errors_are_final(number: int, final: bool) -> None:
    assert is_final(GONE._replace(http_status=number)) is final


@pytest.mark.parametrize("number", [408, 425, 429, 500, 502, 503, 504])
def test_which_http_errors_may_pass(number: int) -> None:
    assert not is_final(GONE._replace(http_status=number))


def test_statuses_are_counted_most_frequent_first() -> None:
    counts = count_statuses([GONE, PHOTO, PHOTO, REFUSED])
    assert list(counts.items()) == [("fetched", 2), ("http error", 1), ("refused url", 1)]
