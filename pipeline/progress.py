"""Progress reporting for long tasks, independent of how it is displayed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int, str], None]
"""Reports completed work: `advance(units, remark)`; the remark, which may be empty, is shown beside the bar."""

Progress = Callable[[str, int | None, str], AbstractContextManager[Advance]]
"""Opens a progress bar: `with progress("encoding", 300, "photos") as advance`; a total of None is unknown."""


@contextmanager
def silent(task: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Progress that displays nothing, for use outside the command line."""
    del task, total, unit

    def advance(units: int, remark: str) -> None:
        del units, remark

    yield advance


def with_title(title: str, progress: Progress) -> Progress:
    """Append a title, such as the name of one of many runs, to each task's name."""

    def opened(task: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return progress(f"{task} {title}", total, unit)

    return opened
