"""The garbage collector, told what kind of process this is."""

import gc

#: Allocations until the youngest generation is looked at, and looks until an older one is. A busy process makes
#: thousands of short-lived objects a second, nearly none in cycles: the defaults (700, 10, 10) stop it all the time.
THRESHOLDS = (50_000, 20, 50)


def tune() -> None:
    """Call once everything that lives as long as the process is made: it is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
