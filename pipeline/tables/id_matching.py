"""Ids of two sources compared: those without a counterpart, and a change of spelling that would let them match.

Reviews, metadata, photos and features each bring ids. A spreadsheet loses leading zeros, a database adds quotes, and a
shard numbers its photos. Every source is valid alone, so only the comparison shows that they do not belong together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import polars as pl

QUOTES = "\"'`\u201c\u201d\u2018\u2019"
NUMBER = r"^[0-9]{1,9}$"  # ASINs of digits alone have ten
NUMBER_TO_ID = "number-to-id"
ID_IN_NAME = "id-in-name"
CHANGES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "trim": lambda ids: ids.str.strip_chars(),
    "unquote": lambda ids: ids.str.strip_chars(QUOTES),
    "drop-decimals": lambda ids: ids.str.replace(r"^([0-9]+)\.0+$", "$1"),
    "case-fold": lambda ids: ids.str.to_lowercase(),
    "zero-pad": lambda ids: ids.str.strip_chars_start("0"),
}
"""Changes of spelling by name, in the order in which several are applied: quotes inside blanks, zeros inside quotes."""

EXPLANATIONS = {
    "trim": "blanks around ids",
    "unquote": "quotes around ids",
    "drop-decimals": "ids read as fractions",
    "case-fold": "upper and lower case",
    "zero-pad": "leading zeros lost",
    ID_IN_NAME: "more in the name than the id",
    NUMBER_TO_ID: "numbers instead of ids: a mapping is needed",
}


@dataclass(frozen=True)
class SpellingFit:
    """A change of spelling that would let ids match.

    Attributes:
        changes: names of the changes to apply, in order; keys of EXPLANATIONS.
        count: number of expected ids without a counterpart that would then have one; an upper bound for numbers.
        example: an expected id and its counterpart; None for numbers.
    """

    changes: tuple[str, ...]
    count: int
    example: tuple[str, str] | None

    def __str__(self) -> str:
        causes = ", ".join(EXPLANATIONS[change] for change in self.changes)
        like = "" if self.example is None else f", such as {self.example[0]!r} and {self.example[1]!r}"
        most = "up to " if self.example is None else ""
        return f"{' and '.join(self.changes)} ({causes}) would make {most}{self.count} fit{like}"


class IdComparison:
    """Expected ids beside the ids that another source has.

    Attributes:
        expected: number of distinct expected ids.
        available: number of distinct ids of the other source.
        lacking: expected ids that the other source lacks, unordered.
        spare: ids of the other source that are not expected, unordered.
    """

    def __init__(self, expected: pl.Series, available: pl.Series) -> None:
        wanted, present = to_frame(expected), to_frame(available)
        self.expected = len(wanted)
        self.available = len(present)
        self.lacking = wanted.join(present, on="id", how="anti")["id"]
        self.spare = present.join(wanted, on="id", how="anti")["id"]
        self._present = present

    @property
    def lacking_share(self) -> float:
        """Share of the expected ids that the other source lacks."""
        return len(self.lacking) / max(self.expected, 1)

    @property
    def spare_share(self) -> float:
        """Share of the other source's ids that are not expected."""
        return len(self.spare) / max(self.available, 1)

    @property
    def mismatch(self) -> float:
        """The smaller of both shares: one source may simply have more or fewer ids, but misspelt ids raise both."""
        return min(self.lacking_share, self.spare_share)

    @cached_property
    def fit(self) -> SpellingFit | None:
        """The change of spelling that gives the most lacking ids a counterpart; None if none does."""
        return find_fit(self.lacking, self._present["id"])

    def explain(self) -> str:
        """The change of spelling that would let ids match, if there is one, with an example of each side."""
        if self.fit is not None and self.fit.example is not None:
            return str(self.fit)
        spare = f", {self.spare.min()!r} has no match" if len(self.spare) else ""
        return f"{self.lacking.min()!r} is missing{spare}" + ("" if self.fit is None else f"; {self.fit}")


def to_frame(ids: pl.Series) -> pl.DataFrame:
    """Distinct ids as a column `id`."""
    return pl.DataFrame({"id": ids.cast(pl.String)}).unique()


def find_fit(lacking: pl.Series, available: pl.Series) -> SpellingFit | None:
    """The change of spelling that gives the most of the ids `lacking` a counterpart in `available`; None if none does.

    Of equal ones the first is taken: a single change, several together (those that add matches), an id as a part of a
    name. Numbers in place of ids are considered if nothing else fits.
    """
    if lacking.is_empty() or available.is_empty():
        return None
    best = max((apply_changes((name,), lacking, available) for name in CHANGES), key=lambda fit: fit.count)
    everything = apply_changes(tuple(CHANGES), lacking, available)
    if everything.count > best.count:
        best = without_idle_changes(everything, lacking, available)
    best = max(best, find_in_names(lacking, available), key=lambda fit: fit.count)
    return best if best.count else find_numbers(lacking, available)


def apply_changes(changes: tuple[str, ...], lacking: pl.Series, available: pl.Series) -> SpellingFit:
    """Change the spelling of both sides, and count the ids of `lacking` that have a counterpart then."""
    spelt = pl.col("id")
    for change in changes:
        spelt = CHANGES[change](spelt)
    sides = [pl.DataFrame({"id": ids}).with_columns(spelt.alias("spelt")) for ids in (lacking, available)]
    return count_pairs(changes, *(side.filter(pl.col("spelt") != "") for side in sides))


def count_pairs(changes: tuple[str, ...], lacking: pl.DataFrame, available: pl.DataFrame) -> SpellingFit:
    """Count the ids that are equal in the column `spelt`."""
    pairs = lacking.join(available, on="spelt", suffix="_available").select("id", "id_available").unique()
    example = None if pairs.is_empty() else pairs.sort("id", "id_available").row(0)
    return SpellingFit(changes, pairs["id"].n_unique(), example)


def without_idle_changes(fit: SpellingFit, lacking: pl.Series, available: pl.Series) -> SpellingFit:
    """Leave out the changes without which as many ids fit."""
    for change in fit.changes:
        fewer = tuple(name for name in fit.changes if name != change)
        if (shorter := apply_changes(fewer, lacking, available)).count >= fit.count:
            fit = shorter
    return fit


def find_in_names(lacking: pl.Series, available: pl.Series) -> SpellingFit:
    """The fit of ids that are parts of names, as of `B00_1.main`."""
    names = pl.DataFrame({"id": available}).filter(pl.col("id").str.contains("[^A-Za-z0-9]"))
    parts = names.with_columns(spelt=pl.col("id").str.extract_all("[A-Za-z0-9]+")).explode("spelt")
    return count_pairs((ID_IN_NAME,), pl.DataFrame({"id": lacking, "spelt": lacking}), parts)


def find_numbers(lacking: pl.Series, available: pl.Series) -> SpellingFit | None:
    """The fit if most ids of one side alone are short numbers, such as positions in a list; else None."""
    numbers = [int(ids.str.contains(NUMBER).sum()) for ids in (lacking, available)]
    are_numbers = [2 * count > len(ids) for count, ids in zip(numbers, (lacking, available), strict=True)]
    if are_numbers[0] == are_numbers[1]:
        return None
    return SpellingFit((NUMBER_TO_ID,), min(len(lacking), len(available)), None)
