"""SSRF guard: resolve a host once and connect only to public addresses."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpcore
import httpx

Address = IPv4Address | IPv6Address

GLOBAL_UNICAST = ip_network("2000::/3")  # all allocated public addresses; others are local, mapped or reserved
NAT64 = ip_network("64:ff9b::/96")
# Not assigned to hosts, though Python calls some of them global, depending on its version.
RESERVED = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")))
KEEP_ALIVE_SECONDS = 5.0


class PrivateAddressError(Exception):
    """A host resolves to a private, loopback or otherwise non-public address."""


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, judged by the embedded IPv4 address if there is one."""
    inner = embedded_ipv4(address)
    if inner is not None:
        return is_public(inner)
    if address.version == 6 and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in RESERVED)


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """The IPv4 address embedded in a mapped, NAT64 or 6to4 address; None for others."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


async def look_up(host: str, port: int) -> list[Address]:
    """The addresses of a host by the system's resolver, which also accepts `2130706433` and `0x7f.1`.

    Raises:
        OSError: the host cannot be resolved.
    """
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(address[0])) for *_, address in dict.fromkeys(infos)]


class PublicOnlyBackend(httpcore.AsyncNetworkBackend):
    """Connects only to checked addresses: a name is resolved once, so that a second DNS answer cannot differ.

    Attributes:
        allow_private: whether to also connect to loopback and private networks.
    """

    def __init__(self, allow_private: bool) -> None:
        self.allow_private = allow_private
        self.inner: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that accepts a connection.

        Args:
            host: a name or an address.
            port: TCP port.
            timeout: seconds for the look-up, and again for all addresses together; None waits for ever.
            local_address: address to connect from.
            socket_options: for the socket.

        Raises:
            PrivateAddressError: one of the addresses is not public.
            httpcore.ConnectError: the host has no address, or none accepts a connection.
            httpcore.ConnectTimeout: no connection in time.
        """
        addresses = await self.check(host, port, timeout)
        share = None if timeout is None else timeout / max(len(addresses), 1)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self.inner.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def check(self, host: str, port: int, seconds: float | None) -> list[Address]:
        """Resolve a host and refuse it if any of its addresses is not public."""
        try:
            async with asyncio.timeout(seconds):
                addresses = await look_up(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no address of {host} in {seconds:g} seconds") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: {error}") from error
        private = [address for address in addresses if not is_public(address)]
        if private and not self.allow_private:
            known_as = "" if host == str(private[0]) else f"{host} leads to "
            raise PrivateAddressError(f"{known_as}{private[0]}: no public address")
        return addresses


class PublicOnlyTransport(httpx.AsyncBaseTransport):
    """Carries httpx's requests over connections to checked addresses.

    httpx's own transport accepts no network backend; replacing the one in its private pool would silently stop working
    with a version that keeps the pool elsewhere.
    """

    def __init__(self, connections: int, allow_private: bool) -> None:
        self.pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=PublicOnlyBackend(allow_private),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raises httpcore's exceptions and PrivateAddressError."""
        url = request.url
        response = await self.pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status, headers=response.headers, stream=Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pool.aclose()


class Body(httpx.AsyncByteStream):
    """Body of an httpcore response as an httpx stream."""

    def __init__(self, answer: httpcore.Response) -> None:
        self.answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        """Return the connection to the pool."""
        await self.answer.aclose()
