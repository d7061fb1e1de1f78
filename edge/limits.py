"""How much a user may send (a token bucket, refilled as time goes by), and how many sockets an address may hold."""

import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

#: Bits of an IPv6 address that tell one customer from another; whoever has one such network has all addresses in it.
IPV6_PREFIX = 64


class TokenBucket:
    """`rate` events a second, `burst` at once. Either being 0 means without limit."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one token; returns 0, or the seconds to wait until there is one."""
        if not self._rate or not self._burst:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class Addresses:
    """Counts open sockets by the address that they come from. A `limit` of 0 means without limit, and counts nothing.

    An address without a socket is forgotten, so the table is never longer than the edge has sockets.
    """

    def __init__(self, limit: int, trusted_proxies: int) -> None:
        self._limit = limit
        self._trusted_proxies = trusted_proxies
        self._sockets: dict[str, int] = {}

    def enter(self, scope: Mapping[str, Any]) -> str | None:
        """Count a socket by its ASGI scope; returns the address to `leave`, or None when that has no room."""
        if not self._limit:
            return ""
        address = address_of(scope, self._trusted_proxies)
        sockets = self._sockets.get(address, 0)
        if sockets >= self._limit:
            return None
        self._sockets[address] = sockets + 1
        return address

    def leave(self, address: str) -> None:
        """Forget a socket of this address."""
        sockets = self._sockets.get(address, 0)
        if sockets > 1:
            self._sockets[address] = sockets - 1
        else:
            self._sockets.pop(address, None)

    def __len__(self) -> int:
        return len(self._sockets)


def address_of(scope: Mapping[str, Any], trusted_proxies: int) -> str:
    """Where a request comes from: an IPv4 address, an IPv6 network of 64 bits, or `unknown`.

    Each trusted proxy adds the address that it sees to the end of X-Forwarded-For, so the client's is that many places
    from the end. What stands before it was written by the client, and counts for nothing.
    """
    client = scope.get("client")
    seen = client[0] if client else ""
    if trusted_proxies:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        forwarded = [part.strip() for part in ",".join(headers).split(",") if part.strip()]
        if forwarded:
            seen = forwarded[-min(trusted_proxies, len(forwarded))]
    return _network_of(seen)


def _network_of(text: str) -> str:
    # Some proxies add the port: 192.0.2.1:4711, or [2001:db8::1]:4711.
    bare = text[1:].partition("]")[0] if text.startswith("[") else text
    bare = bare.partition(":")[0] if bare.count(":") == 1 else bare
    try:
        address = ip_address(bare)
    except ValueError:
        return "unknown"
    address = (None if isinstance(address, IPv4Address) else address.ipv4_mapped) or address
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), IPV6_PREFIX), strict=False))
