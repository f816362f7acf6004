"""Suppression of transformers' terminal output while it loads weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import transformers


@contextmanager
def quietly() -> Iterator[None]:
    """Silence transformers' progress bars and tensor reports; missing tensors are checked and raised after loading."""
    logging = transformers.utils.logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
