"""A process knows when it stood still."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from infra import health


async def test_a_process_that_stood_still_says_for_how_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "TICK", 0.001)
    monkeypatch.setattr(health, "STALL", 0.2)
    before = REGISTRY.get_sample_value("warren_process_stalls_total") or 0
    watching = asyncio.create_task(health.watch_the_clock())
    await asyncio.sleep(0.01)
    time.sleep(0.3)  # noqa: ASYNC251 - as SIGSTOP would
    await asyncio.sleep(0.01)
    watching.cancel()
    assert caplog.messages == ["This process stood still for 0.3 s."]
    assert REGISTRY.get_sample_value("warren_process_stalls_total") == before + 1
