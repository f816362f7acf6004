from pathlib import Path

import numpy as np
import pytest
from worlds import made_by_hand, write_vectors

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features.pseudo_tokens import PseudoTokens, piece_width, token_vectors
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import FeatureSpec, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.layout import Layout

VECTORS = np.arange(3 * 32, dtype=np.float32).reshape(3, 32)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path, "toys")
    write_vectors(layout, "wide", VECTORS, items=[2, 5, 9])
    return layout


@pytest.mark.parametrize(
    ("dimension", "width"), [(4096, 64), (384, 32), (768, 32), (512, 32), (2048, 64), (32, 8), (4, 2)]
)
def test_width_is_the_smallest_power_of_two_from_the_root_on(dimension: int, width: int) -> None:
    assert piece_width(dimension) == width


@pytest.mark.parametrize(("dimension", "width"), [(1000, 32), (7, 4), (2, 2), (1, 1)])
def test_vectors_that_cannot_be_cut_are_refused(dimension: int, width: int) -> None:
    with pytest.raises(DataError) as caught:
        piece_width(dimension)
    assert str(caught.value) == f"found vectors of {dimension} numbers, which cannot be cut into pieces of {width}"


def test_pieces_follow_each_other_as_in_the_vector_in_the_order_asked_for(layout: Layout) -> None:
    tokens = token_vectors(FeatureSet.open(layout.features("wide")), pseudo_tokens=True)
    assert isinstance(tokens, PseudoTokens)
    assert tokens.items.tolist() == [2, 5, 9]
    found = tokens.gather([9, 2, 9])
    assert found.lengths is not None
    assert found.lengths.tolist() == [4, 4, 4]
    np.testing.assert_array_equal(found.vectors.reshape(3, 32), VECTORS[[2, 0, 2]])


def test_real_patches_stay_what_they_are(layout: Layout) -> None:
    folder = layout.features("patches")
    with write_features(folder, FeatureSpec("patches", 4), made_by_hand(layout, [], missing="mean")) as writer:
        writer.append(np.array([1], dtype=np.int32), VectorBatch(np.ones((2, 4), dtype=np.float32), np.array([2])))
    assert isinstance(token_vectors(FeatureSet.open(folder), pseudo_tokens=True), TokenFeatures)


def test_vectors_are_refused_where_pieces_may_not_stand_for_patches(layout: Layout) -> None:
    with pytest.raises(DataError, match="wide: found one vector an item, expected patches or tokens"):
        token_vectors(FeatureSet.open(layout.features("wide")), pseudo_tokens=False)


def test_folder_is_named(layout: Layout) -> None:
    write_vectors(layout, "odd", np.ones((2, 7), dtype=np.float32))
    with pytest.raises(DataError, match=r"odd: found vectors of 7 numbers"):
        token_vectors(FeatureSet.open(layout.features("odd")), pseudo_tokens=True)
    with pytest.raises(MissingInputError, match="none: no features"):
        token_vectors(FeatureSet.open(layout.features("none")), pseudo_tokens=True)
