"""The token bucket: a burst at once, then the rate. Addresses: so many sockets each, by an address nobody can forge."""

import time
from typing import Any

import pytest

from edge.limits import AddressLimit, Budget, PendingConnections, TokenBucket, address_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_burst_passes_and_then_the_rate(clock: list[float]) -> None:
    bucket = TokenBucket(rate=50, burst=100)
    assert [bucket.take() for _ in range(100)] == [0] * 100
    wait = bucket.take()
    assert wait == pytest.approx(1 / 50)
    clock[0] += wait + 0.001  # clients get whole milliseconds, rounded up
    assert bucket.take() == 0
    assert bucket.take() > 0


def test_a_rest_refills_the_burst_and_no_more(clock: list[float]) -> None:
    bucket = TokenBucket(rate=10, burst=3)
    clock[0] += 3_600
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() > 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 100), (50, 0), (0, 0)])
def test_0_means_without_limit(clock: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    assert not any(bucket.take() for _ in range(1_000))


def scope(client: str = "192.0.2.1", *forwarded: str) -> dict[str, Any]:
    """A request as uvicorn describes it, with so many X-Forwarded-For headers."""
    return {"client": (client, 4711), "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded]}


def test_an_address_has_room_for_so_many_and_is_forgotten_when_it_has_none() -> None:
    addresses = AddressLimit(limit=2, trusted_proxies=0)
    assert [addresses.acquire(scope()) for _ in range(3)] == ["192.0.2.1", "192.0.2.1", None]
    assert addresses.acquire(scope("192.0.2.2")) == "192.0.2.2"
    addresses.release("192.0.2.1")
    assert addresses.acquire(scope()) == "192.0.2.1"
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        addresses.release(address)
    assert len(addresses) == 0


def test_without_a_limit_addresses_are_not_counted() -> None:
    addresses = AddressLimit(limit=0, trusted_proxies=0)
    assert {addresses.acquire(scope(f"192.0.2.{last}")) for last in range(200)} == {""}
    addresses.release("")
    assert len(addresses) == 0


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, ["203.0.113.9"], "192.0.2.1"),
        (1, [], "192.0.2.1"),
        (1, ["203.0.113.9"], "203.0.113.9"),
        (1, ["10.6.6.6, 203.0.113.9"], "203.0.113.9"),
        (1, ["10.6.6.6", "203.0.113.9"], "203.0.113.9"),
        (2, ["10.6.6.6, 203.0.113.9, 198.51.100.7"], "203.0.113.9"),
        (2, ["203.0.113.9"], "203.0.113.9"),
        (1, ["203.0.113.9:4711"], "203.0.113.9"),
        (1, ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        (1, ["2001:db8:1:2:ffff::4"], "2001:db8:1:2::/64"),
        (1, ["::ffff:203.0.113.9"], "203.0.113.9"),
        (1, ["<script>" * 1_000], "unknown"),
        (1, [" , "], "192.0.2.1"),
    ],
)
def test_a_forwarded_address_counts_from_the_end_and_only_behind_proxies(
    proxies: int, forwarded: list[str], address: str
) -> None:
    assert address_of(scope("192.0.2.1", *forwarded), proxies) == address


def test_a_bucket_gives_several_tokens_or_none(clock: list[float]) -> None:
    bucket = TokenBucket(rate=10, burst=100)
    assert bucket.take(90) == 0
    assert bucket.take(30) == pytest.approx(2)
    assert bucket.take(10) == 0


def test_a_budget_counts_frames_and_bytes_apart(clock: list[float]) -> None:
    budget = Budget(frame_rate=1, frame_burst=2, byte_rate=0, byte_burst=10)
    assert [budget.take_frames(1) for _ in range(3)] == [True, True, False]
    assert budget.take_bytes(1_000_000)
    assert budget.max_frames == 2
    assert Budget(0, 2, 1, 10).max_frames == float("inf")


def test_the_oldest_connection_makes_room() -> None:
    pending: PendingConnections[str] = PendingConnections(limit=2, limit_per_address=0)
    assert [pending.add(name, "192.0.2.1") for name in ("a", "b", "c", "d")] == [None, None, "a", "b"]
    pending.remove("c")
    assert pending.add("e", "192.0.2.1") is None
    for name in ("c", "d", "e", "e"):
        pending.remove(name)


def test_an_address_makes_room_for_itself() -> None:
    pending: PendingConnections[str] = PendingConnections(limit=100, limit_per_address=2)
    assert pending.add("a", "2001:db8::1") is None
    assert pending.add("x", "192.0.2.1") is None
    assert pending.add("b", "2001:db8::2") is None
    assert pending.add("c", "2001:db8::3") == "a"
    assert PendingConnections[str](limit=0, limit_per_address=0).add("a", "") is None
