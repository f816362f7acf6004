"""Roles of columns: which one is the user, the item, the rating and the time, by header or by `ingest.columns`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mmprep.pipeline.params import Params
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import TEST, TRAIN, VAL
from mmprep.stages.ingest.records import Fault, Review, Unit, as_id, as_number, as_seconds, make_interaction

Position = Annotated[int, Field(ge=1)]
Role = Literal["user", "item", "rating", "time", "split"]

# Names of columns without case, blanks, hyphens and underscores; of several, one in `WEAKER` gives way to the others.
KNOWN: dict[Role, tuple[str, ...]] = {
    "user": ("userid", "user", "reviewerid", "uid", "customerid"),
    "item": ("parentasin", "asin", "itemid", "item", "productid", "product", "iid", "movieid", "bookid", "businessid"),
    "rating": ("rating", "overall", "stars", "starrating", "score"),
    "time": ("timestamp", "unixreviewtime", "sorttimestamp", "unixtime", "time", "datetime", "date", "reviewtime"),
    "split": ("xlabel", "split"),
}
WEAKER = frozenset({"user", "item", "product", "asin"})
SPLIT_LABELS = {
    **{"0": TRAIN, "1": VAL, "2": TEST},  # MMRec's x_label
    **{"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST},
}


class ColumnsParams(Params):
    """Section `ingest.columns` of params.yaml: columns of tables, or fields of JSON lines, by name or position.

    Attributes:
        user: name of the user's column, or its position from 1 in a CSV or TSV without header; null to derive it from
            the header.
        item: likewise, of the item's.
        rating: likewise, of the rating's.
        time: likewise, of the time's.
        unit: of the time: s, ms or iso; null for the one in which a value lies between 1990 and 2099.
    """

    user: str | Position | None = None
    item: str | Position | None = None
    rating: str | Position | None = None
    time: str | Position | None = None
    unit: Unit | None = None

    @property
    def named(self) -> dict[Role, str | int]:
        """The roles with a column, and the name or position of each."""
        roles: tuple[Role, ...] = ("user", "item", "rating", "time")
        return {role: value for role in roles if (value := getattr(self, role)) is not None}

    @property
    def by_position(self) -> bool:
        """Whether columns are given by position, for tables without header."""
        return isinstance(self.user, int) and isinstance(self.item, int)


NO_COLUMNS = ColumnsParams()


class Cells(NamedTuple):
    """Unchecked values of a row by role; None for a role without a column."""

    user: object
    item: object
    rating: object = None
    time: object = None
    split: object = None


@dataclass(frozen=True)
class Columns:
    """The columns of a file by role.

    Attributes:
        positions: position of each role's column from 0; missing for a role without a column.
        names: name of each role's column.
        unit: see `ColumnsParams`.
        split: the split in the file's name, for files without a column of splits.
    """

    positions: dict[Role, int]
    names: dict[Role, str]
    unit: Unit | None = None
    split: str | None = None

    def review_in(self, cells: Cells) -> Review | Fault:
        """The interaction in a row, or a fault that names the column and the value.

        Numbers are accepted as ids, and text as numbers, where they have one meaning only. A file without a rating or
        without a time gives null.
        """
        rating = as_number(cells.rating) if "rating" in self.names else None
        time = as_seconds(cells.time, self.unit) if "time" in self.names else None
        split = self.split if "split" not in self.names else SPLIT_LABELS.get(str(cells.split).strip().lower())
        if split is None and "split" in self.names:
            return self.fault(Reason.BAD_COLUMNS, "split", cells.split)
        made = make_interaction(as_id(cells.user), as_id(cells.item), rating, time, split)
        if isinstance(made, Review):
            return made
        role = ROLE_OF[made]
        return self.fault(made, role, getattr(cells, role))

    def fault(self, reason: Reason, role: Role, value: object) -> Fault:
        """A fault of one value."""
        return Fault.of(reason, self.names[role], value, self.unit)


# Columns, without punctuation, of item descriptions and never of reviews.
DESCRIBING = frozenset(
    {"maincategory", "maincat", "categories", "images", "imurl", "imageurl", "averagerating", "brand"}
)
ROLE_OF: dict[Reason, Role] = {
    Reason.MISSING_USER: "user",
    Reason.MISSING_ITEM: "item",
    Reason.BAD_RATING: "rating",
    Reason.BAD_TIMESTAMP: "time",
}


def find_columns(header: Sequence[str], wanted: ColumnsParams, split: str | None = None) -> Columns | str:
    """Assign columns to roles by name, or say in one phrase why that is impossible.

    Args:
        header: names of the columns; a type behind a colon, as in RecBole's `user_id:token`, is ignored.
        wanted: names that are given; the other roles are assigned by KNOWN.
        split: the split in the file's name.
    """
    names = [name.strip() for name in header]
    plain = [re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower()) for name in names]
    positions: dict[Role, int] = {}
    for role, known in KNOWN.items():
        given = wanted.named.get(role)
        if given is not None:
            fitting = [at for at, name in enumerate(names) if given in (name, name.partition(":")[0])]
            if not fitting:
                return f"no column {given!r}, found {', '.join(filter(None, names))}"
        else:
            fitting = sorted(
                (at for at, name in enumerate(plain) if name in known), key=lambda at: known.index(plain[at])
            )
            fitting = [at for at in fitting if plain[at] not in WEAKER] or fitting
        if len(fitting) > 1 and role in ("user", "item"):
            found = " and ".join(names[at] for at in sorted(fitting))
            return f"columns {found} may each be the {role}; name one in ingest.columns"
        if fitting:
            positions[role] = fitting[0]
    missing = [role for role in ("user", "item") if role not in positions]
    if missing:
        shown = ", ".join(filter(None, names))
        found = f"no column of {' and '.join(f'{role}s' for role in missing)} among {shown}"
        if DESCRIBING & set(plain):
            return f"{found}; item descriptions are read from JSON lines or Parquet: save them so"
        return f"{found}; name them in ingest.columns"
    return Columns(positions, {role: names[at] for role, at in positions.items()}, wanted.unit, split)


def split_in_name(name: str) -> str | None:
    """The split that a file's name has between dots, such as `toys.valid.inter` or `train.csv.gz`, or None."""
    return next((SPLIT_LABELS[part] for part in name.split(".") if part in SPLIT_LABELS and part.isalpha()), None)
