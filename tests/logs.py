"""Logging in tests."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loggers_as_they_were() -> Iterator[None]:
    """Undo what `main` does to logging, so that commands do not reach into other tests."""
    root, name = logging.getLogger(), logging.getLevelName(logging.WARNING)
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.addLevelName(logging.WARNING, name)
