"""Retry transient failures with exponential back-off, honouring Retry-After."""

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
    """A URL could not be fetched.

    Attributes:
        status: why, as in downloads.parquet.
        detail: further information.
        http_status: status code of the response; None without a response.
        retry: whether a retry may succeed.
        retry_after: seconds to wait by the server's Retry-After header; None without one.
        attempts: number of attempts.
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
        """The failure as a row of downloads.parquet. Text from the server is shortened and made printable."""
        detail = excerpt(self.detail.encode(errors="backslashreplace"))
        return Outcome(url, item_id, None, self.status, self.http_status, 0, self.attempts, detail)


async def retry(attempt: Callable[[], Awaitable[T]], params: DownloadParams) -> tuple[T, int]:
    """Repeat an attempt until it succeeds, fails permanently or has used `params.retries`, with growing pauses.

    Returns:
        The result, and the number of attempts.

    Raises:
        FetchError: the error of the last attempt.
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
    """Seconds to wait after a number of failures: doubling, with jitter so that retries spread out, and capped."""
    doubled = params.backoff * 2.0 ** (failures - 1)
    jittered = doubled * random.uniform(0.5, 1)  # noqa: S311 - not security-relevant
    return min(params.max_wait, max(jittered, retry_after or 0))


def seconds_to_wait(retry_after: str) -> float | None:
    """Parse a Retry-After header, a number of seconds or a date; None if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
