"""Amazon 2014 edition: metadata as lines of Python literals, and ratings without a header."""

import ast
import csv
import json
import re
import warnings
from math import nan
from typing import Any, overload

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.text import clean_text
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object
from mmprep.stages.ingest.nested import URL, nested_text, paths_in, unpacked, unusable, url_in
from mmprep.stages.ingest.rating_blocks import quick_ratings
from mmprep.stages.ingest.records import LAST_SECOND, Fault, Item, Parsed, Review, fault_of, is_id, make_review

# Alternatives in this order: a run of single-quoted strings without escapes or double quotes, with the text between
# them; any other single-quoted string; a double-quoted string; an unterminated string. None of them backtracks.
TOKEN = re.compile(
    r"""(?:'[^'"\\]*+'[^'"\\]*+)++ | '[^'\\]*+(?:\\.[^'\\]*+)*+' | "[^"\\]*+(?:\\.[^"\\]*+)*+" | ['"]""", re.VERBOSE
)
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)|\"")
SOURCES = {name: name for name in ("title", "description", "categories", "brand")} | {"image_url": "imUrl"}
SURROGATES = 0xD800, 0xDFFF
RATING_FIELDS = ("user", "item", "rating", "timestamp")
PLAIN_ESCAPES = {char: f"\\{char}" for char in '\\"nrtbf'} | {"'": "'", "a": "\\u0007", "v": "\\u000b"}


def parse_literal(line: bytes) -> dict[str, Any] | Reason:
    """Parse the dictionary in a line of Python literals, or return why there is none. Nothing is evaluated.

    Most lines become JSON by replacing quotes, which is several times as fast as Python's parser; the others go to
    `ast.literal_eval`.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return Reason.BAD_ENCODING
    try:
        row = json.loads(TOKEN.sub(to_json_string, text))
    except (ValueError, RecursionError):
        row = parse_slowly(text)
    if isinstance(row, Reason):
        return row
    return row if isinstance(row, dict) else Reason.NOT_AN_OBJECT


def to_json_string(match: re.Match[str]) -> str:
    """The JSON form of a token, or of a run of them.

    Raises:
        ValueError: it is unterminated, or has no JSON form that is sure to mean the same.
    """
    token = match[0]
    if len(token) == 1:
        raise ValueError(token)
    if "\\" in token:
        return f'"{ESCAPE.sub(to_json_escape, token[1:-1])}"'
    if token[0] == "'":
        return token.replace('"', '\\"').replace("'", '"') if '"' in token else token.replace("'", '"')
    return token


def to_json_escape(match: re.Match[str]) -> str:
    """The JSON form of an escape, or of a double quote.

    Raises:
        ValueError: the escape is malformed, names a character, or is a surrogate.
    """
    escape = match[1]
    if escape is None:
        return '\\"'
    if escape in PLAIN_ESCAPES:
        return PLAIN_ESCAPES[escape]
    if escape in ("x", "u", "U", "N"):
        raise ValueError(escape)
    if escape[0] not in "xuU01234567":
        return f"\\\\{escape}"  # not an escape in Python either
    code = int(escape, 8) if escape.isdecimal() else int(escape[1:], 16)
    if SURROGATES[0] <= code <= SURROGATES[1]:
        raise ValueError(escape)
    return json.dumps(chr(code))[1:-1]


def parse_slowly(text: str) -> Any:  # noqa: ANN401 - any literal
    """Parse the literal in a line with Python's own parser, or return a reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of unknown escapes
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return Reason.BAD_LITERAL


def item_in(line: bytes) -> Parsed:
    """The item that a line describes."""
    row = parse_literal(line)
    if isinstance(row, Reason):
        return row
    if not is_id(row.get("asin")):
        return Reason.MISSING_ITEM
    item = Item(
        item_id=row["asin"],
        title=clean_text(row.get("title")),
        description=nested_text(row.get("description")),
        categories=paths_in(row.get("categories")),
        brand=clean_text(row.get("brand")),
        image_url=image_in(row.get("imUrl")),
    )
    published = {name: (row.get(source), getattr(item, name)) for name, source in SOURCES.items()}
    return item._replace(unusable=unusable(published))


def image_in(value: object) -> str | None:
    """The URL of a photo: any printable text, or the first URL of a list."""
    if is_id(value) and isinstance(unpacked(value), str):
        return str(value)
    url = url_in(value)
    return url if url and URL.match(url) else None


def rating_in(line: bytes) -> Parsed:
    """The interaction in a line `user,item,rating,timestamp`."""
    fields = fields_in(line)
    return fields if isinstance(fields, Reason) else rating_of(fields)


def rating_of(fields: list[str]) -> Parsed:
    """The interaction in the fields user, item, rating and timestamp."""
    if len(fields) != 4:
        return Fault(Reason.BAD_COLUMNS, f"{len(fields)} columns, expected 4")
    made = make_review(fields[0], fields[1], to_number(fields[2]), to_seconds(fields[3]))
    return made if not isinstance(made, Reason) else fault_of(made, RATING_FIELDS, fields)


def fields_in(line: bytes) -> list[str] | Reason:
    """The fields of a line of CSV, without quotes, surrounding blanks and empty fields at the end."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return Reason.BAD_ENCODING
    fields = text.split(",")
    if '"' in text:
        try:
            fields = next(csv.reader([text], skipinitialspace=True))
        except (csv.Error, StopIteration):
            return Reason.BAD_COLUMNS
    if " " in text or "\t" in text or text.endswith(","):
        fields = [field.strip() for field in fields]
        while len(fields) > 4 and not fields[-1]:
            fields.pop()
    return fields


@overload
def to_number(field: str) -> float | None: ...


@overload
def to_number(field: str, otherwise: float) -> float: ...


def to_number(field: str, otherwise: float | None = None) -> float | None:
    """The number in a field, or `otherwise` if the field holds none."""
    try:
        return float(field)
    except ValueError:
        return otherwise


def to_seconds(field: str, divisor: int = 1) -> int | None:
    """The whole seconds in a field, or None. `divisor` is the number of the field's units per second."""
    if field.isdecimal() and len(field) < 20:
        return int(field) // divisor
    number = to_number(field, nan)
    return int(number // divisor) if 0 <= number < LAST_SECOND * divisor else None


def is_literal_item(head: FileHead) -> bool:
    """Whether the lines are dictionaries in Python notation with an asin."""
    quoted = (line for line in head.lines if line.startswith(b"{'"))
    return any(
        b"'asin':" in line and b"'reviewerID':" not in line and isinstance(parse_object(line), Reason)
        for line in quoted
    )


def is_ratings(head: FileHead) -> bool:
    """Whether most lines are user,item,rating,timestamp."""
    good = sum(isinstance(rating_in(line), Review) for line in head.lines)
    return 2 * good > len(head.lines)


ITEMS = Format(
    name="metadata of the Amazon 2014 edition",
    kind="items",
    matches=is_literal_item,
    parser=lambda head: item_in,  # noqa: ARG005 - the same for every file
)
RATINGS = Format(
    name="ratings of the Amazon 2014 edition",
    kind="reviews",
    matches=is_ratings,
    parser=lambda head: rating_in,  # noqa: ARG005
    block_parser=lambda head: quick_ratings(),  # noqa: ARG005
)
