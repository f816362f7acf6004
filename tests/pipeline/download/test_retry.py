"""What may pass is tried again, patiently, and what lasts is not."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mmprep.pipeline.download.outcomes import DownloadParams, Outcome, Status
from mmprep.pipeline.download.retry import FetchError, pause, retry, seconds_to_wait

QUICK = DownloadParams(retries=3, backoff=0.001, max_wait=0.01)


def try_to(fail: list[FetchError], params: DownloadParams = QUICK) -> tuple[str, int]:
    """Fail with these errors, one an attempt, and then work."""
    left = list(fail)

    async def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return asyncio.run(retry(attempt, params))


def passing(**more: float) -> FetchError:
    return FetchError(Status.HTTP_ERROR, "", 503, retry=True, **more)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_it_is_tried_until_it_works(failures: int) -> None:
    assert try_to([passing() for _ in range(failures)]) == ("done", failures + 1)


def test_after_the_last_retry_the_error_is_told_with_the_attempts() -> None:
    with pytest.raises(FetchError) as caught:
        try_to([passing() for _ in range(4)])
    assert (caught.value.http_status, caught.value.attempts) == (503, 4)
    with pytest.raises(FetchError):
        try_to([passing()], DownloadParams(retries=0))


def test_what_lasts_is_not_tried_again() -> None:
    with pytest.raises(FetchError) as caught:
        try_to([passing(), FetchError(Status.HTTP_ERROR, "", 404)])
    assert (caught.value.http_status, caught.value.attempts) == (404, 2)


def test_other_errors_are_not_caught() -> None:
    async def attempt() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(retry(attempt, QUICK))


def test_the_pauses_double_within_their_jitter_and_are_capped() -> None:
    params = DownloadParams(backoff=1, max_wait=60)
    for failures, most in enumerate([1, 2, 4, 8, 16, 32], start=1):
        pauses = [pause(failures, None, params) for _ in range(200)]
        assert most / 2 <= min(pauses) < max(pauses) <= most
        assert len(set(pauses)) > 100
    assert pause(9, None, params) == 60
    assert pause(100, None, params) == 60


def test_a_server_that_asks_for_time_gets_it_up_to_the_cap() -> None:
    params = DownloadParams(backoff=1, max_wait=60)
    assert pause(1, 20, params) == 20
    assert pause(1, 3600, params) == 60
    assert pause(1, float("inf"), params) == 60
    assert 2 <= pause(3, 0, params) <= 4
    assert 2 <= pause(3, -5, params) <= 4


def test_the_pause_is_made() -> None:
    start = time.monotonic()
    try_to([passing(retry_after=0.3)], DownloadParams(backoff=0, max_wait=60))
    assert 0.29 < time.monotonic() - start < 5
    start = time.monotonic()
    try_to([passing(retry_after=3600)], DownloadParams(backoff=0, max_wait=0.1))
    assert 0.09 < time.monotonic() - start < 5


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("120", 120), ("9" * 400, float("inf"))])
def test_seconds_to_wait(text: str, seconds: float) -> None:
    assert seconds_to_wait(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "²", "Fri, 99 Nov 2026 10:00:00 GMT"])
def test_a_wait_that_is_none(text: str) -> None:
    assert seconds_to_wait(text) is None


@pytest.mark.parametrize("usegmt", [True, False])
def test_a_date_to_wait_for(usegmt: bool) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=2)
    assert seconds_to_wait(format_datetime(moment, usegmt=usegmt)) == pytest.approx(120, abs=5)
    assert seconds_to_wait("Sun, 06 Nov 1994 08:49:37 GMT") < 0  # type: ignore[operator]
    assert seconds_to_wait("Sun, 06 Nov 1994 08:49:37 -0000") < 0  # type: ignore[operator]


def test_what_a_server_said_is_made_safe_to_print() -> None:
    error = FetchError(Status.HTTP_ERROR, "No\x1b[31m\n" + "x" * 500, 404)
    error.attempts = 2
    outcome = error.outcome("http://photos.example/", "B0")
    assert outcome == Outcome(
        "http://photos.example/", "B0", None, Status.HTTP_ERROR, 404, 0, 2, "No\\x1b[31m\\n" + "x" * 188
    )
