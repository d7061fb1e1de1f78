"""Health: stalls of the event loop are counted and logged, and one answer serves all who ask at once."""

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


async def test_an_answer_counts_for_all_who_ask_at_once_and_for_a_moment() -> None:
    # Given a check that is asked for by many, and one whose answers do not count for others
    asked = 0

    async def ask() -> str | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return f"answer {asked}"

    remembered, forgotten = health.cached(ask, 60), health.cached(ask, 0)

    # When the first of those who ask goes away, then the others get its answer
    first = asyncio.ensure_future(remembered())
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*(remembered() for _ in range(5))) == ["answer 1"] * 5
    assert await remembered() == "answer 1"
    assert [await forgotten() for _ in range(2)] == ["answer 2", "answer 3"]
