"""Fixtures of the tests of networks."""

from collections.abc import Iterator

import pytest
from worlds import one_thread


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield
