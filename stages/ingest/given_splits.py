"""Published splits: LATTICE's train/val/test.json and MMRec's .inter, kept exactly as given."""

import csv
import json
from math import nan
from pathlib import Path
from typing import Any, cast

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import SPLITS, VAL
from mmprep.stages.ingest.amazon_2014 import to_number
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object
from mmprep.stages.ingest.records import Fault, Parse, Parsed, Review, as_seconds, make_interaction

MAX_LINE_BYTES = (
    256 << 20
)  # a LATTICE split is one line; Electronics has 1.7 million interactions, 8 bytes or more each
VAL_NAMES = ("valid", "validation")
LABELS = dict(zip(("0", "1", "2"), SPLITS, strict=True))  # MMRec's x_label


def lattice_parser(head: FileHead) -> Parse:
    """Make the line parser of `{user: [item, ...], ...}`; the file's name gives the split.

    Users and items are numbers, which the tables beside the file map to ids; see `read_id_tables`. The format has no
    ratings and no times.
    """
    split = split_of(head.path)
    users, items = read_id_tables(head.path)

    def interactions_in(line: bytes) -> Parsed:
        row = parse_object(line)
        if isinstance(row, Reason):
            return row
        if not all(isinstance(bought, list) for bought in row.values()):
            return Reason.NOT_AN_OBJECT
        return [
            named_interaction(users, items, user, str(item) if type(item) in (int, str) else None, (None, None), split)
            for user, bought in row.items()
            for item in cast("list[object]", bought)
        ]

    return interactions_in


def split_of(path: Path) -> str:
    """The split in a file's name, such as train.json or valid.json.gz; else the name up to the first dot."""
    name = path.name.split(".")[0]
    return VAL if name in VAL_NAMES else name


def read_id_tables(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The ids of a split's user and item numbers, from `user2id.json` or `user_list.txt` beside it, and for items.

    Both are empty without these files; then the numbers are the ids.

    Raises:
        DataError: a file holds something else.
    """
    users, items = (
        names_by_number(path.with_name(f"{kind}2id.json")) or listed_names(path.with_name(f"{kind}_list.txt"))
        for kind in ("user", "item")
    )
    return users, items


def listed_names(path: Path) -> dict[str, str]:
    """The id of each number, from lines of an id and its number, as LATTICE and LightGCN write them.

    Raises:
        DataError: a line holds something else, or two ids have one number.
    """
    if not path.is_file():
        return {}
    names: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 ({error})") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or (number == 1 and len(fields) > 1 and not fields[1].isdecimal()):
            continue  # a blank line, or LightGCN's header `org_id remap_id`
        if len(fields) < 2 or not fields[1].isdecimal() or fields[1] in names:
            raise DataError(f"{path}: line {number}: found {line[:60]!r}, expected an id and a number of its own")
        names[fields[1]] = fields[0]
    return names


def names_by_number(path: Path) -> dict[str, str]:
    """The id of each number, from a file `{id: number}`; empty if there is no such file.

    Raises:
        DataError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        return {str(number): str(name) for name, number in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: expected an object of ids and their numbers ({error})") from error


def is_lattice(head: FileHead) -> bool:
    """Whether a file is train.json, val.json or test.json with lists of items."""
    return split_of(head.path) in SPLITS and any(
        bool(row) and all(isinstance(bought, list) for bought in row.values()) for row in head.objects
    )


FIELDS = {
    Reason.MISSING_USER: "userID",
    Reason.MISSING_ITEM: "itemID",
    Reason.BAD_RATING: "rating",
    Reason.BAD_TIMESTAMP: "timestamp",
}


def mmrec_parser(head: FileHead) -> Parse:
    """Make the line parser of a table with columns userID, itemID, x_label and, optionally, rating and timestamp.

    Times are in seconds or milliseconds, whichever lies between 1990 and 2099.

    The table is tab-separated, as are `u_id_mapping.csv` and `i_id_mapping.csv` beside it, which map the numbers to
    ids; without them the numbers are the ids.
    """
    names = head.lines[0].decode("utf-8", errors="replace").split("\t")
    column = {name: names.index(name) for name in names}
    users = mapping(head.path.with_name("u_id_mapping.csv"), "user_id", "userID")
    items = mapping(head.path.with_name("i_id_mapping.csv"), "asin", "itemID")

    has_rating, has_time = "rating" in column, "timestamp" in column

    def interaction_in(line: bytes) -> Parsed:
        try:
            fields = line.decode("utf-8").split("\t")
        except UnicodeDecodeError:
            return Reason.BAD_ENCODING
        if fields == names:
            return []
        if len(fields) != len(names):
            return Fault(Reason.BAD_COLUMNS, f"{len(fields)} columns, expected {len(names)}")
        if fields[column["x_label"]] not in LABELS:
            return Fault.of(Reason.BAD_COLUMNS, "x_label", fields[column["x_label"]])
        user, item = fields[column["userID"]], fields[column["itemID"]]
        rating = to_number(fields[column["rating"]], nan) if has_rating else None
        time = as_seconds(fields[column["timestamp"]]) if has_time else None
        made = named_interaction(users, items, user, item, (rating, time), LABELS[fields[column["x_label"]]])
        if isinstance(made, Review) or made not in FIELDS:
            return made
        return Fault.of(made, FIELDS[made], fields[column[FIELDS[made]]])

    return interaction_in


def named_interaction(
    users: dict[str, str],
    items: dict[str, str],
    user: str,
    item: str | None,
    rating_and_time: tuple[float | None, float | None],
    split: str,
) -> Review | Reason:
    """Make an interaction from two numbers, which the tables map to ids; an empty table leaves them unchanged."""
    checked = make_interaction(user, item, *rating_and_time, split)
    if isinstance(checked, Reason):
        return checked
    user_id, item_id = (
        table.get(number) if table else number for table, number in ((users, checked.user_id), (items, checked.item_id))
    )
    if user_id is None or item_id is None:
        return Reason.UNKNOWN_NUMBER
    return make_interaction(user_id, item_id, *rating_and_time, split)


def mapping(path: Path, name: str, number: str) -> dict[str, str]:
    """The id of each number, from a tab-separated table; empty if there is no such file.

    Raises:
        DataError: the file is not such a table, or lacks one of the columns.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file, delimiter="\t"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a tab-separated table ({error})") from error
    try:
        return {row[number]: row[name] for row in rows}
    except KeyError as error:
        raise DataError(f"{path}: no column {error}, expected {name} and {number}, tab-separated") from error


def is_mmrec(head: FileHead) -> bool:
    """Whether the first line names MMRec's columns."""
    return bool(head.lines) and {b"userID", b"itemID", b"x_label"} <= set(head.lines[0].split(b"\t"))


LATTICE = Format(name="LATTICE's split", kind="reviews", matches=is_lattice, parser=lattice_parser)
MMREC = Format(name="MMRec's .inter", kind="reviews", matches=is_mmrec, parser=mmrec_parser)
