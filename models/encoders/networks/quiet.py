"""Keeping transformers from writing to the terminal while it loads weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import transformers


@contextmanager
def quietly() -> Iterator[None]:
    """Let transformers draw no bar and report no tensors; what matters of that is checked after loading, and raised."""
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
