"""The client against a real server on loopback: what it sends, follows, refuses, bounds and tries again."""

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from loopback import Page, redirect, serve

from mmprep.pipeline.download import public_addresses as networks
from mmprep.pipeline.download.client import MAX_REDIRECTS, LeastRate, check_url, make_client, open_url, save_body
from mmprep.pipeline.download.outcomes import DownloadParams, Status
from mmprep.pipeline.download.public_addresses import Address
from mmprep.pipeline.download.retry import FetchError

QUICK = DownloadParams(timeout=2, backoff=0.01, max_wait=0.05)


def with_client(
    use: Callable[[httpx.AsyncClient], Awaitable[None]], params: DownloadParams = QUICK, **more: bool
) -> None:
    async def run() -> None:
        async with make_client(params, more.get("allow_private", True)) as client:
            await use(client)

    asyncio.run(run())


def fetch(url: str, limit: int = 1000, params: DownloadParams = QUICK, allow_private: bool = True) -> bytes:
    """What a URL gives."""
    file = io.BytesIO()

    async def use(client: httpx.AsyncClient) -> None:
        async with open_url(client, url) as response:
            assert await save_body(response, file, limit) == len(file.getvalue())

    with_client(use, params, allow_private=allow_private)
    return file.getvalue()


def failure(url: str, limit: int = 1000, params: DownloadParams = QUICK, allow_private: bool = True) -> FetchError:
    """Why a URL gives nothing."""
    with pytest.raises(FetchError) as caught:
        fetch(url, limit, params, allow_private)
    return caught.value


@pytest.fixture
def only_one_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server's own address pass for a public one, and no other, so that redirects can lead to a private one."""
    monkeypatch.setattr(networks, "is_public", lambda address: str(address) == "127.0.0.1")


def test_a_body_is_fetched_as_it_is_and_no_compression_is_asked_for() -> None:
    with serve({"/a?b=c%20d": Page(b"\x1f\x8bbytes", headers={"Content-Encoding": "gzip"})}) as site:
        assert fetch(site.url("/a?b=c%20d#fragment")) == b"\x1f\x8bbytes"
    headers = site.visits[0].headers
    assert (headers["accept-encoding"], headers["host"]) == ("identity", f"127.0.0.1:{site.port}")
    assert headers["user-agent"].startswith("mmprep/")
    assert not {"authorization", "cookie", "referer"} & headers.keys()


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("ftp://photos.example/a.jpg", "scheme 'ftp', expected http or https"),
        ("file:///etc/passwd", "scheme 'file', expected http or https"),
        ("data:image/png;base64,AAAA", "scheme 'data', expected http or https"),
        ("javascript:alert(1)", "scheme 'javascript', expected http or https"),
        ("//photos.example/a.jpg", "scheme '', expected http or https"),
        ("a.jpg", "scheme '', expected http or https"),
        ("", "scheme '', expected http or https"),
        ("http:///a.jpg", "no host"),
        ("http://user:password@photos.example/a.jpg", "holds a user name or a password"),
        ("http://user@photos.example/a.jpg", "holds a user name or a password"),
        ("http://:@photos.example/a.jpg", "holds a user name or a password"),
        ("http://photos.example:0/", "port 0, expected 1 to 65535"),
        ("http://photos.example:99999/", "port 99999, expected 1 to 65535"),
    ],
)
def test_urls_that_are_refused_from_their_look_alone(url: str, detail: str) -> None:
    with pytest.raises(FetchError) as caught:
        check_url(url)
    assert (caught.value.status, caught.value.detail, caught.value.retry) == (Status.REFUSED_URL, detail, False)
    assert failure(url).status is Status.REFUSED_URL


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/",
        "http://a\nb/",
        "http://xn--/",
        "http://x:port/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://0177.0.0.1/",
        "http://" + "a" * 70_000,
    ],
)
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        check_url(url)
    assert caught.value.status is Status.REFUSED_URL


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"],
)
def test_loopback_in_any_form_is_refused_unless_allowed(host: str) -> None:
    with serve({"/": Page(b"secret")}) as site:
        error = failure(site.url("/", host), allow_private=False)
        assert (error.status, error.retry) == (Status.REFUSED_ADDRESS, False)
        assert site.visits == []
        assert fetch(site.url("/", host)) == b"secret", "so the refusal was ours"


@pytest.mark.parametrize("host", ["[::1]", "[::]", "10.0.0.1", "169.254.169.254", "[fd00::1]", "[64:ff9b::7f00:1]"])
def test_private_networks_are_refused(host: str) -> None:
    assert failure(f"http://{host}/", allow_private=False).status is Status.REFUSED_ADDRESS


def test_a_name_that_resolves_to_loopback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[Address]:
        assert host == "photos.example"
        assert port
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(networks, "look_up", look_up)
    with serve({"/": Page(b"secret")}) as site:
        error = failure(site.url("/", "photos.example"), allow_private=False)
        assert (error.status, error.detail) == (
            Status.REFUSED_ADDRESS,
            "photos.example leads to 127.0.0.1: no public address",
        )
        assert fetch(site.url("/", "photos.example")) == b"secret"
    assert site.visits[0].headers["host"] == f"photos.example:{site.port}"


def test_a_name_whose_answer_changes_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that first tells a public address and then loopback gains nothing: there is no second question."""
    asked = []

    async def look_up(host: str, port: int) -> list[Address]:
        asked.append((host, port))
        return [ip_address("203.0.113.1" if len(asked) == 1 else "127.0.0.1")]

    monkeypatch.setattr(networks, "look_up", look_up)
    monkeypatch.setattr(networks, "is_public", lambda address: str(address) == "203.0.113.1")
    connected = []

    async def connect_tcp(_: object, host: str, *_more: object) -> None:
        connected.append(host)
        raise httpcore.ConnectError("not here")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
    assert failure("http://rebinding.example/", allow_private=False).status is Status.CONNECTION_FAILED
    assert (len(asked), connected) == (1, ["203.0.113.1"])


@pytest.mark.usefixtures("only_one_is_public")
@pytest.mark.parametrize(
    "place", ["http://127.0.0.2:{port}/secret", "http://[::1]:{port}/secret", "http://2130706434/x"]
)
def test_a_redirect_to_a_private_address_is_refused(place: str) -> None:
    with serve({"/": Page(), "/secret": Page(b"secret")}) as site:
        site.pages["/"] = redirect(place.format(port=site.port))
        assert failure(site.url("/"), allow_private=False).status is Status.REFUSED_ADDRESS
    assert [visit.path for visit in site.visits] == ["/"]


@pytest.mark.parametrize(
    "place", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://user:password@127.0.0.1:{port}/secret", "http://xn--/"]
)
def test_a_redirect_to_a_url_that_would_be_refused_is_refused(place: str) -> None:
    with serve({"/": Page(), "/secret": Page(b"secret")}) as site:
        site.pages["/"] = redirect(place.format(port=site.port))
        assert failure(site.url("/")).status is Status.REFUSED_URL
    assert [visit.path for visit in site.visits] == ["/"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_relative_ones_too(status: int) -> None:
    with serve({"/a/b": redirect("../c", status), "/c": Page(b"here")}) as site:
        assert fetch(site.url("/a/b")) == b"here"


def test_redirects_are_followed_five_times_and_no_more() -> None:
    assert MAX_REDIRECTS == 5
    chain: dict[str, Page] = {f"/{n}": redirect(f"/{n + 1}") for n in range(7)}
    with serve({**chain, "/7": Page(b"here")}) as site:
        assert fetch(site.url("/2")) == b"here"
        error = failure(site.url("/1"))
        assert (error.status, error.retry) == (Status.TOO_MANY_REDIRECTS, False)
        assert site.counts()["/7"] == 1
    with serve({"/": redirect("/")}) as site:
        assert failure(site.url("/")).status is Status.TOO_MANY_REDIRECTS
        assert len(site.visits) == 6


@pytest.mark.parametrize(("status", "retry"), [(404, False), (410, False), (403, False), (304, False), (206, False)])
def test_other_answers_are_errors_that_last(status: int, retry: bool) -> None:
    with serve({"/": Page(b"", status)}) as site:
        error = failure(site.url("/"))
        assert (error.status, error.http_status, error.retry) == (Status.HTTP_ERROR, status, retry)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_answers_that_may_change_may_be_tried_again(status: int) -> None:
    with serve({"/": Page(b"", status, {"Retry-After": "7"})}) as site:
        error = failure(site.url("/"))
        assert (error.status, error.http_status, error.retry, error.retry_after) == (Status.HTTP_ERROR, status, True, 7)


def test_a_body_of_just_the_limit_is_taken() -> None:
    with serve({"/": Page(b"x" * 1000)}) as site:
        assert fetch(site.url("/")) == b"x" * 1000


@pytest.mark.parametrize("length", [None, "none", "chunked"])
def test_a_body_beyond_the_limit_is_cut_short_however_its_length_is_told(length: str | None) -> None:
    with serve({"/": Page(b"x" * 5_000_000, length=length, pieces=(500, 0.01))}) as site:
        error = failure(site.url("/"))
        assert (error.status, error.detail, error.retry) == (Status.TOO_LARGE, "more than 1000 bytes", False)


def test_a_length_beyond_the_limit_is_refused_before_the_body() -> None:
    with serve({"/": Page(b"x", length=10**18)}) as site:
        assert failure(site.url("/")).status is Status.TOO_LARGE


@pytest.mark.parametrize("length", [None, "chunked", 150])
def test_a_connection_that_breaks_in_the_body_may_be_tried_again(length: int | str | None) -> None:
    with serve({"/": Page(b"x" * 100, length=length, cut=None if length == 150 else 50)}) as site:
        error = failure(site.url("/"))
        assert (error.status, error.retry) == (Status.CONNECTION_FAILED, True)


def test_nobody_there_may_be_tried_again() -> None:
    with serve({}) as site:
        url = site.url("/")
    error = failure(url)
    assert (error.status, error.retry) == (Status.CONNECTION_FAILED, True)


def test_an_answer_that_does_not_come_times_out() -> None:
    with serve({"/": Page(delay=10)}) as site:
        error = failure(site.url("/"), params=DownloadParams(timeout=0.1))
        assert (error.status, error.retry) == (Status.TIMED_OUT, True)


def test_no_cookie_comes_back() -> None:
    with serve({"/": Page(headers={"Set-Cookie": "a=b; Path=/"})}) as site:

        async def use(client: httpx.AsyncClient) -> None:
            for _ in range(2):
                async with open_url(client, site.url("/")):
                    pass

        with_client(use)
        assert [visit.headers.get("cookie") for visit in site.visits] == [None, None]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve({"/": Page(b"direct")}) as site:
        assert fetch(site.url("/")) == b"direct"


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A new self-signed certificate for a host, as a file, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) - timedelta(hours=1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    public = folder / "certificate.pem"
    public.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    both = folder / "both.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    both.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form) + public.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return public, context


def test_https_is_checked_against_the_name_although_the_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, context = certificate(tmp_path, "photos.example")

    async def look_up(host: str, port: int) -> list[Address]:
        assert host.endswith(".example")
        assert port
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(networks, "look_up", look_up)
    with serve({"/": Page(b"sealed")}, tls=context) as site:
        urls = [site.url("/", f"{name}.example", "https") for name in ("photos", "others")]
        assert "certificate verify failed" in failure(urls[0]).detail, "nobody known has signed it"
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        assert fetch(urls[0]) == b"sealed"
        error = failure(urls[1])
        assert error.status is Status.CONNECTION_FAILED
        assert "not valid for 'others.example'" in error.detail
        assert site.counts() == {"/": 1}


def test_connections_are_used_again() -> None:
    with serve({"/": Page(b"x")}) as site:

        async def use(client: httpx.AsyncClient) -> None:
            for _ in range(3):
                async with open_url(client, site.url("/")) as response:
                    await save_body(response, io.BytesIO(), 10)

        with_client(use)
    assert (len(site.visits), site.connections) == (3, 1)


def test_a_body_that_drips_is_refused() -> None:
    seconds = iter([0.0, 15.0, 31.0])
    rate = LeastRate(lambda: next(seconds))
    rate.add(40)
    with pytest.raises(FetchError, match="80 bytes in 31 s, expected at least 1000 a second") as caught:
        rate.add(40)
    assert caught.value.retry
    assert caught.value.status is Status.TIMED_OUT


def test_a_body_may_pause_within_the_window() -> None:
    seconds = iter([0.0, 1.0, 31.0, 32.0, 33.0, 70.0, 71.0])
    rate = LeastRate(lambda: next(seconds))
    for size in (100_000, 1, 0, 200_000):
        rate.add(size)
