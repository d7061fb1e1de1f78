"""The token bucket: a burst at once, then the rate."""

import time

import pytest

from edge.limits import TokenBucket


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
