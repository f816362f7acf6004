"""Download outcomes: statuses, one row of downloads.parquet, and the limits of a download."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import Field

from mmprep.pipeline.params import Params


class DownloadParams(Params):
    """Section `download` of params.yaml. Times are in seconds."""

    connections: Annotated[int, Field(ge=1, le=1000)] = 32
    per_host: Annotated[int, Field(ge=1, le=1000)] = 8
    timeout: Annotated[float, Field(gt=0)] = 30.0
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    backoff: Annotated[float, Field(ge=0)] = 1.0
    max_wait: Annotated[float, Field(ge=0)] = 60.0
    give_up_after: Annotated[int, Field(ge=1)] = 20
    max_photo_bytes: Annotated[int, Field(ge=1)] = 20_000_000
    max_file_bytes: Annotated[int, Field(ge=1)] = 100_000_000_000
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1


class Status(StrEnum):
    """Status of a URL after a download."""

    FETCHED = "fetched"
    ALREADY_THERE = "already there"
    REFUSED_URL = "refused url"
    REFUSED_ADDRESS = "refused address"
    REFUSED_ID = "refused item id"
    HTTP_ERROR = "http error"
    TOO_MANY_REDIRECTS = "too many redirects"
    CONNECTION_FAILED = "connection failed"
    TIMED_OUT = "timed out"
    HOST_GIVEN_UP = "host given up"
    TOO_LARGE = "too large"
    NOT_AN_IMAGE = "not an image"
    DAMAGED = "damaged file"


GOOD = frozenset({Status.FETCHED, Status.ALREADY_THERE})
# A refused address is not final: trying it again costs only a DNS look-up, and --allow-private may allow it.
FINAL = frozenset(
    {Status.REFUSED_URL, Status.REFUSED_ID, Status.TOO_MANY_REDIRECTS, Status.TOO_LARGE, Status.NOT_AN_IMAGE}
)
PASSING_HTTP_ERRORS = frozenset({408, 425, 429})


class Outcome(NamedTuple):
    """One row of downloads.parquet.

    Attributes:
        url: as given by the item or the edition.
        item_id: item of the photo; None for a raw file.
        path: the file's path below the raw folder; None without a file.
        status: status of the download.
        http_status: status code of the last response; None without a response.
        size: file size in bytes; 0 without a file.
        attempts: requests in the run that ended with this status, not counting redirects.
        detail: further information; may be empty.
    """

    url: str
    item_id: str | None
    path: str | None
    status: Status
    http_status: int | None = None
    size: int = 0
    attempts: int = 0
    detail: str = ""


def passes(http_status: int) -> bool:
    """Whether an HTTP error is transient, so that the same request may succeed later."""
    return http_status >= 500 or http_status in PASSING_HTTP_ERRORS


def is_final(outcome: Outcome) -> bool:
    """Whether a retry would fail again."""
    if outcome.status is Status.HTTP_ERROR:
        return outcome.http_status is not None and not passes(outcome.http_status)
    return outcome.status in FINAL


def may_pass(outcome: Outcome) -> bool:
    """Whether it failed for a transient reason, so that a later retry may succeed."""
    return outcome.status not in GOOD | {Status.REFUSED_ADDRESS} and not is_final(outcome)


def count_statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Number of outcomes by status, most frequent first."""
    return dict(Counter(outcome.status.value for outcome in outcomes).most_common())
