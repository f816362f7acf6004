"""How long work reports how far it is, without knowing who shows it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int, str], None]
"""Reports work done: `advance(units, remark)`; the remark, which may be empty, is shown beside the bar."""

Progress = Callable[[str, int | None, str], AbstractContextManager[Advance]]
"""Opens a bar: `with progress("encoding", 300, "photos") as advance`; a total of None is not known."""


@contextmanager
def silent(task: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Progress that shows nothing, for callers that are no command line."""
    del task, total, unit

    def advance(units: int, remark: str) -> None:
        del units, remark

    yield advance


def with_title(title: str, progress: Progress) -> Progress:
    """The same progress, that tells which of many runs it is of."""

    def opened(task: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return progress(f"{task} {title}", total, unit)

    return opened
