"""The clock of this process."""

import time


def now_ms() -> int:
    """The time in milliseconds since the epoch (1970)."""
    return int(time.time() * 1000)
