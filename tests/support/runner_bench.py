"""A runner of the persistence queue on a real broker, and handlers that note what they are given."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from contracts.codec import Item, encode_bundle
from contracts.commands import SendMessage
from contracts.facts import AnyFact
from contracts.topology import COMMANDS, PERSISTENCE
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.declare import declare_topology
from infra.broker.link import Link
from infra.broker.publisher import Publisher
from infra.settings import WorkerSettings
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from workers.effects import Effects
from workers.publishing import EffectsPublisher
from workers.routing import Router
from workers.runner import Divide, Runner, undivided

Handle = Callable[[Sequence[Item]], Awaitable[Effects]]


class Recorder:
    """A handler that notes its batches and does as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.before: Callable[[Sequence[Item]], Awaitable[None]] | None = None
        self.facts: list[AnyFact] = []

    async def __call__(self, items: Sequence[Item]) -> Effects:
        if self.before is not None:
            await self.before(items)
        self.batches.append([name_of(item) for item in items])
        return Effects(facts=list(self.facts))

    @property
    def handled(self) -> list[str]:
        """Everything that was handled, in order."""
        return [name for batch in self.batches for name in batch]


def name_of(item: Item) -> str:
    """The id that a message's sender gave it."""
    assert isinstance(item, SendMessage)
    return item.payload.client_message_id


class Bench:
    """A broker with our topology, a publisher, and whatever queues a test listens to."""

    def __init__(self, settings: WorkerSettings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.publisher = Publisher(settings, "bench", declare_topology)
        self._tasks = [asyncio.create_task(self.publisher.link.run())]

    async def publish(self, *items: Item) -> None:
        """Publish one bundle, as an edge does."""
        await self.publisher.publish(COMMANDS, items[0].name, encode_bundle(items))

    async def listen(
        self, queue: str, setup: Callable[[Channel], Awaitable[None]] | None = None
    ) -> list[IncomingMessage]:
        """Collect what comes to a queue, without acks."""
        found: list[IncomingMessage] = []

        async def consume(channel: Channel) -> None:
            if setup is not None:
                await setup(channel)
            await channel.consume(queue, found.append, prefetch=None)

        link = Link(self.settings, "listen:bench", consume)
        self._tasks.append(asyncio.create_task(link.run()))
        await asyncio.wait_for(link.up.wait(), 10)
        return found

    @asynccontextmanager
    async def runner(
        self,
        handler: Handle,
        *,
        check_store: Callable[[], Awaitable[None]] | None = None,
        divide: Divide = undivided,
    ) -> AsyncIterator[Runner]:
        """A runner of the persistence queue; leaving the block is a crash: nothing is finished or acked."""
        self.effects_publisher = EffectsPublisher(self.publisher, Router(SessionDirectory(self.store), "bench"))
        runner = Runner(
            PERSISTENCE,
            handler,
            publisher=self.effects_publisher,
            settings=self.settings,
            check_store=check_store or self.store.check_writes,
            divide=divide,
        )
        tasks = [asyncio.create_task(runner.link.run()), asyncio.create_task(runner.run())]
        await asyncio.wait_for(runner.link.up.wait(), 10)
        yield runner
        for task in reversed(tasks):
            task.cancel()
        await asyncio.wait(tasks, timeout=10)

    async def close(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=10)
