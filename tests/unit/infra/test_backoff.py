"""How long to wait before trying again."""

import pytest

from infra.backoff import MAX_BACKOFF, backoff


def test_back_off_grows_to_a_limit_and_never_repeats_itself() -> None:
    pauses = [[backoff(attempt) for _ in range(50)] for attempt in range(1, 12)]
    assert max(pauses[0]) <= 1
    assert max(max(one) for one in pauses) <= MAX_BACKOFF
    assert max(pauses[-1]) > 2 * max(pauses[0])
    assert len({round(pause, 6) for pause in pauses[-1]}) > 40, "no jitter"


def test_the_cap_doubles_with_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, cap: cap)
    assert [backoff(attempt) for attempt in range(1, 6)] == [0.5, 1, 2, 3, 3]


def test_a_service_that_is_away_for_days_is_still_asked() -> None:
    assert 0 <= backoff(1_000_000) <= MAX_BACKOFF
