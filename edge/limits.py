"""Limits: what a user and a connection may send (token buckets), and how many connections there may be."""

import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, Generic, TypeVar

from infra import metrics

#: Bits of an IPv6 address that identify a customer: providers assign a /64 network, with all its addresses, to one.
IPV6_PREFIX = 64

_PENDING = metrics.TRANSPORTS.labels("http")


class TokenBucket:
    """Allows `rate` a second and `burst` at once, of events, frames or bytes. When either is 0, there is no limit."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = time.monotonic()

    def take(self, count: int = 1) -> float:
        """Take so many tokens. Returns 0, or the seconds until they are available; then none is taken."""
        if not self._rate or not self._burst:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= count:
            self._tokens -= count
            return 0.0
        return (count - self._tokens) / self._rate


class Budget:
    """What one connection may send: frames (before its upgrade: requests) and bytes."""

    __slots__ = ("_bytes", "_frames", "max_frames")

    def __init__(self, frame_rate: float, frame_burst: int, byte_rate: float, byte_burst: int) -> None:
        self._frames = TokenBucket(frame_rate, frame_burst)
        self._bytes = TokenBucket(byte_rate, byte_burst)
        #: The most frames that can be available at once.
        self.max_frames = frame_burst if frame_rate and frame_burst else float("inf")

    def take_frames(self, count: int) -> bool:
        """Spend so many frames; False when that many are not available."""
        return not self._frames.take(count)

    def take_bytes(self, count: int) -> bool:
        """Spend so many bytes; False when that many are not available."""
        return not self._bytes.take(count)


C = TypeVar("C", bound=Hashable)


class PendingConnections(Generic[C]):
    """The connections that are no WebSockets, or not yet. Each limit is a number of connections; 0 means no limit.

    Over a limit, the oldest connection makes room: a client that sends its request at once is served, however many
    others are silent.
    """

    def __init__(self, limit: int, limit_per_address: int) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        #: With the address of each, in the order in which they came.
        self._addresses: OrderedDict[C, str] = OrderedDict()
        self._by_address: dict[str, OrderedDict[C, None]] = {}

    def add(self, connection: C, address: str) -> C | None:
        """Add a connection. Returns the one that must be closed for it, if any, which is removed already."""
        network = _network_of(address) if self._limit_per_address else ""
        self._addresses[connection] = network
        same = self._by_address.setdefault(network, OrderedDict())
        same[connection] = None
        oldest: C | None = None
        if self._limit_per_address and len(same) > self._limit_per_address:
            oldest = next(iter(same))
        elif self._limit and len(self._addresses) > self._limit:
            oldest = next(iter(self._addresses))
        if oldest is not None:
            self.remove(oldest)
        _PENDING.set(len(self._addresses))
        return oldest

    def remove(self, connection: C) -> None:
        """Remove a connection, if it is there."""
        network = self._addresses.pop(connection, None)
        if network is None:
            return
        del self._by_address[network][connection]
        if not self._by_address[network]:
            del self._by_address[network]
        _PENDING.set(len(self._addresses))


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
