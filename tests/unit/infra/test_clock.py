"""The clock counts milliseconds."""

import time

from infra.clock import now_ms


def test_the_time_is_in_whole_milliseconds() -> None:
    before = time.time() * 1000
    now = now_ms()
    assert before - 1 < now <= time.time() * 1000
