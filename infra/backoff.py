"""How long to wait before trying again: exponential back-off with full jitter.

The cap doubles with each attempt, and the pause is random below it, so that clients of a service that comes back do not
all return at the same moment. After Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random

#: Longest pause between two attempts, seconds. A broker that is back waits this long for the last of us: with 10 s,
#: killing RabbitMQ cost ten seconds more than its own start (`make faults`).
MAX_BACKOFF = 3.0
#: Longest pause after the first attempt, seconds.
FIRST_BACKOFF = 0.5


def backoff(attempt: int) -> float:
    """Seconds to wait after a failed attempt (1, 2, …)."""
    # The cap is reached long before the fiftieth; beyond the thousandth a float could not hold the power.
    cap = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(attempt - 1, 50))
    return random.uniform(0, cap)  # noqa: S311 - a spread, no secret
