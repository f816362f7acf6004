"""Metadata in the shapes of Hugging Face's datasets, of CSV round trips and of other exports, through `ingest`."""

import io
import json
import logging
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import ITEMS, RAW_ITEMS, REJECTS
from mmprep.stages.extract.inputs import text_sources
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.filter import run as filter_stage

REVIEWS = [
    {"user_id": f"A{user}", "parent_asin": f"B{item}", "rating": 5.0, "timestamp": 1_500_000_000_000 + user}
    for user in range(3)
    for item in range(3)
]
Row = dict[str, Any]


def json_lines(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[Row]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=2)
    return buffer.getvalue()


def ingested(layout: Layout, name: str, metadata: bytes, limit: float = 0.05) -> tuple[Row, dict[str, Row]]:
    """Metrics, and the rows of items by id."""
    layout.raw.mkdir(parents=True)
    (layout.raw / "Toys.jsonl").write_bytes(json_lines(REVIEWS))
    (layout.raw / name).write_bytes(metadata)
    metrics = run(IngestParams(max_reject_fraction=limit, max_unmatched_fraction=1), layout)
    return metrics, {row["item_id"]: row for row in RAW_ITEMS.read(layout.raw_items).iter_rows(named=True)}


def hugging_face(number: int) -> Row:
    """A row of the 2023 metadata as Hugging Face's datasets save it."""
    return {
        "main_category": "Toys",
        "title": f"Toy {number}",
        "features": ["Wooden"],
        "description": [f"A nice toy {number}"],
        "price": "None",
        "images": {
            "hi_res": [f"https://m/{number}_h.jpg", None],
            "large": [f"https://m/{number}_l.jpg", "https://m/x.jpg"],
            "thumb": [f"https://m/{number}_t.jpg", None],
            "variant": ["MAIN", "PT01"],
        },
        "store": "Store",
        "categories": ["Toys", "Blocks"],
        "details": json.dumps({"Brand": f"Brand {number}"}),
        "parent_asin": f"B{number}",
        "videos": {"title": [], "url": [], "user_id": []},
    }


@pytest.fixture
def layout(tmp_path: Any) -> Layout:  # noqa: ANN401
    return Layout(tmp_path / "data", "toys")


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_metadata_of_hugging_face_keeps_brand_and_photo(layout: Layout, form: str) -> None:
    rows = [hugging_face(number) for number in range(3)]
    name, content = ("meta_Toys.jsonl", json_lines(rows)) if form == "json" else ("full-00000.parquet", parquet(rows))
    metrics, items = ingested(layout, name, content)
    assert items["B1"] == {
        "item_id": "B1",
        "title": "Toy 1",
        "description": "A nice toy 1",
        "categories": "Toys > Blocks",
        "brand": "Brand 1",
        "image": None,
        "image_url": "https://m/1_h.jpg",
    }
    assert metrics["reviewed_items_with_text"] == 3
    assert "unusable_fields" not in metrics


def test_metadata_of_2018_as_parquet_is_read(layout: Layout) -> None:
    rows = [
        {"asin": f"B{n}", "title": f"Toy {n}", "category": ["Toys"], "imageURL": ["https://m/1.jpg"]} for n in range(3)
    ]
    _, items = ingested(layout, "meta.parquet", parquet(rows))
    assert (items["B2"]["title"], items["B2"]["categories"], items["B2"]["image_url"]) == (
        "Toy 2",
        "Toys",
        "https://m/1.jpg",
    )


def test_rejected_rows_of_parquet_have_their_numbers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmprep.stages.ingest.parquet_rows.BATCH", 2)
    rows = [hugging_face(0), hugging_face(0), hugging_face(1) | {"parent_asin": ""}, hugging_face(2)]
    _, items = ingested(layout, "meta.parquet", parquet(rows), limit=1)
    assert REJECTS.read(layout.rejects).rows() == [
        ("meta.parquet", 2, Reason.DUPLICATE_ITEM, ""),
        ("meta.parquet", 3, Reason.MISSING_ITEM, ""),
    ]
    assert items["B2"]["title"] == "Toy 2"


def test_damaged_parquet_keeps_the_rows_before_the_damage(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(parquet([hugging_face(number) | {"title": "x" * 50} for number in range(3)]))
    content[4:200] = bytes(196)
    metrics, items = ingested(layout, "meta.parquet", bytes(content), limit=1)
    assert metrics["cut_off_files"] == 1
    assert items["B0"]["title"] == ""
    assert "meta.parquet: breaks off" in caplog.text


def test_lists_that_became_strings_are_taken_apart(layout: Layout) -> None:
    rows = [
        {
            "asin": f"B{number}",
            "title": "Toy",
            "description": str(["A nice", f"toy {number}"]),
            "category": str(["Toys", "Blocks"]),
            "imageURL": json.dumps([f"https://m/{number}.jpg"]),
        }
        for number in range(3)
    ]
    _, items = ingested(layout, "meta_Toys.json", json_lines(rows))
    assert items["B1"]["description"] == "A nice toy 1"
    assert items["B1"]["categories"] == "Toys > Blocks"
    assert items["B1"]["image_url"] == "https://m/1.jpg"


def test_a_category_of_2018_may_be_a_list_of_paths(layout: Layout) -> None:
    rows = [{"asin": f"B{number}", "title": "Toy", "category": [["Toys", "Blocks"], ["Gifts"]]} for number in range(3)]
    _, items = ingested(layout, "meta_Toys.json", json_lines(rows))
    assert {row["categories"] for row in items.values()} == {"Toys > Blocks | Gifts"}


def test_values_that_cannot_be_used_are_counted_by_field(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    good = {"title": "Toy", "brand": "Acme", "description": None, "category": [], "imageURL": []}
    odd: list[Row] = [{"category": {"0": "Toys"}, "imageURL": 5}, {"imageURL": {"a": "b"}, "description": 7}, {}]
    rows = [{"asin": f"B{number}"} | good | changes for number, changes in enumerate(odd)]
    metrics, _ = ingested(layout, "meta_Toys.json", json_lines(rows))
    assert metrics["unusable_fields"] == {"image_url": 2, "categories": 1, "description": 1}
    assert json.loads(layout.metrics("ingest").read_text())["unusable_fields"] == metrics["unusable_fields"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0].startswith(
        "image_url: the value of 2 of 3 descriptions could not be used, first in meta_Toys.json, line 1;"
    )


def test_a_field_of_2023_of_another_kind_is_counted_though_another_stands_in(layout: Layout) -> None:
    rows = [hugging_face(number) | {"details": "Brand=Acme"} for number in range(3)]
    metrics, items = ingested(layout, "meta_Toys.jsonl", json_lines(rows))
    assert items["B0"]["brand"] == "Store"
    assert metrics["unusable_fields"] == {"brand": 3}


def test_items_are_the_same_from_json_and_parquet(tmp_path: Any) -> None:  # noqa: ANN401
    rows = [hugging_face(number) for number in range(3)]
    frames = []
    for name, content in (("meta.jsonl", json_lines(rows)), ("meta.parquet", parquet(rows))):
        layout = Layout(tmp_path / name, "toys")
        ingested(layout, name, content)
        frames.append(RAW_ITEMS.read(layout.raw_items))
    assert isinstance(frames[0], pl.DataFrame)
    assert frames[0].equals(frames[1])


def test_markup_and_page_code_do_not_reach_the_tables(layout: Layout) -> None:
    published = [
        "<style type='text/css'>.hdr {color:#000}</style>Wooden Blocks",
        "<script>if (a < b && c > d) { track('x'); }</script>Wooden &lt;b&gt;Blocks&lt;/b&gt;",
        "<!-- .headerM {margin:0 > p} .APlus {font-size:15px} -->Wooden Blocks",
    ]
    rows = [{"asin": f"B{n}", "title": text, "description": [text]} for n, text in enumerate(published)]
    metrics, items = ingested(layout, "meta_Toys.json", json_lines(rows))
    assert {(row["title"], row["description"]) for row in items.values()} == {("Wooden Blocks", "Wooden Blocks")}
    assert "unusable_fields" not in metrics


def test_titles_that_are_page_code_are_empty_and_counted(layout: Layout) -> None:
    code = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"
    rows = [{"asin": f"B{n}", "title": code if n else "Toy", "brand": "Acme"} for n in range(3)]
    metrics, items = ingested(layout, "meta_Toys.json", json_lines(rows))
    assert [items[f"B{n}"]["title"] for n in range(3)] == ["Toy", "", ""]
    assert metrics["unusable_fields"] == {"title": 2}


def test_features_and_details_are_columns_where_asked_for(layout: Layout) -> None:
    layout.raw.mkdir(parents=True)
    (layout.raw / "Toys.jsonl").write_bytes(json_lines(REVIEWS))
    (layout.raw / "meta.jsonl").write_bytes(
        json_lines([hugging_face(0), hugging_face(1) | {"details": {"Brand": "A"}}])
    )
    run(IngestParams(max_unmatched_fraction=1), layout)
    assert "features" not in RAW_ITEMS.read(layout.raw_items).columns

    run(IngestParams(extra_text=("features", "details"), max_unmatched_fraction=1), layout)
    filter_stage(FilterParams(k_core=1), layout)
    kept = ITEMS.read(layout.items).select("description", "features", "details").rows()
    assert kept == [("A nice toy 0", "Wooden", "Brand: Brand 0"), ("A nice toy 1", "Wooden", "Brand: A"), ("", "", "")]
    texts = text_sources(ITEMS.read(layout.items), "{title}: {features} {details}")
    assert [source.content_ref for source in texts] == ["Toy 0: Wooden Brand: Brand 0", "Toy 1: Wooden Brand: A"]


def test_a_template_that_names_a_column_that_was_not_kept_names_the_setting(layout: Layout) -> None:
    ingested(layout, "meta.jsonl", json_lines([hugging_face(0)]))
    filter_stage(FilterParams(k_core=1), layout)
    with pytest.raises(DataError, match=r"names \{features\}, which .* lacks; add features to ingest\.extra_text"):
        text_sources(ITEMS.read(layout.items), "{title} {features}")


def test_parameters_without_extra_text_are_recorded_as_before() -> None:
    assert "extra_text" not in IngestParams().model_dump()
    assert IngestParams(extra_text=("details",)).model_dump(mode="json")["extra_text"] == ["details"]
