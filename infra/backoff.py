"""How long to wait before trying again."""

from tenacity import RetryCallState, wait_random_exponential

#: Longest pause between two attempts, seconds; the first is under one. A broker that is back waits this long for the
#: last of us: with 10 s, killing RabbitMQ cost ten seconds more than its own start (`make faults`).
MAX_BACKOFF = 3.0

_backoff = wait_random_exponential(multiplier=0.5, max=MAX_BACKOFF)


def backoff(attempt: int) -> float:
    """Seconds to wait after a failed attempt (1, 2, …): random up to an exponentially growing cap (full jitter)."""
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = attempt
    return _backoff(state)
