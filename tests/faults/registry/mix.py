"""Several faults of single nodes, one close upon the other."""

import asyncio
from collections.abc import Iterable

from tests.faults.context import Context, Fault

#: Faults in the mix.
MIXED = 7
#: Longest pause between two of them, seconds.
PAUSE = 4.0

MIXABLE = {
    "kill-persistence",
    "kill-unread",
    "kill-history",
    "kill-edge",
    "stop-edge",
    "freeze-persistence",
    "kill-rabbitmq",
    "close-connections",
    "memory-alarm",
    "kill-mongod",
    "full-queue",
    "repeat-facts",
}


def mix_of(faults: Iterable[Fault]) -> Fault:
    """A fault that injects some of these in a random order."""
    mixable = [fault for fault in faults if fault.name in MIXABLE]

    async def inject(context: Context) -> None:
        chosen = context.rng.sample(mixable, MIXED)
        context.notes.append(", ".join(fault.name for fault in chosen))
        for fault in chosen:
            context.symptoms += fault.symptoms
            await fault.inject(context)
            await asyncio.sleep(context.rng.uniform(0, PAUSE))

    return Fault("mix", "seven of these in a random order", inject, ())
