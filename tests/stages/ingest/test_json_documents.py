"""One JSON array, indented JSON, UTF-16, gzip within gzip and a zip of one file are read as their lines would be."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.reject_reasons import Reject
from mmprep.pipeline.tables.schemas import INTERACTIONS, RAW_ITEMS, REJECTS
from mmprep.stages.ingest import json_documents, line_reader
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.ingest.json_documents import read_row_lines

REVIEWS = [
    {"reviewerID": f"A{number}é", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_400_000_000, "helpful": [0, 1]}
    for number in range(5)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in REVIEWS).encode()


def zipped(content: bytes, *more: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        archive.writestr("folder/reviews.json", content)
        archive.writestr("__MACOSX/folder/._reviews.json", b"x")
        for name in more:
            archive.writestr(name, content)
    return buffer.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "an array": lambda: json.dumps(REVIEWS).encode(),
    "an array with each element on a line": lambda: b"[\n" + b",\n".join(LINES.splitlines()) + b"\n]\n",
    "an indented array": lambda: json.dumps(REVIEWS, indent=2, ensure_ascii=False).encode(),
    "an indented array with CR LF": lambda: json.dumps(REVIEWS, indent=1).replace("\n", "\r\n").encode(),
    "indented objects": lambda: "\n".join(json.dumps(row, indent=4) for row in REVIEWS).encode(),
    "a compressed array": lambda: gzip.compress(json.dumps(REVIEWS).encode()),
    "UTF-16, little endian": lambda: b"\xff\xfe" + LINES.decode().encode("utf-16-le"),
    "UTF-16, big endian": lambda: b"\xfe\xff" + LINES.decode().encode("utf-16-be"),
    "an array in UTF-16": lambda: json.dumps(REVIEWS, indent=1).encode("utf-16"),
    "gzip within gzip": lambda: gzip.compress(gzip.compress(LINES)),
    "members of gzip within gzip": lambda: gzip.compress(gzip.compress(LINES[:30]) + gzip.compress(LINES[30:])),
    "gzip within zstd": lambda: zstandard.compress(gzip.compress(LINES)),
    "zip": lambda: zipped(LINES),
    "gzip within zip": lambda: zipped(gzip.compress(LINES)),
}


def dataset(folder: Path, content: bytes, name: str = "reviews.json") -> Layout:
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    (layout.raw / name).write_bytes(content)
    return layout


@pytest.mark.parametrize("piece", [64, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_what_its_lines_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, piece: int
) -> None:
    monkeypatch.setattr(line_reader, "PIECE_BYTES", piece)
    monkeypatch.setattr(json_documents, "PIECE_BYTES", piece)
    layout = dataset(tmp_path, FORMS[form]())
    assert run(IngestParams(max_reject_fraction=0), layout)["rejects"] == 0
    assert INTERACTIONS.read(layout.raw_interactions)["user_id"].to_list() == [row["reviewerID"] for row in REVIEWS]


@given(
    elements=st.lists(
        st.integers() | st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers() | st.lists(st.none()))
    ),
    indent=st.sampled_from([None, 0, 1]),
    piece=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_an_array_gives_its_elements(
    tmp_path_factory: pytest.TempPathFactory, elements: list[object], indent: int | None, piece: int
) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(elements, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_reader, "PIECE_BYTES", piece)
        found = [line for line in read_row_lines(path, "a.json") if not isinstance(line, Reject)]
    assert [json.loads(line) for _, line in found] == elements
    assert [number for number, _ in found] == list(range(1, len(elements) + 1))


@given(content=st.binary(max_size=60).map(lambda raw: b"[" + raw))
@settings(max_examples=100, deadline=None)
def test_any_bytes_behind_a_bracket_give_lines_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_bytes(content)
    assert all(isinstance(line, tuple) for line in read_row_lines(path, "a.json"))


@pytest.mark.parametrize(("end", "taken"), [(-1, 5), (-30, 4), (200, 1)])
def test_a_cut_off_array_keeps_the_elements_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: int, taken: int
) -> None:
    layout = dataset(tmp_path, json.dumps(REVIEWS).encode()[:end])
    metrics = run(IngestParams(max_reject_fraction=1), layout)
    assert (metrics["interactions"], metrics["cut_off_files"]) == (taken, 1)
    reject = REJECTS.read(layout.rejects).row(0, named=True)
    assert (reject["line"], reject["reason"]) == (taken + 1, "JSON array or object cut off or damaged")
    assert "breaks off" in caplog.text


def test_a_row_of_an_array_is_rejected_by_its_number(tmp_path: Path) -> None:
    rows = [*REVIEWS[:3], {**REVIEWS[3], "overall": "good"}, 7, REVIEWS[4]]
    layout = dataset(tmp_path, json.dumps(rows, indent=1).encode())
    assert run(IngestParams(max_reject_fraction=1), layout)["interactions"] == 4
    assert REJECTS.read(layout.rejects).select("line", "reason").rows() == [
        (4, "rating missing or not a finite number"),
        (5, "not a JSON object"),
    ]


def test_an_array_of_items_is_read_too(tmp_path: Path) -> None:
    layout = dataset(tmp_path, LINES)
    (layout.raw / "meta.json").write_text(json.dumps([{"asin": "B1", "title": "mug", "brand": "x"}], indent=1))
    run(IngestParams(), layout)
    assert RAW_ITEMS.read(layout.raw_items)["title"].to_list() == ["mug"]


def test_an_element_that_is_too_long_ends_the_document(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": 1}, {"b": "x" * 5000}, {"a": 2}]))
    found = list(read_row_lines(path, "a.json", longest=100))
    assert len(found) < 4


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (zipped(LINES, "more.json"), "archive of other than one file"),
        (zipped(LINES)[:-30], "archive cut off or damaged"),
        (gzip.compress(gzip.compress(LINES)[:-20]), None),
        (json.dumps({"a": [1]}, indent=1).encode(), "JSON objects with a, which are of no known kind"),
        ("A1,B0,5.0,1400000000".encode("utf-16-le"), "not a known format"),
        (b"<html>", "a page of HTML or XML"),
    ],
)
def test_what_is_not_read_says_why(tmp_path: Path, content: bytes, cause: str | None) -> None:
    layout = dataset(tmp_path, content)
    if cause is None:
        assert run(IngestParams(max_reject_fraction=1), layout)["cut_off_files"] == 1
        return
    with pytest.raises(MissingInputError, match=f"reviews.json: .*{cause}"):
        run(IngestParams(), layout)
