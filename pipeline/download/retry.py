"""Trying again what may pass: with pauses that grow, or as long as the server asks for."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from mmprep.pipeline.download.outcomes import DownloadParams, Outcome, Status
from mmprep.pipeline.reject_reasons import excerpt

T = TypeVar("T")


class FetchError(Exception):
    """A URL was not fetched.

    Attributes:
        status: why, in the vocabulary of downloads.parquet.
        detail: more about it.
        http_status: of the answer, if there was one.
        retry: whether another try may succeed.
        retry_after: the seconds that the server asks to wait, if it does.
        attempts: how often it was tried.
    """

    def __init__(
        self,
        status: Status,
        detail: str = "",
        http_status: int | None = None,
        retry: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status.value}: {detail}")
        self.status = status
        self.detail = detail
        self.http_status = http_status
        self.retry = retry
        self.retry_after = retry_after
        self.attempts = 0

    def outcome(self, url: str, item_id: str | None) -> Outcome:
        """The row that tells of the failure. What a server said is cut short and made printable."""
        said = excerpt(self.detail.encode(errors="backslashreplace"))
        return Outcome(url, item_id, None, self.status, self.http_status, 0, self.attempts, said)


async def retry(attempt: Callable[[], Awaitable[T]], params: DownloadParams) -> tuple[T, int]:
    """Try until it works or another try is useless, with growing pauses.

    Returns:
        The result, and how many attempts it took.

    Raises:
        FetchError: the last one.
    """
    for number in itertools.count(1):
        try:
            return await attempt(), number
        except FetchError as error:
            error.attempts = number
            if not error.retry or number > params.retries:
                raise
            await asyncio.sleep(pause(number, error.retry_after, params))
    raise AssertionError("unreachable")


def pause(failures: int, retry_after: float | None, params: DownloadParams) -> float:
    """Seconds to wait after so many failures: doubling, jittered so that not all come back at once, and capped."""
    doubled = params.backoff * 2.0 ** (failures - 1)
    jittered = doubled * random.uniform(0.5, 1)  # noqa: S311 - no secret
    return min(params.max_wait, max(jittered, retry_after or 0))


def seconds_to_wait(retry_after: str) -> float | None:
    """What a Retry-After header asks for: a number of seconds or a date; None if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
