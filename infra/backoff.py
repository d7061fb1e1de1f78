"""Pauses between attempts: exponential back-off with full jitter.

The cap doubles with each attempt, and the pause is random below the cap. So clients of a service that was away do not
all return at the same moment. Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random

#: Longest pause between two attempts, seconds. It bounds how long after a restart of the broker the last process
#: reconnects: with 10 s, killing RabbitMQ cost ten seconds more than its own restart (`make faults`).
MAX_BACKOFF = 3.0
#: Longest pause after the first attempt, seconds.
FIRST_BACKOFF = 0.5


def backoff(attempt: int) -> float:
    """Seconds to wait after a failed attempt (1, 2, …)."""
    # The exponent is bounded because a float overflows after about a thousand attempts.
    cap = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(attempt - 1, 50))
    return random.uniform(0, cap)  # noqa: S311 - a spread, not a secret
