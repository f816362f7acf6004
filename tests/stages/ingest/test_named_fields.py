"""Reviews whose fields have names: JSON lines by `ingest.columns`, and Parquet."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmprep.pipeline.errors import MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import INTERACTIONS, REJECTS
from mmprep.stages.ingest import named_fields
from mmprep.stages.ingest.columns import ColumnsParams
from mmprep.stages.ingest.ingest import IngestParams, run

TIME = 1_400_000_000
ROW = ("A1", "B1", 5.0, TIME, None)
HUGGING_FACE = {
    "rating": 5.0,
    "title": "ok",
    "images": [{"large": "http://x/y.jpg"}],
    "asin": "B9",
    "parent_asin": "B1",
    "user_id": "A1",
    "timestamp": TIME * 1000 + 123,
}


def folder(path: Path) -> Layout:
    layout = Layout(path / "data", "toys")
    layout.raw.mkdir(parents=True)
    return layout


def parquet(path: Path, *rows: dict[str, object]) -> Layout:
    layout = folder(path)
    pq.write_table(pa.Table.from_pylist(list(rows)), layout.raw / "full-00000-of-00001.parquet")
    return layout


def taken(layout: Layout, columns: ColumnsParams | None = None) -> list[tuple[object, ...]]:
    run(IngestParams(max_reject_fraction=1, columns=columns or ColumnsParams()), layout)
    return INTERACTIONS.read(layout.raw_interactions).rows()


def rejects(layout: Layout) -> list[tuple[object, ...]]:
    return REJECTS.read(layout.rejects).select("line", "reason", "excerpt").rows()


def test_reviews_of_hugging_face_are_read(tmp_path: Path) -> None:
    layout = parquet(tmp_path, HUGGING_FACE)
    assert taken(layout) == [ROW]
    assert rejects(layout) == []


def test_numbers_and_moments_in_parquet(tmp_path: Path) -> None:
    moment = datetime.fromtimestamp(TIME, UTC)
    layout = parquet(tmp_path, {"user_id": 1, "item_id": 2, "date": moment}, {"user_id": 3, "item_id": 4, "date": None})
    assert taken(layout) == [("1", "2", None, TIME, None)]
    assert rejects(layout) == [(2, "time missing or impossible", "no date")]


def test_rows_are_numbered_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_fields, "BATCH_ROWS", 2)
    rows = [HUGGING_FACE | {"rating": rating} for rating in (1.0, 2.0, 3.0, None, 5.0)]
    layout = parquet(tmp_path, *rows)
    assert [row[2] for row in taken(layout)] == [1.0, 2.0, 3.0, 5.0]
    assert rejects(layout) == [(4, "rating missing or not a finite number", "no rating")]


def test_parquet_of_something_else_names_its_columns(tmp_path: Path) -> None:
    layout = parquet(tmp_path, {"item_id": "B1", "title": "mug"})
    with pytest.raises(MissingInputError, match=r"full-00000-of-00001\.parquet: no column of users among item_id"):
        run(IngestParams(), layout)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    layout = folder(tmp_path)
    (layout.raw / "a.parquet").write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
    with pytest.raises(MissingInputError, match=r"a\.parquet: damaged Parquet"):
        run(IngestParams(), layout)


def test_damage_behind_the_first_rows_keeps_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_fields, "BATCH_ROWS", 500)
    layout = folder(tmp_path)
    path = layout.raw / "a.parquet"
    groups = [HUGGING_FACE | {"user_id": f"A{number:05d}"} for number in range(4000)]
    pq.write_table(pa.Table.from_pylist(groups), path, row_group_size=1000, compression="snappy", use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(2)
    at = next(group.column(c).data_page_offset for c in range(7) if group.column(c).path_in_schema == "user_id")
    content = bytearray(path.read_bytes())
    content[at : at + 60] = b"\xff" * 60
    path.write_bytes(bytes(content))
    rows = taken(layout)
    assert 0 < len(rows) < 4000
    assert [row[1] for row in rejects(layout)] == ["compressed file cut off or damaged"]
    assert "breaks off" in caplog.text


def test_json_lines_with_columns_that_are_given(tmp_path: Path) -> None:
    layout = folder(tmp_path)
    (layout.raw / "r.jsonl").write_bytes(
        b'{"who": "A1", "what": "B1", "much": "5", "when": "2014-05-13T16:53:20"}\n'
        b'{"who": "A1", "what": "B2", "much": null, "when": "2014-05-13T16:53:20"}\n'
        b'{"what": "B3", "much": 5, "when": "2014-05-13T16:53:20"}\n'
    )
    (layout.raw / "meta.jsonl").write_bytes(b'{"parent_asin": "B1", "title": "mug", "images": []}\n')
    assert taken(layout, ColumnsParams(user="who", item="what", rating="much", time="when", unit="iso")) == [ROW]
    assert [(line, str(why)[:20]) for line, _, why in rejects(layout)] == [
        (2, 'no much; {"who": "A1'),
        (3, 'no who; {"what": "B3'),
    ]


def test_columns_of_json_lines_may_override_the_known_ones(tmp_path: Path) -> None:
    layout = folder(tmp_path)
    (layout.raw / "r.jsonl").write_bytes(
        b'{"user_id": "A1", "asin": "B1", "parent_asin": "B9", "rating": 5, "timestamp": 1400000000123}\n'
    )
    assert taken(layout, ColumnsParams(item="asin")) == [ROW]
