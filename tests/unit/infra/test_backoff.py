"""How long to wait before trying again."""

from infra.backoff import MAX_BACKOFF, backoff


def test_back_off_grows_to_a_limit_and_never_repeats_itself() -> None:
    pauses = [[backoff(attempt) for _ in range(50)] for attempt in range(1, 12)]
    assert max(pauses[0]) <= 1
    assert max(max(one) for one in pauses) <= MAX_BACKOFF
    assert max(pauses[-1]) > 2 * max(pauses[0])
    assert len({round(pause, 6) for pause in pauses[-1]}) > 40, "no jitter"
