"""Rows: what goes into the cache comes out of it, and what is asked of some rows is of those."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.vectors import PACKED_SCHEMA, FeatureSpec, StorageDtype, VectorBatch, concatenate, unpack

LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def tokens(lengths: list[int], stored_as: StorageDtype = "f32") -> VectorBatch:
    total = sum(lengths)
    vectors = np.arange(total * 3).reshape(total, 3).astype({"f32": "f4", "f16": "f2"}[stored_as])
    return VectorBatch(vectors, np.array(lengths), np.arange(total * 2, dtype=np.int32).reshape(total, 2))


def same(found: VectorBatch, expected: VectorBatch) -> None:
    for name in ("vectors", "lengths", "spans"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
    assert found.vectors.dtype == expected.vectors.dtype


@given(LENGTHS, st.sampled_from(["f32", "f16"]))
def test_tokens_come_back_from_the_cache_with_their_lengths_and_places(lengths: list[int], kind: StorageDtype) -> None:
    rows = tokens(lengths, kind)
    packed = rows.pack()
    assert packed.schema == PACKED_SCHEMA
    assert len(packed) == len(rows) == len(lengths)
    found = unpack(packed, kind)
    if sum(lengths):
        same(found, rows)
    else:
        assert (len(found), found.vectors.shape) == (len(lengths), (0, 0))


@given(LENGTHS, st.data())
def test_a_slice_of_what_is_packed_is_that_slice(lengths: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lengths) - 1))
    stop = data.draw(st.integers(start + 1, len(lengths)))
    rows = tokens(lengths)
    found = unpack(rows.pack()[start:stop], "f32")
    if sum(lengths[start:stop]):
        same(found, rows.take(np.arange(start, stop)))


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_one_vector_an_item_and_patches_come_back_from_the_cache(kind: StorageDtype) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype({"f32": "f4", "f16": "f2"}[kind])
    same(unpack(VectorBatch(vectors).pack(), kind), VectorBatch(vectors))
    patches = VectorBatch(vectors, np.array([2, 2, 2]))
    same(unpack(patches.pack(), kind), patches)


def test_no_padding_is_packed() -> None:
    packed = tokens([0, 4, 1]).pack()
    assert [len(blob) for blob in packed["vectors"].to_pylist()] == [0, 4 * 3 * 4, 1 * 3 * 4]
    assert packed["length"].to_pylist() == [0, 4, 1]


@given(LENGTHS, st.data())
def test_rows_are_taken_in_any_order_and_as_often_as_asked_for(lengths: list[int], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    rows = tokens(lengths)
    found = rows.take(np.array(places, dtype=np.int64))
    pieces = [rows.take(np.array([place])) for place in places]
    same(found, concatenate([rows.take(np.array([], dtype=np.int64)), *pieces]))
    ends = rows.offsets()
    for piece, place in zip(pieces, places, strict=True):
        np.testing.assert_array_equal(piece.vectors, rows.vectors[ends[place] : ends[place + 1]])


def test_single_vectors_are_taken_and_joined() -> None:
    rows = VectorBatch(np.eye(3, dtype=np.float32))
    same(rows.take(np.array([2, 0, 2])), VectorBatch(np.eye(3, dtype=np.float32)[[2, 0, 2]]))
    same(concatenate([rows, rows]), VectorBatch(np.tile(np.eye(3, dtype=np.float32), (2, 1))))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.nan, "f32", "found NaN or infinite numbers for item c; nothing was written"),
        (np.inf, "f16", "found NaN or infinite numbers for item c; nothing was written"),
        (65520, "f16", "found numbers too large for f16 for item c; set stored_as to f32"),
    ],
)
def test_numbers_that_cannot_be_kept_name_the_item(value: float, kind: StorageDtype, message: str) -> None:
    rows = tokens([2, 0, 1, 1])
    rows.vectors[2, 1] = value
    with pytest.raises(DataError) as caught:
        rows.cast_checked(kind, ["a", "b", "c", "d"])
    assert str(caught.value) == message
    assert (
        rows.take(np.array([0, 1, 3])).cast_checked(kind, ["a", "b", "d"]).vectors.dtype
        == {"f32": "f4", "f16": "f2"}[kind]
    )


def test_numbers_that_f16_rounds_are_kept() -> None:
    rows = VectorBatch(np.array([[65519.0, 1e-9]], dtype=np.float32))
    np.testing.assert_array_equal(rows.cast_checked("f16", ["a"]).vectors, [[65504, 0]])


def test_the_columns_of_each_form() -> None:
    names = {form: FeatureSpec(form, 3).schema().names for form in ("vector", "patches", "tokens")}
    assert names == {
        "vector": ["item", "vector"],
        "patches": ["item", "vectors"],
        "tokens": ["item", "vectors", "start", "end", "text"],
    }
    assert FeatureSpec("vector", 3, "f16").schema().field("vector").type == pa.list_(
        pa.field("element", pa.float16(), nullable=False), 3
    )


def test_a_batch_of_tokens_has_a_list_an_item() -> None:
    batch = FeatureSpec("tokens", 3).batch(np.array([4, 9], dtype=np.int32), tokens([1, 2]), ["one", "two words"])
    assert batch.to_pylist() == [
        {"item": 4, "vectors": [[0, 1, 2]], "start": [0], "end": [1], "text": "one"},
        {"item": 9, "vectors": [[3, 4, 5], [6, 7, 8]], "start": [2, 4], "end": [3, 5], "text": "two words"},
    ]


def test_tokens_need_their_places() -> None:
    rows = VectorBatch(np.zeros((1, 3), dtype=np.float32), np.array([1]))
    with pytest.raises(ValueError, match="without their spans"):
        FeatureSpec("tokens", 3).batch(np.array([0], dtype=np.int32), rows, ["a"])
