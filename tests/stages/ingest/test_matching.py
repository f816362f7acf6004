"""Reviews, metadata and photos whose ids do not match: a warning, and above the limit an error that says why."""

import io
import json
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import RAW_ITEMS
from mmprep.stages.ingest import matching
from mmprep.stages.ingest.ingest import IngestParams, run

IDS = [f"B00TEST{number:03d}" for number in range(10)]
NO_PHOTOS = "no photos of items; add them (mmprep download), or read features from files (library: file)"
ADVICE = "make the ids alike, or raise the limit if nothing is misspelt"


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def write_dataset(
    folder: Path, reviewed: Sequence[str], described: Sequence[str] = (), photos: Sequence[str] = ()
) -> Layout:
    """A dataset with a review and a description for each of these ids, and photos of these names."""
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    reviews = [{"reviewerID": "A1", "asin": item, "overall": 5.0, "unixReviewTime": 1_400_000_000} for item in reviewed]
    write_lines(layout.raw / "reviews.json", reviews)
    if described:
        write_lines(layout.raw / "meta.json", [{"asin": item, "title": f"Toy {item}"} for item in described])
    for name in photos:
        (layout.raw / "images").mkdir(exist_ok=True)
        (layout.raw / "images" / name).write_bytes(jpeg())
    return layout


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def warnings_of(caplog: pytest.LogCaptureFixture, layout: Layout) -> list[str]:
    """The warnings of matching, without the raw folder before them."""
    ours = [record for record in caplog.records if record.name == matching.__name__]
    assert {record.levelno for record in ours} <= {logging.WARNING}
    return [record.message.removeprefix(f"{layout.raw}: ") for record in ours]


def test_only_reviewed_items_count_as_having_a_text_or_photo(tmp_path: Path) -> None:
    layout = write_dataset(
        tmp_path, IDS[:3], IDS[1:], [f"{item}.jpg" for item in (IDS[2], IDS[8], IDS[9], "B07OTHER00")]
    )
    metrics = run(IngestParams(max_unmatched_fraction=1), layout)
    counts = {key: metrics[key] for key in metrics if "photo" in key or "text" in key or "description" in key}
    assert counts == {
        "reviewed_items_with_text": 2,
        "reviewed_items_with_photo": 1,
        "descriptions_without_review": 7,
        "photos_without_review": 3,
    }


def test_a_whole_category_of_metadata_and_photos_gives_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = write_dataset(tmp_path, IDS[:1], IDS, [f"{item}.jpg" for item in [*IDS, *(f"C{n}" for n in range(20))]])
    metrics = run(IngestParams(max_unmatched_fraction=0), layout)
    assert (metrics["descriptions_without_review"], metrics["photos_without_review"]) == (9, 29)
    assert warnings_of(caplog, layout) == []


@pytest.mark.parametrize(
    ("reviewed", "described", "line"),
    [
        (
            [*(f"20561640{n}" for n in range(6)), *IDS[:4]],
            [*(f"020561640{n}" for n in range(6)), *IDS[:4]],
            "6 of 10 reviewed items have no description, and 6 of 10 items with a description have no review (zero-pad "
            "(leading zeros lost) would make 6 fit, such as '205616400' and '0205616400'); a share of 0.6",
        ),
        (
            [str(number) for number in range(10)],
            IDS,
            "10 of 10 reviewed items have no description, and 10 of 10 items with a description have no review ('0' is "
            "missing, 'B00TEST000' has no match; number-to-id (numbers instead of ids: a mapping is needed) would make "
            "up to 10 fit); a share of 1",
        ),
    ],
)
def test_ids_that_differ_from_those_of_the_metadata_stop_the_stage(
    tmp_path: Path, reviewed: list[str], described: list[str], line: str
) -> None:
    layout = write_dataset(tmp_path, reviewed, described)
    with pytest.raises(DataError) as caught:
        run(IngestParams(), layout)
    assert str(caught.value) == (
        f"{layout.raw}: {line}, more than ingest.max_unmatched_fraction allows (0.2); {ADVICE}"
    )
    assert not layout.raw_items.exists()


def test_a_share_at_the_limit_is_a_warning_and_one_above_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = write_dataset(tmp_path, IDS, [*IDS[:7], *(item.lower() for item in IDS[7:])])
    run(IngestParams(max_unmatched_fraction=0.3), layout)
    assert warnings_of(caplog, layout) == [
        NO_PHOTOS,
        "3 of 10 reviewed items have no description, and 3 of 10 items with a description have no review (case-fold "
        "(upper and lower case) would make 3 fit, such as 'B00TEST007' and 'b00test007')",
    ]
    with pytest.raises(DataError, match=r"a share of 0\.3, more than ingest\.max_unmatched_fraction allows \(0\.29\)"):
        run(IngestParams(max_unmatched_fraction=0.29), layout)


def test_descriptions_without_any_text_are_no_descriptions(tmp_path: Path) -> None:
    layout = write_dataset(tmp_path, IDS)
    write_lines(layout.raw / "meta.json", [{"asin": item, "title": "", "brand": ""} for item in IDS])
    with pytest.raises(DataError, match=r"\('B00TEST000' is missing; 10 are described, but without any text\)"):
        run(IngestParams(), layout)


def test_numbered_photos_of_a_shard_stop_the_stage(tmp_path: Path) -> None:
    layout = write_dataset(tmp_path, IDS)
    (layout.raw / "images").mkdir()
    with tarfile.open(layout.raw / "images" / "00000.tar", "w") as shard:
        for number in range(10):
            member = tarfile.TarInfo(f"{number:09d}.jpg")
            member.size = len(jpeg())
            shard.addfile(member, io.BytesIO(jpeg()))
    with pytest.raises(
        DataError, match=r"10 of 10 reviewed items have no photo.*'000000000' has no match; number-to-id"
    ):
        run(IngestParams(), layout)


def test_files_that_are_no_photos_by_name_count_as_photos_of_no_item(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = write_dataset(tmp_path, IDS, IDS, [f"{IDS[0]}.jpg", *(f"{item}.xyz" for item in IDS[1:4])])
    with pytest.raises(DataError) as caught:
        run(IngestParams(), layout)
    assert (
        "9 of 10 reviewed items have no photo, and 0 of 1 items with a photo have no review ('B00TEST001' is missing; "
        "3 files are no photos by their name, such as 'images/B00TEST001.xyz'); a share of 0.75, more than"
    ) in str(caught.value)
    run(IngestParams(max_unmatched_fraction=0.75), layout)
    assert len(warnings_of(caplog, layout)) == 1


def test_photos_of_few_items_are_a_warning_if_all_are_of_known_items(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = write_dataset(tmp_path, IDS[:9], IDS, [f"{IDS[0]}.jpg", f"{IDS[9]}.jpg"])
    run(IngestParams(max_unmatched_fraction=0), layout)
    assert warnings_of(caplog, layout) == [
        "8 of 9 reviewed items have no photo, and 1 of 2 items with a photo have no review ('B00TEST001' is missing, "
        "'B00TEST009' has no match)"
    ]


def test_of_two_errors_the_other_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = write_dataset(tmp_path, IDS, [f"0{item}" for item in IDS], ["1.jpg", "2.jpg"])
    with pytest.raises(DataError, match="10 of 10 reviewed items have no description"):
        run(IngestParams(), layout)
    (warning,) = warnings_of(caplog, layout)
    assert warning.startswith("10 of 10 reviewed items have no photo, and 2 of 2 items with a photo have no review")


def test_ratings_alone_are_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = write_dataset(tmp_path, IDS)
    assert run(IngestParams(max_unmatched_fraction=0), layout)["reviewed_items_with_text"] == 0
    assert warnings_of(caplog, layout) == [NO_PHOTOS.replace("no photos", "no descriptions and no photos")]
    assert len(RAW_ITEMS.read(layout.raw_items)) == len(IDS)


@pytest.mark.parametrize(("times", "warns"), [(1, False), (2, True)])
def test_many_repeated_descriptions_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, times: int, warns: bool
) -> None:
    layout = write_dataset(tmp_path, IDS, IDS * times, [f"{item}.jpg" for item in IDS])
    run(IngestParams(), layout)
    repeated = "50 % of the descriptions are of an item described before, expected one an item"
    assert any(line.startswith(repeated) for line in warnings_of(caplog, layout)) == warns
