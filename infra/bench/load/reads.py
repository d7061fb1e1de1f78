"""Reads lists of conversations and pages of history at a fixed rate while messages are sent."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.bench.load.figures import Quantiles, quantiles
from infra.bench.load.light_client import CallFailed, Conversation

#: Items on a page, of either kind.
PAGE = 20


@dataclass
class Reader:
    """Reads lists of conversations and pages of history in turn, as random clients, and notes how long each took."""

    #: Reads a second.
    rate: float
    #: Seconds that each read took.
    lists: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    failed: int = 0

    async def read(self, conversations: Sequence[Conversation]) -> None:
        """Read at even intervals, whether or not earlier reads were answered, until cancelled."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if (ahead := started + number / self.rate - time.monotonic()) > 0:
                    await asyncio.sleep(ahead)
                group.create_task(self._read_once(random.choice(conversations), number % 2 == 0))

    async def _read_once(self, conversation: Conversation, listing: bool) -> None:
        client, started = random.choice(conversation.clients), time.monotonic()
        try:
            if listing:
                await client.call("list_conversations", {"limit": PAGE})
            else:
                await client.call("list_messages", {"conversation_id": conversation.id, "limit": PAGE})
        except (CallFailed, TimeoutError):
            self.failed += 1
        else:
            (self.lists if listing else self.pages).append(time.monotonic() - started)

    def figures(self) -> tuple[Quantiles, Quantiles]:
        """How long lists, and pages of history, took."""
        return quantiles(self.lists), quantiles(self.pages)
