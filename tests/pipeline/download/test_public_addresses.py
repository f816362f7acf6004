"""Only public addresses are connected to, and a name is looked up once."""

import asyncio
from ipaddress import ip_address

import httpcore
import pytest

from mmprep.pipeline.download import public_addresses as networks
from mmprep.pipeline.download.public_addresses import Address, PrivateAddressError, PublicOnlyBackend, is_public


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fec0::1", "ff02::1", "ff0e::1", "100::1", "2001:db8::1"),
        *("3fff::1", "5f00::1", "2001::1", "2001:10::1", "fd00:ec2::254"),
        # An IPv4 address inside: mapped, compatible, translated, NAT64, NAT64 of a site, 6to4.
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:c0a8:1::1"),
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_public(ip_address(address))


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name have these addresses; returns the names asked for."""
    asked: list[str] = []

    async def look_up(host: str, port: int) -> list[Address]:
        assert port == 80
        asked.append(host)
        return [ip_address(address) for address in addresses]

    monkeypatch.setattr(networks, "look_up", look_up)
    return asked


class Recorder(httpcore.AsyncNetworkBackend):
    """Connects to nothing and tells where to; the first `deaf` addresses do not answer."""

    def __init__(self, deaf: int = 0) -> None:
        self.connected: list[tuple[str, float | None]] = []
        self.deaf = deaf

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: object
    ) -> httpcore.AsyncMockStream:
        assert port == 80
        self.connected.append((host, timeout))
        if len(self.connected) <= self.deaf:
            raise httpcore.ConnectTimeout("deaf")
        return httpcore.AsyncMockStream([])


def checked(allow_private: bool = False, deaf: int = 0) -> tuple[PublicOnlyBackend, Recorder]:
    """A backend and what it connects with."""
    backend, recorder = PublicOnlyBackend(allow_private), Recorder(deaf)
    backend.inner = recorder
    return backend, recorder


def connect(backend: PublicOnlyBackend, host: str = "photos.example", seconds: float | None = 6) -> None:
    asyncio.run(backend.connect_tcp(host, 80, seconds))


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, "8.8.8.8")
    backend, recorder = checked()
    connect(backend)
    assert recorder.connected == [("8.8.8.8", 6)]
    assert asked == ["photos.example"], "looked up once"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "::1"]])
def test_a_name_with_any_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    answers(monkeypatch, *addresses)
    backend, recorder = checked()
    with pytest.raises(PrivateAddressError) as caught:
        connect(backend)
    assert str(caught.value) == f"photos.example leads to {addresses[-1]}: no public address"
    assert recorder.connected == []


def test_private_addresses_are_connected_to_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "10.0.0.1")
    backend, recorder = checked(allow_private=True)
    connect(backend)
    assert recorder.connected == [("10.0.0.1", 6)]


def test_the_next_address_is_tried_with_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "2606:4700::1111", "8.8.8.8", "1.1.1.1")
    backend, recorder = checked(deaf=1)
    connect(backend)
    assert recorder.connected == [("2606:4700::1111", 2), ("8.8.8.8", 2)]


def test_when_no_address_answers_the_last_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "8.8.8.8", "1.1.1.1")
    backend, recorder = checked(deaf=2)
    with pytest.raises(httpcore.ConnectTimeout, match="deaf"):
        connect(backend)
    assert len(recorder.connected) == 2


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "::1"])
def test_the_system_reads_odd_forms_of_loopback_and_they_are_refused(host: str) -> None:
    backend, recorder = checked()
    with pytest.raises(PrivateAddressError):
        connect(backend, host)
    assert recorder.connected == []


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
def test_a_name_that_cannot_be_looked_up_cannot_be_connected_to(host: str) -> None:
    with pytest.raises(httpcore.ConnectError):
        connect(PublicOnlyBackend(allow_private=True), host)


def test_a_look_up_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object) -> list[Address]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(networks, "look_up", look_up)
    with pytest.raises(httpcore.ConnectTimeout, match=r"^no address of photos.example in 0.05 seconds$"):
        connect(PublicOnlyBackend(allow_private=False), seconds=0.05)
