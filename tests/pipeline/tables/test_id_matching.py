"""Ids of two sources compared: which lack a counterpart, and what change of spelling would give them one."""

import polars as pl
import pytest
from imports import ROOT

from mmprep.pipeline.tables.id_matching import EXPLANATIONS, IdComparison, SpellingFit

ASINS = [f"B00TEST{number:03d}" for number in range(10)]
ISBNS = [f"020561640{digit}" for digit in range(10)]


def compare(expected: list[str], available: list[str]) -> IdComparison:
    return IdComparison(pl.Series(expected, dtype=pl.String), pl.Series(available, dtype=pl.String))


def test_ids_are_counted_once_and_both_sides_are_compared() -> None:
    compared = compare([*ASINS[:4], *ASINS[:2]], [*ASINS[2:8], ASINS[7]])
    assert (compared.expected, compared.available) == (4, 6)
    assert sorted(compared.lacking) == ASINS[:2]
    assert sorted(compared.spare) == ASINS[4:8]
    assert (compared.lacking_share, compared.spare_share, compared.mismatch) == (0.5, 4 / 6, 0.5)


def test_empty_sides_give_no_share_and_no_fit() -> None:
    assert compare([], ASINS).mismatch == 0
    assert compare([], ASINS).lacking_share == 0
    assert compare(ASINS, []).lacking_share == 1
    assert compare(ASINS, []).mismatch == 0
    assert compare(ASINS, []).fit is None


@pytest.mark.parametrize(
    ("changes", "expected", "available", "count", "example"),
    [
        (("trim",), [f"{asin} " for asin in ASINS[:4]] + ASINS[4:], ASINS, 4, ("B00TEST000 ", "B00TEST000")),
        (("unquote",), [f'"{asin}"' for asin in ASINS], ASINS, 10, ('"B00TEST000"', "B00TEST000")),
        (("unquote",), ASINS, [f"'{asin}'" for asin in ASINS], 10, ("B00TEST000", "'B00TEST000'")),
        (("case-fold",), [asin.lower() for asin in ASINS], ASINS[:6], 6, ("b00test000", "B00TEST000")),
        (("zero-pad",), [isbn[1:] for isbn in ISBNS], ISBNS, 10, ("205616400", "0205616400")),
        (("zero-pad",), ISBNS, [isbn[1:] for isbn in ISBNS[:3]], 3, ("0205616400", "205616400")),
        (
            ("drop-decimals",),
            [f"{1234567890 + n}.0" for n in range(3)],
            ["1234567891"],
            1,
            ("1234567891.0", "1234567891"),
        ),
        (
            ("unquote", "zero-pad"),
            [f'"{isbn[1:]}"' for isbn in ISBNS],
            ISBNS,
            10,
            ('"205616400"', "0205616400"),
        ),
        (("drop-decimals", "zero-pad"), [f"{isbn[1:]}.0" for isbn in ISBNS], ISBNS, 10, ("205616400.0", "0205616400")),
        (("id-in-name",), ASINS, [f"{asin}_0" for asin in ASINS[:7]], 7, ("B00TEST000", "B00TEST000_0")),
        (("id-in-name",), ASINS, [f"3-{asin}.main" for asin in ASINS], 10, ("B00TEST000", "3-B00TEST000.main")),
        (("number-to-id",), ASINS, [f"{n:09d}" for n in range(8)], 8, None),
        (("number-to-id",), [str(n) for n in range(20)], ASINS, 10, None),
    ],
)
def test_the_change_that_lets_the_most_ids_match_is_named(
    changes: tuple[str, ...], expected: list[str], available: list[str], count: int, example: tuple[str, str] | None
) -> None:
    compared = compare(expected, available)
    assert compared.fit == SpellingFit(changes, count, example)
    assert f"{' and '.join(changes)} (" in compared.explain()
    assert f"{count} fit" in compared.explain()


@pytest.mark.parametrize(
    ("expected", "available"),
    [(ASINS[:5], ASINS[5:]), (ISBNS[:5], ISBNS[5:]), (["000", "0"], ["00"]), (['"'], ["'"])],
)
def test_ids_that_only_differ_have_no_fit(expected: list[str], available: list[str]) -> None:
    compared = compare(expected, available)
    assert compared.fit is None
    assert compared.explain() == f"{min(expected)!r} is missing, {min(available)!r} has no match"


def test_ids_that_are_only_missing_have_no_example_of_the_other_side() -> None:
    assert compare(ASINS, ASINS[1:]).explain() == "'B00TEST000' is missing"


def test_a_fit_is_explained_with_an_example_of_each_side() -> None:
    assert compare([isbn[1:] for isbn in ISBNS], ISBNS).explain() == (
        "zero-pad (leading zeros lost) would make 10 fit, such as '205616400' and '0205616400'"
    )
    assert compare(ASINS, ["000000003"]).explain() == (
        "'B00TEST000' is missing, '000000003' has no match; "
        "number-to-id (numbers instead of ids: a mapping is needed) would make up to 1 fit"
    )


def test_every_change_is_documented() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()]
    assert [row for row in rows if row in EXPLANATIONS] == list(EXPLANATIONS)
