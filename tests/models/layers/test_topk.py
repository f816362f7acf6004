"""The k largest, with equal values decided by index."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmprep.models.layers.topk import top_k

VALUES = st.sampled_from([-np.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=VALUES)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=MATRICES, data=st.data())
def test_top_k_is_the_head_of_a_stable_sort(values: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, values.shape[1]))
    top, index = top_k(torch.from_numpy(values.copy()), k)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index.numpy(), expected)
    np.testing.assert_array_equal(top.numpy(), np.take_along_axis(values, expected, axis=1))


def test_equal_values_over_a_wide_row_go_to_the_smaller_index() -> None:
    values = torch.zeros(3, 5000)
    values[1, 4000] = 1.0
    values[2, ::2] = 1.0
    _, index = top_k(values, 4)
    assert index.tolist() == [[0, 1, 2, 3], [4000, 0, 1, 2], [0, 2, 4, 6]]


@pytest.mark.parametrize("k", [1, 7, 50])
def test_rows_with_many_equal_values_stand_among_others(k: int) -> None:
    rng = np.random.default_rng(k)
    values = rng.normal(size=(40, 3001)).astype(np.float32)
    values[3:6] = np.round(values[3:6])
    values[10], values[20, 100:] = 0, -np.inf
    values[30] = np.sort(values[30])
    top, index = top_k(torch.from_numpy(values.copy()), k)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index.numpy(), expected)
    np.testing.assert_array_equal(top.numpy(), np.take_along_axis(values, expected, axis=1))


def test_the_values_that_are_given_stay_as_they_were() -> None:
    values = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    top_k(values, 2)
    assert values.tolist() == [[1.0, 3.0, 3.0, 2.0]]


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_are_no_special_case(rows: int) -> None:
    top, index = top_k(torch.ones(rows, 3), 3)
    assert top.shape == index.shape == (rows, 3)
