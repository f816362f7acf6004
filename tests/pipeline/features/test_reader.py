"""The feature store: vectors come back as they were written, whole or not at all."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features import writer as feature_writer
from mmprep.pipeline.features.reader import Features, FeatureSet, part_paths
from mmprep.pipeline.features.vectors import FeatureSpec, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance, read_provenance

PROVENANCE = Provenance("extract", {}, {}, {}, {"missing": "mean"})
Vectors = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]


def some_vectors(n: int, dimension: int = 8) -> tuple[Items, Vectors]:
    """Every third item from 1 on, so that some items have no vector."""
    vectors = np.random.default_rng(0).normal(size=(n, dimension)).astype(np.float32)
    return np.arange(1, 3 * n, 3, dtype=np.int32), vectors


def write(folder: Path, items: Items, vectors: Vectors, batch: int = 4) -> None:
    with write_features(folder, FeatureSpec("vector", vectors.shape[1]), PROVENANCE) as writer:
        for start in range(0, len(items), batch):
            writer.append(items[start : start + batch], VectorBatch(vectors[start : start + batch]))
        assert writer.rows == len(items)


def made(items: list[int], vectors: list[list[float]], missing: str = "mean") -> Features:
    return Features(np.array(items, dtype=np.int32), np.array(vectors, dtype=np.float32), {"missing": missing})


@pytest.mark.parametrize("batch", [1, 4, 7, 100])
def test_vectors_of_several_batches_come_back(tmp_path: Path, batch: int) -> None:
    items, vectors = some_vectors(13)
    write(tmp_path / "vgg16", items, vectors, batch)
    found = FeatureSet.open(tmp_path / "vgg16").vectors()
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert (found.items.dtype, found.vectors.dtype) == (np.int32, np.float32)
    assert found.provenance == PROVENANCE.to_dict()


def test_vectors_of_several_parts_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_writer, "PART_BYTES", 8 * 8 * 4)  # eight rows a part
    items, vectors = some_vectors(100)
    write(tmp_path / "vgg16", items, vectors)
    parts = part_paths(tmp_path / "vgg16")
    assert [path.name for path in parts] == [f"part-{number:05d}-of-00013.parquet" for number in range(13)]
    assert {pq.read_metadata(path).num_rows for path in parts[:-1]} == {8}
    assert all(read_provenance(path) == PROVENANCE.to_dict() for path in parts)
    found = FeatureSet.open(tmp_path / "vgg16").vectors()
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_array_equal(found.vectors, vectors)


def test_a_vector_larger_than_a_part_gets_a_part_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_writer, "PART_BYTES", 1)
    items, vectors = some_vectors(3)
    write(tmp_path / "vgg16", items, vectors, batch=1)
    assert len(part_paths(tmp_path / "vgg16")) == 3
    np.testing.assert_array_equal(FeatureSet.open(tmp_path / "vgg16").vectors().vectors, vectors)


def test_equal_vectors_give_equal_bytes_however_many_are_appended_at_a_time(tmp_path: Path) -> None:
    found = set()
    for batch in (1000, 999, 77, 5000, 5000):
        write(tmp_path / "vgg16", *some_vectors(5000, 512), batch)
        found.add(tuple(sha256(part) for part in part_paths(tmp_path / "vgg16")))
    assert len(found) == 1


def test_vectors_of_f16_are_stored_so_and_come_back_as_f32(tmp_path: Path) -> None:
    items, vectors = some_vectors(13)
    with write_features(tmp_path / "vgg16", FeatureSpec("vector", 8, "f16"), PROVENANCE) as writer:
        writer.append(items, VectorBatch(vectors))
    (part,) = part_paths(tmp_path / "vgg16")
    assert pq.read_schema(part).field("vector").type.value_type == pa.float16()
    found = FeatureSet.open(tmp_path / "vgg16").vectors().vectors
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors.astype(np.float16).astype(np.float32))


def test_patches_are_refused_where_one_vector_an_item_is_read(tmp_path: Path) -> None:
    with write_features(tmp_path / "patches", FeatureSpec("patches", 2), PROVENANCE) as writer:
        writer.append(np.array([0], dtype=np.int32), VectorBatch(np.ones((3, 2), dtype=np.float32), np.array([3])))
    with pytest.raises(DataError) as caught:
        FeatureSet.open(tmp_path / "patches").vectors()
    assert str(caught.value) == (
        f"{tmp_path / 'patches'}: found patches or tokens, a list of vectors an item, expected one vector an item"
    )


def test_no_vectors_come_back_as_none_with_their_provenance(tmp_path: Path) -> None:
    with write_features(tmp_path / "vgg16", FeatureSpec("vector", 8), PROVENANCE) as writer:
        writer.append(np.array([], dtype=np.int32), VectorBatch(np.zeros((0, 8), dtype=np.float32)))
    found = FeatureSet.open(tmp_path / "vgg16").vectors()
    assert found.items.shape == (0,)
    assert found.vectors.shape == (0, 8)
    assert found.provenance["missing"] == "mean"
    with pytest.raises(DataError, match="no item has a vector"):
        found.matrix(5)


@pytest.mark.parametrize("batches", [[[2, 1]], [[1, 1]], [[5], [5]], [[1, 6], [3, 8]]])
def test_items_out_of_order_are_refused_and_nothing_is_written(tmp_path: Path, batches: list[list[int]]) -> None:
    with (
        pytest.raises(ValueError, match="in the order of items"),
        write_features(tmp_path / "vgg16", FeatureSpec("vector", 2), PROVENANCE) as writer,
    ):
        for batch in batches:
            writer.append(np.array(batch, dtype=np.int32), VectorBatch(np.ones((len(batch), 2), dtype=np.float32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_and_the_old_ones_stay(tmp_path: Path, value: float) -> None:
    folder = tmp_path / "vgg16"
    items, vectors = some_vectors(3)
    write(folder, items, vectors)
    bad = np.ones((3, 8), dtype=np.float32)
    bad[1, 5] = value
    with pytest.raises(DataError) as caught, write_features(folder, FeatureSpec("vector", 8), PROVENANCE) as writer:
        writer.append(items, VectorBatch(vectors))
        writer.append(np.array([20, 21, 22], dtype=np.int32), VectorBatch(bad))
    assert str(caught.value) == "found NaN or infinite numbers for item 21; nothing was written"
    np.testing.assert_array_equal(FeatureSet.open(folder).vectors().vectors, vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["vgg16"]


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="length"),
        write_features(tmp_path / "vgg16", FeatureSpec("vector", 8), PROVENANCE) as writer,
    ):
        writer.append(np.array([0, 1], dtype=np.int32), VectorBatch(np.ones((2, 7), dtype=np.float32)))
    assert list(tmp_path.iterdir()) == []


def test_matrix_gives_items_without_a_vector_the_mean_of_the_others() -> None:
    found = made([1, 3], [[1, 10], [3, 40]]).matrix(5)
    np.testing.assert_array_equal(found, [[2, 25], [1, 10], [2, 25], [3, 40], [2, 25]])
    assert found.dtype == np.float32


def test_matrix_gives_items_without_a_vector_zeros_if_so_recorded() -> None:
    found = made([1, 3], [[1, 10], [3, 40]], missing="zeros").matrix(5)
    np.testing.assert_array_equal(found, [[0, 0], [1, 10], [0, 0], [3, 40], [0, 0]])


def test_matrix_of_items_without_a_vector_is_refused_if_they_are_to_be_dropped() -> None:
    with pytest.raises(DataError) as caught:
        made([1, 3], [[1, 10], [3, 40]], missing="error").matrix(5)
    assert str(caught.value) == (
        "3 of 5 items have no vector, and extract.missing is error; set it to mean or zeros, or leave such items out "
        "by filter.require"
    )
    np.testing.assert_array_equal(made([0, 1], [[1], [3]], missing="error").matrix(2), [[1], [3]])


def test_matrix_of_all_items_is_the_vectors() -> None:
    np.testing.assert_array_equal(made([0, 1], [[1, 2], [3, 4]]).matrix(2), [[1, 2], [3, 4]])


def test_the_mean_of_many_vectors_is_not_eaten_by_rounding() -> None:
    vectors = np.random.default_rng(0).uniform(1000, 1001, size=(50_000, 4)).astype(np.float32)
    found = Features(np.arange(50_000, dtype=np.int32), vectors, {"missing": "mean"}).matrix(50_001)
    np.testing.assert_array_equal(found[-1], vectors.astype(np.float64).mean(axis=0).astype(np.float32))


def test_features_of_another_dataset_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        made([1, 7], [[1], [2]]).matrix(7)
    assert str(caught.value) == "features of item 7 in a dataset of 7 items; run `mmprep extract` again"


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_parts_names_the_command(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "minilm"
    if make:
        folder.mkdir()
    with pytest.raises(MissingInputError) as caught:
        FeatureSet.open(folder).vectors()
    assert str(caught.value) == f"{folder}: no features; run `mmprep extract --encoder minilm` first"


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("keep", [0, 50, -1])
def test_a_damaged_part_names_the_folder_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, keep: int
) -> None:
    monkeypatch.setattr(feature_writer, "PART_BYTES", 8 * 8 * 4)
    folder = tmp_path / "vgg16"
    write(folder, *some_vectors(30))
    part = part_paths(folder)[number]
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        FeatureSet.open(folder).vectors()
    message = str(caught.value)
    assert message.startswith(f"{folder}: damaged features (")
    assert message.endswith("); remove the folder and run `mmprep extract --encoder vgg16`")
    assert "\n" not in message


@pytest.mark.parametrize(
    "columns",
    [
        {"item": pa.array([0], pa.int32())},
        {"item": pa.array([0], pa.int32()), "vector": pa.array([1.0], pa.float32())},
        {"item": pa.array([0], pa.int32()), "vector": pa.array([[1.0]], pa.list_(pa.float32(), 1))},
        {"vector": pa.array([[1.0] * 8], pa.list_(pa.float32(), 8))},
    ],
)
def test_a_part_with_other_columns_is_refused(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    folder = tmp_path / "vgg16"
    write(folder, *some_vectors(3))
    first = folder / "part-00000-of-00001.parquet"
    first.rename(folder / "part-00000-of-00002.parquet")
    pq.write_table(pa.table(columns), folder / "part-00001-of-00002.parquet")
    with pytest.raises(DataError, match="damaged features"):
        FeatureSet.open(folder).vectors()


def test_a_missing_part_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_writer, "PART_BYTES", 8 * 8 * 4)
    write(tmp_path / "vgg16", *some_vectors(20))
    for number in range(3):
        part = tmp_path / "vgg16" / f"part-{number:05d}-of-00003.parquet"
        whole = part.read_bytes()
        part.unlink()
        with pytest.raises(DataError, match=r"found 2 parts.*some are missing, run `mmprep extract --encoder vgg16`"):
            FeatureSet.open(tmp_path / "vgg16").vectors()
        part.write_bytes(whole)


def test_a_flipped_bit_in_a_vector_is_noticed(tmp_path: Path) -> None:
    items, vectors = some_vectors(100)
    write(tmp_path / "vgg16", items, vectors, batch=100)
    (part,) = part_paths(tmp_path / "vgg16")
    damaged = bytearray(part.read_bytes())
    damaged[damaged.index(vectors[50].tobytes())] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged features"):
        FeatureSet.open(tmp_path / "vgg16").vectors()
