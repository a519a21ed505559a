"""Which addresses of the network a channel may reach: none of this machine, none of the link, unless named.

What is checked is the address that is connected to. A name is looked up once, its addresses are
checked, and one of those is connected to, so a name that points elsewhere at the second look
(DNS rebinding) gains nothing. Where a library makes its connections itself, `guarded` watches them.

A loopback address or `localhost` that the config's address names literally counts as allowed; a name
that merely resolves to one does not.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ADDRESSES_MAX = 4  # of one name that are tried
HERE = IPv4Network("0.0.0.0/8")  # RFC 1122: this host on this network; Linux takes it for loopback
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
# Where clouds answer with credentials, beside 169.254.169.254: AWS by IPv6, Alibaba.
METADATA = (ip_address("fd00:ec2::254"), ip_address("100.100.100.200"))


class AddressRefused(OSError):
    """An address that a channel may not reach."""


class Guard:
    """What one channel may reach: `allow` names hosts and networks, `named` the hosts its own address names."""

    def __init__(self, allow: Iterable[str] = (), named: Iterable[str] = ()) -> None:
        self._named = frozenset(_plain(host) for host in named)
        self._networks: list[Network] = []
        hosts = set()
        for given in allow:
            try:
                self._networks.append(ip_network(given, strict=False))
            except ValueError:
                hosts.add(_plain(given))
        self._hosts = frozenset(hosts)

    def check(self, address: str, host: str) -> None:
        """Whether `host`, found at `address`, may be reached. Raises AddressRefused."""
        host = _plain(host)
        found = _parsed(address)
        if found is None:
            raise AddressRefused(f"{address[:100]!r} is no address of the network")
        for one in _meant(found):
            kind = _kind(one)
            if kind and not self._is_allowed(found, one, host, kind):
                shown = str(found) if host == _plain(address) else f"{host} is {found}"
                raise AddressRefused(f"{shown}: {kind} are not reached; name it in the channel's `allow` if that is meant")

    def _is_allowed(self, found: Address, one: Address, host: str, kind: str) -> bool:
        if host in self._hosts or any(a in network for a in (found, one) for network in self._networks):
            return True
        literally = host == "localhost" or _parsed(host) is not None
        return kind == LOOPBACK and literally and host in self._named

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be reached. Raises AddressRefused when there are none, OSError when it has none."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        fine, refused = [], None
        for address in dict.fromkeys(str(answer[4][0]) for answer in found):
            try:
                self.check(address, host)
            except AddressRefused as error:
                refused = error
            else:
                fine.append(address)
        if not fine:
            raise refused or AddressRefused(f"{host} has no address")
        return fine[:ADDRESSES_MAX]


LOOPBACK = "loopback addresses"


def _kind(address: Address) -> str:
    """What a channel may not reach of its own accord, by what it is; empty for all others, private ones too."""
    if address.is_loopback:
        return LOOPBACK
    if address.is_link_local:
        return "link-local addresses"
    if address.is_multicast:
        return "multicast addresses"
    if address.is_unspecified or (isinstance(address, IPv4Address) and (address in HERE or address == IPv4Address("255.255.255.255"))):
        return "addresses of no host"
    return "addresses of metadata services" if address in METADATA else ""


def _meant(address: Address) -> list[Address]:
    """An address and the IPv4 address that it wraps: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, IPv4Address):
        return [address]
    wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        wrapped.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return [address, *(a for a in wrapped if a is not None)]


def _parsed(address: str) -> Address | None:
    try:
        return ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


# Connections that a library makes


@dataclass
class Watch:
    """What is known of the connections of a thread: the host looked up last, and the address refused last."""

    guard: Guard
    host: str = ""
    refused: AddressRefused | None = None

    def on_lookup(self, host: Any) -> None:
        self.host = _text(host)

    def on_connect(self, address: Any) -> None:
        try:
            if not isinstance(address, tuple) or not address:
                raise AddressRefused("only addresses of the network are reached")
            self.guard.check(_text(address[0]), self.host or _text(address[0]))
        except AddressRefused as error:
            self.refused = error
            raise


class _Here(threading.local):
    watch: Watch | None = None


_here = _Here()
_hooking = threading.Lock()
_hooked: list[bool] = []


@contextmanager
def guarded(guard: Guard) -> Iterator[Watch]:
    """Within it, a connection of this thread to an address that `guard` refuses raises AddressRefused.

    By an audit hook (PEP 578), which sees every connect of the process just before it is made, with
    the address; it looks only at threads that ask for it.
    """
    with _hooking:
        if not _hooked:
            sys.addaudithook(_on_event)
            _hooked.append(True)
    _here.watch = watch = Watch(guard)
    try:
        yield watch
    finally:
        _here.watch = None


def _on_event(event: str, details: tuple[Any, ...]) -> None:
    if not event.startswith("socket.") or _here.watch is None:
        return
    if event == "socket.getaddrinfo":
        _here.watch.on_lookup(details[0])
    elif event in ("socket.connect", "socket.sendto") and details[1] is not None:
        _here.watch.on_connect(details[1])


def _text(name: Any) -> str:
    return name.decode("ascii", "replace") if isinstance(name, bytes) else str(name or "")
