"""Patches and tokens of some items, read without those of the others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features import writer as feature_writer
from mmprep.pipeline.features.reader import FeatureSet, part_paths
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import FeatureSpec, Form, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.tables.provenance import Provenance

PROVENANCE = Provenance("extract", {}, {}, {}, {"missing": "mean"})
ITEMS = np.arange(1, 120, 3, dtype=np.int32)
LENGTHS = np.random.default_rng(0).integers(1, 6, size=len(ITEMS))
TOTAL = int(LENGTHS.sum())
TOKENS = VectorBatch(
    np.random.default_rng(1).normal(size=(TOTAL, 4)).astype(np.float16),
    LENGTHS,
    np.arange(2 * TOTAL, dtype=np.int32).reshape(-1, 2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty items in parts of eight and row groups of four."""
    folder = tmp_path_factory.mktemp("features") / "minilm_tokens"
    item_bytes = FeatureSpec("tokens", 4, "f16").item_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_writer, "GROUP_BYTES", 4 * item_bytes)
        patch.setattr(feature_writer, "PART_BYTES", 8 * item_bytes)
        with write_features(folder, FeatureSpec("tokens", 4, "f16"), PROVENANCE) as writer:
            for start in range(0, len(ITEMS), 7):
                part = np.arange(start, min(start + 7, len(ITEMS)))
                writer.append(ITEMS[part], TOKENS.take(part), [f"text {item}" for item in ITEMS[part]])
    assert len(part_paths(folder)) == 5
    return folder


def write(folder: Path, form: Form, rows: VectorBatch) -> None:
    with write_features(folder, FeatureSpec(form, rows.dimension), PROVENANCE) as writer:
        writer.append(np.arange(len(rows), dtype=np.int32), rows, ["a"] * len(rows))


@given(places=st.lists(st.integers(0, len(ITEMS) - 1), max_size=60))
def test_items_come_in_the_order_asked_for_and_as_often(folder: Path, places: list[int]) -> None:
    tokens = TokenFeatures(FeatureSet.open(folder))
    items = ITEMS[places] if places else []
    found, expected = tokens.gather(items), TOKENS.take(np.array(places, dtype=np.int64))
    assert found.lengths is not None and found.spans is not None and expected.lengths is not None
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_array_equal(found.spans, expected.spans)
    assert (found.vectors.dtype, found.dimension) == (np.float16, 4)
    assert tokens.texts(items) == [f"text {item}" for item in items]


def test_items_and_provenance_are_told(folder: Path) -> None:
    tokens = TokenFeatures(FeatureSet.open(folder))
    np.testing.assert_array_equal(tokens.items, ITEMS)
    assert tokens.provenance["missing"] == "mean"


def test_only_the_row_groups_of_the_items_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = TokenFeatures(FeatureSet.open(folder))
    read: list[int] = []
    read_columns = TokenFeatures._read_columns
    monkeypatch.setattr(
        TokenFeatures,
        "_read_columns",
        lambda self, number, names: read.append(number) or read_columns(self, number, names),
    )
    tokens.gather(ITEMS[[0, 39, 1, 17, 0]])
    assert read == [0, 4, 9]


@pytest.mark.parametrize("item", [0, 2, 119, 1_000_000, -1])
def test_an_item_without_vectors_is_named(folder: Path, item: int) -> None:
    with pytest.raises(DataError) as caught:
        TokenFeatures(FeatureSet.open(folder)).gather([1, item, 4])
    assert str(caught.value) == f"{folder}: item {item} has no vectors"


def test_patches_have_no_places_in_a_text(tmp_path: Path) -> None:
    patches = VectorBatch(np.arange(12, dtype=np.float32).reshape(6, 2), np.array([3, 3]))
    write(tmp_path / "patches", "patches", patches)
    found = TokenFeatures(FeatureSet.open(tmp_path / "patches")).gather([1])
    assert found.spans is None
    np.testing.assert_array_equal(found.vectors, patches.vectors[3:])
    with pytest.raises(DataError, match="found patches, expected the tokens of texts"):
        TokenFeatures(FeatureSet.open(tmp_path / "patches")).texts([1])


def test_features_of_no_items_can_be_opened(tmp_path: Path) -> None:
    with write_features(tmp_path / "patches", FeatureSpec("patches", 2), PROVENANCE):
        pass
    found = TokenFeatures(FeatureSet.open(tmp_path / "patches")).gather([])
    assert (len(found), found.vectors.shape) == (0, (0, 2))


def test_one_vector_an_item_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "vgg16", "vector", VectorBatch(np.ones((2, 3), dtype=np.float32)))
    with pytest.raises(DataError, match="found one vector an item, expected patches or tokens"):
        TokenFeatures(FeatureSet.open(tmp_path / "vgg16"))


def test_a_folder_without_parts_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no features; run `mmprep extract --encoder none` first"):
        TokenFeatures(FeatureSet.open(tmp_path / "none"))


def test_a_flipped_bit_in_a_vector_is_noticed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    write(tmp_path / "patches", "patches", VectorBatch(vectors, np.full(200, 3)))
    tokens = TokenFeatures(FeatureSet.open(tmp_path / "patches"))
    (part,) = part_paths(tmp_path / "patches")
    damaged = bytearray(part.read_bytes())
    damaged[damaged.index(vectors[300].tobytes())] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(DataError) as caught:
        tokens.gather([5])
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'patches'}: damaged features (")
    assert message.endswith("); remove the folder and run `mmprep extract --encoder patches`")


@pytest.mark.parametrize("keep", [0, 50, -1])
def test_a_part_that_is_cut_off_is_noticed(tmp_path: Path, keep: int) -> None:
    write(tmp_path / "patches", "patches", VectorBatch(np.ones((6, 2), dtype=np.float32), np.array([3, 3])))
    (part,) = part_paths(tmp_path / "patches")
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged features"):
        TokenFeatures(FeatureSet.open(tmp_path / "patches"))
