"""The warning of items that get no feature."""

import polars as pl
import pytest

from mmprep.stages.extract.missing import warn_of_missing

ITEMS = pl.DataFrame({"item": [0, 1, 2], "item_id": ["A", "B", "C"]}, schema_overrides={"item": pl.Int32})


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("mean", "training gives them the mean of the others"),
        ("zeros", "training gives them zeros"),
        ("error", "recommenders that need it refuse to train"),
    ],
)
def test_the_warning_counts_items_and_says_what_they_get(
    caplog: pytest.LogCaptureFixture, missing: str, what: str
) -> None:
    warn_of_missing("vgg16", "photo", ITEMS, [0], missing)  # type: ignore[arg-type]
    assert [record.message for record in caplog.records] == [
        f"vgg16: 2 of 3 items have no usable photo, such as 'B'; {what} (extract.missing: {missing})"
    ]


def test_no_item_with_a_feature_is_a_warning_too(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_missing("vgg16", "photo", ITEMS, [], "mean")
    assert "3 of 3 items have no usable photo, such as 'A'" in caplog.text


def test_no_warning_if_all_have_one(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_missing("vgg16", "photo", ITEMS, [2, 0, 1], "mean")
    assert caplog.records == []
