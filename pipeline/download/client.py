"""HTTP client for untrusted URLs: public addresses only, limited redirects and body sizes, classified errors."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import BinaryIO

import httpcore
import httpx

from mmprep.pipeline.download.outcomes import DownloadParams, Status, passes
from mmprep.pipeline.download.public_addresses import PrivateAddressError, PublicOnlyTransport
from mmprep.pipeline.download.retry import FetchError, seconds_to_wait

MAX_REDIRECTS = 5
LEAST_RATE = 1000  # bytes a second; slower, a raw file of a gigabyte would take more than ten days
SLOW_SECONDS = 30.0


def make_client(params: DownloadParams, allow_private: bool) -> httpx.AsyncClient:
    """Create a client that requests bodies unencoded and keeps no cookies between requests.

    Proxies and credentials of the environment are ignored: a proxy would resolve names itself, unchecked.

    Args:
        params: limits.
        allow_private: whether to also connect to loopback and private networks.
    """
    return httpx.AsyncClient(
        transport=PublicOnlyTransport(params.connections, allow_private),
        timeout=httpx.Timeout(params.timeout, pool=None),
        headers={"User-Agent": f"mmprep/{version('mmprep')}", "Accept": "*/*", "Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
    )


def check_url(text: str) -> httpx.URL:
    """Parse a URL and check its scheme, host, port and user info; its address is checked when connecting.

    Raises:
        FetchError: not http or https, no host, an impossible port, or a user name or password in it.
    """
    try:
        url = httpx.URL(text)
        fault = find_fault(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(Status.REFUSED_URL, str(error)) from error
    if fault:
        raise FetchError(Status.REFUSED_URL, fault)
    return url


def find_fault(url: httpx.URL) -> str:
    """Why a URL must not be fetched; empty if it may be."""
    if url.scheme not in ("http", "https"):
        return f"scheme {url.scheme!r}, expected http or https"
    if not url.host:
        return "no host"
    if url.userinfo:
        return "holds a user name or a password"
    return "" if url.port is None or 0 < url.port < 65_536 else f"port {url.port}, expected 1 to 65535"


class LeastRate:
    """Refuses a body that drips: each of its chunks is in time, but the whole would take years."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since, self._size = clock, clock(), 0

    def add(self, size: int) -> None:
        """Count a chunk's bytes.

        Raises:
            FetchError: too few bytes came in the last SLOW_SECONDS.
        """
        self._size += size
        seconds = self._clock() - self._since
        if seconds < SLOW_SECONDS:
            return
        if self._size < LEAST_RATE * seconds:
            detail = f"{self._size} bytes in {seconds:.0f} s, expected at least {LEAST_RATE} a second"
            raise FetchError(Status.TIMED_OUT, detail, retry=True)
        self._since, self._size = self._clock(), 0


@asynccontextmanager
async def open_url(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str] | None = None, expected: Collection[int] = (200,)
) -> AsyncIterator[httpx.Response]:
    """Request a URL, following redirects, and close the response when the block ends. Its body is not read yet.

    Args:
        client: from `make_client`.
        url: http or https.
        headers: sent in addition to the client's.
        expected: HTTP status codes that are not errors.

    Raises:
        FetchError: the URL or an address is refused, the connection fails, also within the block, or the status is
            unexpected.
    """
    with explained():
        response = await follow(client, url, headers)
        try:
            if response.status_code not in expected:
                raise http_error(response)
            yield response
        finally:
            await response.aclose()


async def follow(client: httpx.AsyncClient, url: str, headers: Mapping[str, str] | None) -> httpx.Response:
    """The first response that is not a redirect. Every URL and address on the way is checked."""
    for _ in range(MAX_REDIRECTS + 1):
        request = client.build_request("GET", check_url(url), headers=headers)
        response = await client.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        await response.aclose()
        url = str(response.next_request.url)
    raise FetchError(Status.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS}", response.status_code)


@contextmanager
def explained() -> Iterator[None]:
    """Translate errors of the network libraries to FetchError; disk errors pass through."""
    try:
        yield
    except PrivateAddressError as error:
        raise FetchError(Status.REFUSED_ADDRESS, str(error)) from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(Status.REFUSED_URL, f"redirect: {error}") from error
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise FetchError(Status.TIMED_OUT, str(error) or "no whole answer in time", retry=True) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError) as error:
        raise FetchError(Status.CONNECTION_FAILED, str(error) or type(error).__name__, retry=True) from error


def http_error(response: httpx.Response) -> FetchError:
    """The FetchError for a response with an error status."""
    status = response.status_code
    wait = seconds_to_wait(response.headers.get("Retry-After", ""))
    return FetchError(Status.HTTP_ERROR, response.reason_phrase, status, retry=passes(status), retry_after=wait)


async def save_body(
    response: httpx.Response, file: BinaryIO, limit: int, advance: Callable[[int], None] | None = None
) -> int:
    """Stream a response's body to a file.

    Args:
        response: from `open_url`.
        file: open for writing.
        limit: maximum number of bytes, whatever length the response declares.
        advance: called with the size of each chunk.

    Returns:
        The number of bytes written.

    Raises:
        FetchError: the body is larger than `limit`, or comes at less than LEAST_RATE over SLOW_SECONDS.
    """
    size = 0
    rate = LeastRate()
    too_large = FetchError(Status.TOO_LARGE, f"more than {limit} bytes", response.status_code)
    if int(response.headers.get("Content-Length", 0)) > limit:
        raise too_large
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > limit:
            raise too_large
        rate.add(len(chunk))
        file.write(chunk)
        if advance:
            advance(len(chunk))
    return size
