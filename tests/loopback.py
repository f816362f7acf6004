"""A web site on 127.0.0.1 that counts its visitors and can be slow, rude and untruthful."""

import re
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, cast


@dataclass(frozen=True)
class Page:
    """What a path gives.

    Attributes:
        body, status, headers: the answer.
        delay: seconds before it begins.
        length: what Content-Length says instead of the truth; "none" for nothing and "chunked" for chunks.
        cut: the connection is dropped after so many bytes of the body.
        pieces: the body comes in pieces of so many bytes, with a pause of so many seconds after each.
        etag, modified: validators; with one of them, ranges are served.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    length: int | str | None = None
    cut: int | None = None
    pieces: tuple[int, float] | None = None
    etag: str | None = None
    modified: str | None = None

    @property
    def validators(self) -> dict[str, str]:
        named = {"ETag": self.etag, "Last-Modified": self.modified}
        return {name: value for name, value in named.items() if value}


def redirect(place: str, status: int = 302) -> Page:
    return Page(status=status, headers={"Location": place})


class Visit(NamedTuple):
    """A request: the path with its query, and its headers."""

    path: str
    headers: dict[str, str]


class Site(ThreadingHTTPServer):
    """The server.

    Attributes:
        pages: by path; of a list each visit takes the next one, and then the last one for ever.
        visits: all of them, in order.
        peak: the most visits at once in all (under "") and by host name.
        connections: how many were opened.
    """

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, pages: Mapping[str, Page | Sequence[Page]]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages = dict(pages)
        self.visits: list[Visit] = []
        self.peak: Counter[str] = Counter()
        self.present: Counter[str] = Counter()
        self.connections = 0
        self.closing = threading.Event()
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def counts(self) -> Counter[str]:
        """The visits of each path."""
        with self.lock:
            return Counter(visit.path for visit in self.visits)

    def enter(self, visit: Visit) -> Page:
        with self.lock:
            earlier = sum(other.path == visit.path for other in self.visits)
            self.visits.append(visit)
            for host in ("", visit.headers["host"].split(":")[0]):
                self.present[host] += 1
                self.peak[host] = max(self.peak[host], self.present[host])
            page = self.pages.get(visit.path, Page(b"nothing here", 404))
            return page if isinstance(page, Page) else page[min(earlier, len(page) - 1)]

    def leave(self, visit: Visit) -> None:
        with self.lock:
            for host in ("", visit.headers["host"].split(":")[0]):
                self.present[host] -= 1

    def process_request(self, *connection: Any) -> None:  # noqa: ANN401 - socketserver's
        self.connections += 1
        super().process_request(*connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Visitors who leave early are no fault."""


class Answer(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = cast("Site", self.server)
        visit = Visit(self.path, {name.lower(): value for name, value in self.headers.items()})
        page = site.enter(visit)
        try:
            site.closing.wait(page.delay)
            self.answer(page, visit, site)
        finally:
            site.leave(visit)

    def answer(self, page: Page, visit: Visit, site: Site) -> None:
        status, body, headers = page.status, page.body, {**page.headers, **page.validators}
        wanted = re.fullmatch(r"bytes=(\d+)-", visit.headers.get("range", ""))
        if wanted and page.validators and visit.headers.get("if-range") in page.validators.values():
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if page.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif page.length != "none":
            self.send_header("Content-Length", str(len(body) if page.length is None else page.length))
        if page.length not in (None, "chunked") or page.cut is not None:
            self.close_connection = True
        self.end_headers()
        self.send_body(body[: page.cut], page, site)

    def send_body(self, body: bytes, page: Page, site: Site) -> None:
        size, pause = page.pieces or (1 << 16, 0)
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if page.length == "chunked" else piece)
            if pause and site.closing.wait(pause):
                return
        if page.length == "chunked" and page.cut is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serve(pages: Mapping[str, Page | Sequence[Page]], tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A site that is open during the block."""
    with Site(pages) as site:
        if tls:
            site.socket = tls.wrap_socket(site.socket, server_side=True)
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            site.shutdown()
            thread.join()
