"""The monitor of the event loop counts and logs stalls."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from infra import health


async def test_a_stall_is_counted_and_logged_with_its_length(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "CHECK_INTERVAL", 0.001)
    monkeypatch.setattr(health, "STALL", 0.2)
    before = REGISTRY.get_sample_value("warren_process_stalls_total") or 0
    monitor = asyncio.create_task(health.monitor_event_loop())
    await asyncio.sleep(0.01)
    time.sleep(0.3)  # noqa: ASYNC251 - as SIGSTOP would
    await asyncio.sleep(0.01)
    monitor.cancel()
    assert caplog.messages == ["This process stalled for 0.3 s."]
    assert REGISTRY.get_sample_value("warren_process_stalls_total") == before + 1
