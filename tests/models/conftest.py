"""Fixtures of the tests of networks."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """One thread: on a busy machine, tiny products wait for the others many times longer than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
