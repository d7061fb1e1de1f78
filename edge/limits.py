"""How much a user may send: a token bucket, refilled as time goes by."""

import time


class TokenBucket:
    """`rate` events a second, `burst` at once. Either being 0 means without limit."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one token; returns 0, or the seconds to wait until there is one."""
        if not self._rate or not self._burst:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
