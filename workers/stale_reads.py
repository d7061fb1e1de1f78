"""Reads that waited too long in their queue: their clients got `timeout` long before, so no worker answers them."""

import time
from collections.abc import Sequence

from contracts.codec import Item
from contracts.commands import ClientCommand

#: Seconds after which a read is stale. It is much longer than clients wait, because the clocks of edges and workers
#: differ.
STALE_AFTER = 60.0


def without_stale(items: Sequence[Item]) -> list[ClientCommand]:
    """The clients' commands that are not stale, in their order."""
    stale_until = (time.time() - STALE_AFTER) * 1000
    return [item for item in items if isinstance(item, ClientCommand) and item.at > stale_until]
