"""Tunes Python's garbage collector for long-running processes."""

import gc

#: Allocations until the youngest generation is collected, and collections until an older one is. A busy process makes
#: thousands of short-lived objects a second, and nearly none in cycles. With the defaults (700, 10, 10), collections
#: would interrupt it all the time.
THRESHOLDS = (50_000, 20, 50)


def tune() -> None:
    """Set the thresholds, and exempt all existing objects from collection.

    Call it once, after the objects that live as long as the process were made.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
