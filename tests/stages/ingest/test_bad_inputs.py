"""The table of bad inputs in docs/formats.md: each row is tried, and gives what the table says."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from imports import ROOT

from mmprep.pipeline.errors import MmprepError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import INTERACTIONS, REJECTS
from mmprep.stages.ingest.ingest import IngestParams, run

GOOD = b'{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1400000000}\n'
TABLE = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def changed(field: str, value: object) -> bytes:
    """The good review with another value of a field."""
    return json.dumps(json.loads(GOOD) | {field: value}).encode() + b"\n"


def without(field: str) -> bytes:
    return json.dumps({key: value for key, value in json.loads(GOOD).items() if key != field}).encode() + b"\n"


def second(line: bytes) -> dict[str, bytes]:
    """A file of three lines, the second of which is bad."""
    return {"r.json": GOOD + line + GOOD}


def cut(pack: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """A sound file, and one of three lines without its end."""
    return {"r.json": GOOD, "s.json.gz": pack(GOOD * 3)[:-5]}


FIELDS = {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"}
INPUTS: dict[str, dict[str, bytes]] = {
    "an object cut off in the line": second(GOOD[:30] + b"\n"),
    "an object over two lines": second(GOOD.replace(b'"overall"', b'\n"overall"')),
    "two objects on a line": second(GOOD.strip() + GOOD),
    "a line of zeros": second(b"\0" * 100 + b"\n"),
    "a list instead of an object": second(b"[" + GOOD.strip() + b"]\n"),
    "no user id": second(without(FIELDS["user"])),
    "no item id": second(without(FIELDS["item"])),
    "a blank id": second(changed(FIELDS["item"], "  ")),
    "an id with NUL": second(changed(FIELDS["user"], "A\0")),
    "an id with slashes and dots": second(changed(FIELDS["item"], "../../etc/passwd")),
    "a rating of NaN": second(GOOD.replace(b"5.0", b"NaN")),
    "a rating of Infinity": second(GOOD.replace(b"5.0", b"-Infinity")),
    "a rating of 1e400": second(GOOD.replace(b"5.0", b"1e400")),
    "a rating in quotes": second(changed(FIELDS["rating"], "5.0")),
    "no rating": second(without(FIELDS["rating"])),
    "the time 0": second(changed(FIELDS["time"], 0)),
    "a time in the year 46,000": second(changed(FIELDS["time"], 1_400_000_000_000)),
    "bytes that are not UTF-8": second(GOOD.replace(b"A1", b"A\xff")),
    "a byte order mark": {"r.json": b"\xef\xbb\xbf" + GOOD * 3},
    "a line of 50 MB": second(b'{"reviewText": "' + b"x" * 50_000_000 + b'"}\n'),
    "lines that end in CR LF, and blank ones": {"r.json": GOOD.replace(b"\n", b"\r\n\r\n") * 3},
    "an empty file beside": {"r.json": GOOD * 3, "s.json": b""},
    "gzip cut off": cut(gzip.compress),
    "zstd cut off": cut(zstandard.compress),
    "rubbish behind the end of gzip": {"r.json": GOOD, "s.json.gz": gzip.compress(GOOD * 2) + b"rubbish"},
    "a web page instead of the file": {"r.json": GOOD * 3, "s.json.gz": b"<html>404</html>"},
    "JSON of something else": {"r.json": GOOD * 3, "s.json": b'{"a": 1}\n'},
    "an archive": {"r.json": GOOD * 3, "s.7z": b"7z"},
    "nothing but metadata": {"m.json": b'{"asin": "B1", "title": "mug"}\n'},
    "nothing but rubbish": {"r.json": b"rubbish"},
    "half of the lines bad, above the limit": {"r.json": (GOOD + b"{\n") * 3},
}
STRICT = "half of the lines bad, above the limit"


def documented() -> dict[str, str]:
    """What the table says of each input."""
    section = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").partition("## Bad inputs")[2]
    return dict(TABLE.findall(section)[1:])


def outcome(layout: Layout, params: IngestParams) -> str:
    """What an input gives, in the words of the table."""
    try:
        taken = run(params, layout)["interactions"]
    except MmprepError as error:
        return f"stops: {str(error).removeprefix(f'{layout.raw}: ').partition(',')[0].partition(';')[0]}"
    rejects = [
        " ".join([*([source] if source != "r.json" else []), *([] if line is None else [f"line {line}"])]) + f": {why}"
        for source, line, why, _ in REJECTS.read(layout.rejects).rows()
    ]
    assert INTERACTIONS.count(layout.raw_interactions) == taken
    return "; ".join([f"{taken} taken", *rejects])


def test_the_table_has_every_input_that_is_tried() -> None:
    assert list(documented()) == list(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_a_bad_input_gives_what_the_table_says(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path, "toys")
    layout.raw.mkdir(parents=True)
    for file, content in INPUTS[name].items():
        (layout.raw / file).write_bytes(content)
    params = IngestParams() if name == STRICT else IngestParams(max_reject_fraction=1)
    assert outcome(layout, params) == documented()[name]
