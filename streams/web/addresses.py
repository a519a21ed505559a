"""How many connections and streams each address has; the proxies', which many share, have no bound."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from streams.web.keyring import network_of


class Addresses:
    """Counts by address, of IPv6 by its network of 2^64. `most` is of connections; half as many may be streams."""

    def __init__(self, most: int, proxies: str) -> None:
        self._most = most
        self._networks = [found for part in proxies.split(",") if (found := _network(part.strip())) is not None]
        self._everybody = "*" in proxies.split(",")
        self._connections: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._bounded = lru_cache(4096)(self._is_bounded)

    def arrive(self, address: str) -> bool:
        """One more connection; False: it has too many, and this is not counted."""
        return self._add(self._connections, address, self._most)

    def depart(self, address: str) -> None:
        _take(self._connections, network_of(address))

    def listen(self, address: str) -> bool:
        """One more stream; False: it has too many, and this is not counted."""
        return self._add(self._streams, address, self._most // 2)

    def end(self, address: str) -> None:
        _take(self._streams, network_of(address))

    @property
    def known(self) -> int:
        return len(self._connections.keys() | self._streams.keys())

    def _add(self, counts: Counter[str], address: str, most: int) -> bool:
        network = network_of(address)
        if counts[network] >= most and self._bounded(address):
            return False
        counts[network] += 1
        return True

    def _is_bounded(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return not self._everybody
        return not self._everybody and not any(found in network for network in self._networks)


def _take(counts: Counter[str], network: str) -> None:
    counts[network] -= 1
    if counts[network] <= 0:
        del counts[network]


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
