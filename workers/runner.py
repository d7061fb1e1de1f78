"""The one loop of every worker: take what is there, handle it as a batch, send, ack. The only place that acks.

What happens to a batch, by how its handler ends:

    returns             frames, then facts are published with confirms, then every message is acked
    StoreUnavailable    nothing is taken or acked; the batch is held and tried again, with back-off and jitter
    anything else       its items are handled one by one; one that keeps failing goes to the dead letters alone

A message that this process does not live to ack is delivered again to another worker, so handlers are idempotent.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from contracts.codec import Item, decode_bundle, encode_bundle
from contracts.commands import Command
from contracts.errors import Code, DecodeError, Refused, StoreUnavailable
from contracts.facts import AnyFact
from contracts.topology import Queue
from infra import metrics, tracing
from infra.backoff import backoff
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.declare import check_topology, declare_topology, needed_by
from infra.broker.link import Link
from infra.settings import WorkerSettings
from infra.tracing.tracer import Traced
from workers.effects import Effects
from workers.sending import Sender

log = logging.getLogger(__name__)

#: Decides and stores a batch, and returns what to send. Every write it made is durable when it returns.
Handler = Callable[[Sequence[Item]], Awaitable[Effects]]

#: Messages that the broker sends ahead; each may hold many commands or facts. All of them are redelivered, and
#: counted as delivered, when the process dies. Where one worker is filled first, others get what is beyond this.
PREFETCH = 200
#: Priorities to make one up from; enough that two workers have different ones.
PRIORITIES = 1 << 30
#: Seconds that facts wait for those of the next batches. An unread count may come this much later than its message:
#: one durable message, and one count, for many facts is what keeps them cheap.
FACTS_WAIT = 0.1
#: How often an item that fails alone is tried before it is put aside.
MAX_ATTEMPTS = 3


@dataclass
class Batch:
    """Messages as they were delivered, and the items that were in them, some of them followed."""

    deliveries: list[IncomingMessage]
    items: list[Item]
    traced: list[Traced] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """Whether none of it can be acked any more, so that all of it will come again."""
        return all(delivery.lost for delivery in self.deliveries)


class Runner:
    """Consumes one queue for one handler."""

    def __init__(self, queue: Queue, handler: Handler, *, sender: Sender, settings: WorkerSettings) -> None:
        self._queue = queue
        self._handler = handler
        self._sender = sender
        self._batch_size = settings.batch_size
        self._may_declare = settings.declare_topology
        self._priority = settings.worker_priority
        if self._priority is None and queue.fill_one_consumer_first:
            # Who of them is first does not matter.
            self._priority = random.randrange(PRIORITIES)  # noqa: S311
        self._received: asyncio.Queue[IncomingMessage | None] = asyncio.Queue()
        self._tag: str | None = None
        self._channel: Channel | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._unsettled: list[tuple[Batch, list[AnyFact]]] = []
        self.link = Link(settings, f"consume:{queue.name}", self._consume)
        self._held_because: str | None = None

    @property
    def not_ready_reason(self) -> str | None:
        """Why the batch in hand does not move on, or None."""
        return self._held_because or self._sender.not_ready_reason

    # --- Taking -------------------------------------------------------------------------------------------

    async def _consume(self, channel: Channel) -> None:
        await (declare_topology if self._may_declare else check_topology)(channel, needed_by(self._queue))
        self._channel = channel
        self._tag = await channel.consume(
            self._queue.name, self._received.put_nowait, prefetch=PREFETCH, priority=self._priority
        )

    async def run(self) -> None:
        """Handle batches until `stop` was called and the batch in hand is done."""
        while (batch := await self._take()) is not None:
            if batch.items:
                await self._process(batch)
            else:
                # Nothing but what could not be read; batches before it may still be under way.
                for delivery in batch.deliveries:
                    await delivery.ack()
        for last in (self._finishing, self._settling):
            if last is not None:
                await last

    async def stop(self) -> None:
        """Take no more; `run` ends after the batch in hand. What was only received is delivered to others."""
        if self._channel is not None and self._tag is not None:
            try:
                await self._channel.cancel(self._tag)
            except Exception as error:
                log.info("The consumer of %s did not cancel cleanly: %s", self._queue.name, error)
        self._received.put_nowait(None)

    async def _take(self) -> Batch | None:
        """Wait for one message, then add what has arrived meanwhile; no timer runs while the queue is idle."""
        first = await self._received.get()
        if first is None:
            return None
        batch = Batch([], [])
        await self._add(batch, first)
        while len(batch.items) < self._batch_size and not self._received.empty():
            delivery = self._received.get_nowait()
            if delivery is None:
                # We were told to stop: after this batch.
                self._received.put_nowait(None)
                break
            await self._add(batch, delivery)
        if again := sum(delivery.redelivered for delivery in batch.deliveries):
            metrics.REDELIVERED.labels(self._queue.name).inc(again)
            log.info("%d messages of %s came again: whoever had them is gone.", again, self._queue.name)
        return batch

    async def _add(self, batch: Batch, delivery: IncomingMessage) -> None:
        # What came over a channel that is gone comes again.
        if not delivery.lost:
            items = await self._decode(delivery)
            batch.deliveries.append(delivery)
            batch.items.extend(items)
            if delivery.headers:
                batch.traced.extend(tracing.current.extract(delivery.headers, items))

    async def _decode(self, delivery: IncomingMessage) -> list[Item]:
        try:
            return decode_bundle(delivery.body)
        except DecodeError as error:
            log.error("A message in %s cannot be decoded: %s", self._queue.name, error)
            await self._sender.bury(self._queue.name, error.body, f"undecodable: {error}", attempts=1)
            return []

    # --- Handling -----------------------------------------------------------------------------------------

    async def _process(self, batch: Batch) -> None:
        name = self._queue.name
        metrics.BATCH_ITEMS.labels(name).observe(len(batch.items))
        first = batch.items[0]
        if isinstance(first, Command):
            metrics.QUEUE_SECONDS.labels(name).observe(max(0.0, time.time() - first.at / 1000))
        started = time.perf_counter()
        with tracing.current.batch_span(name, batch.traced, len(batch.items)):
            effects = await self._handle(batch)
        metrics.BATCH_SECONDS.labels(name, "handle").observe(time.perf_counter() - started)
        # The next batch is taken while this one's frames leave; batches still leave in order.
        if self._finishing is not None:
            await self._finishing
        self._finishing = asyncio.create_task(self._finish(batch, effects))

    async def _handle(self, batch: Batch) -> Effects:
        try:
            effects = await self._held(batch, batch.items)
        except Exception:
            log.exception("A batch of %d in %s failed; trying its items alone.", len(batch.items), self._queue.name)
            effects = Effects()
            for item in batch.items:
                effects.add(await self._handle_alone(batch, item))
        for item in batch.items:
            metrics.ITEMS.labels(item.name, "handled").inc()
        return effects

    async def _handle_alone(self, batch: Batch, item: Item) -> Effects:
        failure = ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._held(batch, [item])
            except Exception as error:
                log.exception("%s failed alone, attempt %d of %d.", _label(item), attempt, MAX_ATTEMPTS)
                failure = f"{type(error).__name__}: {error}"
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(backoff(attempt))
        await self._sender.bury(self._queue.name, encode_bundle([item]), failure, attempts=MAX_ATTEMPTS)
        effects = Effects()
        if isinstance(item, Command):
            refusal = Refused(Code.INTERNAL, "Something went wrong on our side.", details=[{"id": _label(item)}])
            effects.refuse(item, refusal)
        return effects

    async def _held(self, batch: Batch, items: Sequence[Item]) -> Effects:
        """Call the handler until the store answers, or until the broker has taken the batch back."""
        attempt = 0
        while True:
            try:
                effects = await self._handler(items)
                self._held_because = None
                return effects
            except StoreUnavailable as error:
                attempt += 1
                self._held_because = f"the store is away: {error}"
                metrics.STORE_FAILURES.labels(self._queue.name).inc()
                log.warning("The store is away; holding %d items of %s: %s", len(items), self._queue.name, error)
            if batch.lost:
                self._held_because = None
                return Effects()
            await asyncio.sleep(backoff(attempt))

    # --- Settling ------------------------------------------------------------------------------------------

    async def _finish(self, batch: Batch, effects: Effects) -> None:
        """Send what people wait for; facts and acks follow, those of several batches together."""
        started = time.perf_counter()
        if await self._sender.send_frames(effects, batch.traced, given_up=lambda: batch.lost):
            self._unsettled.append((batch, effects.facts))
            if self._settling is None or self._settling.done():
                self._settling = asyncio.create_task(self._settle_all())
        metrics.BATCH_SECONDS.labels(self._queue.name, "send").observe(time.perf_counter() - started)

    async def _settle_all(self) -> None:
        """Publish facts, then ack what they came from; nobody waits for either."""
        while self._unsettled:
            if any(facts for _, facts in self._unsettled):
                await asyncio.sleep(FACTS_WAIT)
            unsettled, self._unsettled = self._unsettled, []
            batches = [batch for batch, _ in unsettled]
            facts = [fact for _, of_batch in unsettled for fact in of_batch]
            traced = [each for batch in batches for each in batch.traced]
            if await self._sender.publish_facts(facts, traced, given_up=_lost(batches)):
                await self._settle(batches)

    async def _settle(self, batches: Sequence[Batch]) -> None:
        """Ack batches, which leave in the order in which they came."""
        here = [delivery for batch in batches for delivery in batch.deliveries if not delivery.lost]
        if here:
            await here[-1].ack(and_earlier=True)


def _lost(batches: Sequence[Batch]) -> Callable[[], bool]:
    return lambda: all(batch.lost for batch in batches)


def _label(item: Item) -> str:
    return f"{item.edge_id}/{item.request}" if isinstance(item, Command) else item.name
