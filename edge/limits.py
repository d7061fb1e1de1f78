"""Limits: how many events a user may send (a token bucket), and how many sockets an address may open."""

import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

#: Bits of an IPv6 address that identify a customer: providers assign a /64 network, with all its addresses, to one.
IPV6_PREFIX = 64


class TokenBucket:
    """Allows `rate` events a second and `burst` at once. When either is 0, there is no limit."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one token. Returns 0, or the seconds until a token is available."""
        if not self._rate or not self._burst:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class AddressLimit:
    """Limits open sockets by the address that they come from. With `limit` 0 there is no limit, and nothing is counted.

    An address without a socket is removed, so the table has at most one entry for each socket of the edge.
    """

    def __init__(self, limit: int, trusted_proxies: int) -> None:
        self._limit = limit
        self._trusted_proxies = trusted_proxies
        self._sockets: dict[str, int] = {}

    def acquire(self, scope: Mapping[str, Any]) -> str | None:
        """Count a socket by its ASGI scope. Returns the address to `release`, or None when its limit is reached."""
        if not self._limit:
            return ""
        address = address_of(scope, self._trusted_proxies)
        sockets = self._sockets.get(address, 0)
        if sockets >= self._limit:
            return None
        self._sockets[address] = sockets + 1
        return address

    def release(self, address: str) -> None:
        """Remove a socket of this address from the count."""
        sockets = self._sockets.get(address, 0)
        if sockets > 1:
            self._sockets[address] = sockets - 1
        else:
            self._sockets.pop(address, None)

    def __len__(self) -> int:
        return len(self._sockets)


def address_of(scope: Mapping[str, Any], trusted_proxies: int) -> str:
    """The address that a request comes from: an IPv4 address, an IPv6 network of 64 bits, or `unknown`.

    Each trusted proxy appends the address that it sees to X-Forwarded-For. So the client's address is at that position,
    counted from the end. The client itself wrote everything before it, and that is ignored.
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
    # Some proxies append the port: 192.0.2.1:4711 or [2001:db8::1]:4711.
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
