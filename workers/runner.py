"""The consume loop of every worker: receive, handle as a batch, publish, ack. No other module acks in a worker.

What happens to a batch depends on how its handler ends:

    returns             publishes frames, then facts, with confirms; then acks every message of the batch
    StoreUnavailable    keeps the batch and calls the handler again, with back-off and jitter; takes and acks nothing.
                        After HOLD_LIMIT, requeues everything, because another worker may reach the store, and
                        consumes again once the store takes writes
    any other error     handles the items one by one; an item that keeps failing goes to the dead letters alone

When the process dies before the ack, the broker redelivers the batch to another worker. So handlers are idempotent.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from contracts.codec import Item, decode_bundle, encode_bundle
from contracts.commands import Command
from contracts.errors import DecodeError, StoreUnavailable, internal
from contracts.facts import AnyFact
from contracts.topology import DELIVERY_LIMIT, Queue
from infra import metrics, tracing
from infra.backoff import backoff
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.declare import check_topology, declare_topology, queues_needed_by
from infra.broker.link import Link
from infra.settings import WorkerSettings
from infra.tracing.tracer import Traced
from workers.effects import Effects
from workers.publishing import Abandoned, EffectsPublisher

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Handles a batch and returns what to publish. Every write that it made is durable when it returns.
Handler = Callable[[Sequence[Item]], Awaitable[Effects]]
#: Divides a batch into parts that are handled and published one after the other, so that the memory of a batch whose
#: effects are large is that of two parts. The batch is acked as one.
Divide = Callable[[Sequence[Item]], Sequence[Sequence[Item]]]

#: Unacked messages that the broker sends to one worker; each holds many commands or facts. When the process dies, all
#: of them are redelivered, and count as delivered once more. Of workers with different priorities, the next one gets
#: only what exceeds this.
PREFETCH = 200
#: Consumer priorities to choose from at random: enough that two workers hardly ever get the same.
PRIORITIES = 1 << 30
#: Seconds that facts wait for those of the next batches. An unread count may follow its message by this much; in
#: return, many facts share one durable message and one count.
FACTS_WAIT = 0.1
#: Seconds that a batch is held while the store is away before it is requeued. An election is shorter.
HOLD_LIMIT = 2.5
#: Deliveries of a message after which it is not requeued any more. The broker dead-letters a message after
#: `DELIVERY_LIMIT` deliveries, and repeated outages of the store must not lead to that.
REQUEUE_LIMIT = DELIVERY_LIMIT // 2
#: Seconds for which messages wait in a worker that keeps up, at most.
BEHIND_LIMIT = 2.0
#: Seconds between two attempts to settle batches after an unexpected error.
SETTLE_RETRY = 1.0
#: Attempts of an item that is handled alone before it is dead-lettered.
MAX_ATTEMPTS = 3


async def _nothing() -> None:
    return None


def undivided(items: Sequence[Item]) -> Sequence[Sequence[Item]]:
    """One part."""
    return [items]


@dataclass
class Batch:
    """Messages as they were delivered, their items, and those of the items that are traced."""

    messages: list[IncomingMessage]
    items: list[Item]
    traced: list[Traced] = field(default_factory=list)

    @property
    def will_be_redelivered(self) -> bool:
        """Whether none of it can be acked any more, so that the broker redelivers all of it."""
        return all(message.will_be_redelivered for message in self.messages)


class Runner:
    """Consumes one queue for one handler."""

    def __init__(
        self,
        queue: Queue,
        handler: Handler,
        *,
        publisher: EffectsPublisher,
        settings: WorkerSettings,
        check_store: Callable[[], Awaitable[None]] = _nothing,
        divide: Divide = undivided,
    ) -> None:
        """`check_store` raises StoreUnavailable unless the store takes writes; it is called after a requeue."""
        self._queue = queue
        self._handler = handler
        self._publisher = publisher
        self._check_store = check_store
        self._divide = divide
        self._batch_size = settings.batch_size
        self._may_declare = settings.declare_topology
        self._priority = settings.worker_priority
        if self._priority is None and queue.fill_one_consumer_first:
            # Any order of the workers will do.
            self._priority = random.randrange(PRIORITIES)  # noqa: S311
        #: None ends the loop.
        self._received: asyncio.Queue[IncomingMessage | None] = asyncio.Queue()
        #: Since when a received message may be unhandled, at the latest; None while the worker waits for one.
        self._unhandled_since: float | None = None
        self._consumer_tag: str | None = None
        self._channel: Channel | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._unsettled: list[tuple[Batch, list[AnyFact]]] = []
        self.link = Link(settings, f"consume:{queue.name}", self._consume)
        self._store_reason: str | None = None
        self._requeued = False

    @property
    def not_ready_reason(self) -> str | None:
        """Why the current batch waits, or None."""
        return self._store_reason

    @property
    def is_behind(self) -> bool:
        """Whether messages have waited in this worker for more than `BEHIND_LIMIT`. More may wait at the broker."""
        return self._unhandled_since is not None and time.monotonic() - self._unhandled_since > BEHIND_LIMIT

    # --- Receiving ----------------------------------------------------------------------------------------

    async def _consume(self, channel: Channel) -> None:
        await (declare_topology if self._may_declare else check_topology)(channel, queues_needed_by(self._queue))
        if self._requeued:
            await self._wait_for_store()
        self._channel = channel
        self._consumer_tag = await channel.consume(
            self._queue.name, self._received.put_nowait, prefetch=PREFETCH, priority=self._priority
        )

    async def run(self) -> None:
        """Handle batches until `stop` was called and the current batch is published and acked."""
        while (batch := await self._next_batch()) is not None:
            if batch.items:
                await self._process(batch)
            else:
                # No message could be decoded. They are acked one by one: earlier batches may not be published yet.
                for message in batch.messages:
                    await message.ack()
        for task in (self._publishing, self._settling):
            if task is not None:
                await task

    async def stop(self) -> None:
        """Cancel the consumer; `run` ends after the current batch. Unhandled messages go to other workers."""
        if self._channel is not None and self._consumer_tag is not None:
            try:
                await self._channel.cancel(self._consumer_tag)
            except Exception as error:
                log.info("The consumer of %s was not cancelled cleanly: %s", self._queue.name, error)
        self._received.put_nowait(None)

    async def _next_batch(self) -> Batch | None:
        """Wait for one message, then add what else has arrived. No timer runs while the queue is idle."""
        if self._received.empty():
            self._unhandled_since = None
        first = await self._received.get()
        if first is None:
            return None
        if self._unhandled_since is None:
            self._unhandled_since = time.monotonic()
        batch = Batch([], [])
        await self._add(batch, first)
        while len(batch.items) < self._batch_size and not self._received.empty():
            message = self._received.get_nowait()
            if message is None:
                # Ends the loop after this batch.
                self._received.put_nowait(None)
                break
            await self._add(batch, message)
        if self._received.empty():
            self._unhandled_since = time.monotonic()
        if redelivered := sum(message.redelivered for message in batch.messages):
            metrics.REDELIVERED.labels(self._queue.name).inc(redelivered)
            log.info("%d messages of %s were redelivered: their first consumer is gone.", redelivered, self._queue.name)
        return batch

    async def _add(self, batch: Batch, message: IncomingMessage) -> None:
        if message.will_be_redelivered:
            return
        items = await self._decode(message)
        batch.messages.append(message)
        batch.items.extend(items)
        if message.amqp_headers:
            batch.traced.extend(tracing.current.extract(message.amqp_headers, items))

    async def _decode(self, message: IncomingMessage) -> list[Item]:
        try:
            return decode_bundle(message.body)
        except DecodeError as error:
            log.error("A message of %s cannot be decoded and goes to the dead letters: %s", self._queue.name, error)
            await self._publisher.dead_letter(self._queue.name, error.body, f"undecodable: {error}", attempts=1)
            return []

    # --- Handling -----------------------------------------------------------------------------------------

    async def _process(self, batch: Batch) -> None:
        name = self._queue.name
        metrics.BATCH_ITEMS.labels(name).observe(len(batch.items))
        first = batch.items[0]
        if isinstance(first, Command):
            metrics.QUEUE_SECONDS.labels(name).observe(max(0.0, time.time() - first.at / 1000))
        parts = self._divide(batch.items)
        facts: list[AnyFact] = []
        for number, items in enumerate(parts, 1):
            started = time.perf_counter()
            with tracing.current.batch_span(name, batch.traced, len(items)):
                effects = await self._handle(batch, items)
            metrics.BATCH_SECONDS.labels(name, "handle").observe(time.perf_counter() - started)
            if batch.will_be_redelivered:
                return
            # The next part is handled while the frames of this one are published; parts still leave in order.
            if self._publishing is not None:
                await self._publishing
            facts += effects.facts
            is_last = number == len(parts)
            self._publishing = asyncio.create_task(self._publish_frames(batch, effects, facts if is_last else None))

    async def _handle(self, batch: Batch, items: Sequence[Item]) -> Effects:
        try:
            effects = await self._call_handler(batch, items)
        except Exception:
            log.exception("A batch of %d items of %s failed; handling them one by one.", len(items), self._queue.name)
            effects = Effects()
            for item in items:
                effects.extend(await self._handle_alone(batch, item))
        for item in items:
            metrics.ITEMS.labels(item.name, "handled").inc()
        return effects

    async def _handle_alone(self, batch: Batch, item: Item) -> Effects:
        reason = ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._call_handler(batch, [item])
            except Exception as error:
                log.exception("%s failed alone, attempt %d of %d.", _label(item), attempt, MAX_ATTEMPTS)
                reason = f"{type(error).__name__}: {error}"
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(backoff(attempt))
        await self._publisher.dead_letter(self._queue.name, encode_bundle([item]), reason, attempts=MAX_ATTEMPTS)
        effects = Effects()
        if isinstance(item, Command):
            effects.refuse(item, internal(_label(item)))
        return effects

    async def _call_handler(self, batch: Batch, items: Sequence[Item]) -> Effects:
        """Call the handler until the store answers. A batch that will be redelivered has no effects."""
        return await self._retry_until_store_answers(batch, partial(self._handler, items)) or Effects()

    async def _retry_until_store_answers(self, batch: Batch, work: Callable[[], Awaitable[T]]) -> T | None:
        """Call `work` until it does not raise StoreUnavailable. Returns None when the batch will be redelivered."""
        attempt, started = 0, time.monotonic()
        while True:
            try:
                result = await work()
                self._store_reason = None
                return result
            except StoreUnavailable as error:
                attempt += 1
                self._store_reason = f"the store is away: {error}"
                metrics.STORE_FAILURES.labels(self._queue.name).inc()
                log.warning(
                    "The store is away; holding %d items of %s and trying again: %s",
                    len(batch.items),
                    self._queue.name,
                    error,
                )
            if time.monotonic() - started > HOLD_LIMIT and self._may_requeue(batch):
                await self._requeue()
            if batch.will_be_redelivered:
                return None
            await asyncio.sleep(backoff(attempt))

    def _may_requeue(self, batch: Batch) -> bool:
        return all(message.deliveries < REQUEUE_LIMIT for message in batch.messages)

    async def _requeue(self) -> None:
        """Close the channel, so that the broker requeues everything unacked for a worker that reaches the store.

        The link then reconnects, and `_consume` waits until the store takes writes.
        """
        if self._channel is None or self._channel.is_closed:
            return
        log.warning(
            "The store was away for %.1f s; requeueing the messages of %s for other workers.",
            HOLD_LIMIT,
            self._queue.name,
        )
        metrics.REQUEUED.labels(self._queue.name).inc()
        self._requeued = True
        await self._channel.close()

    async def _wait_for_store(self) -> None:
        attempt = 0
        while True:
            try:
                await self._check_store()
            except StoreUnavailable as error:
                attempt += 1
                self._store_reason = f"the store is away: {error}"
                await asyncio.sleep(backoff(attempt))
            else:
                self._requeued, self._store_reason = False, None
                log.info("The store takes writes again; consuming %s.", self._queue.name)
                return

    # --- Publishing and settling --------------------------------------------------------------------------

    async def _publish_frames(self, batch: Batch, effects: Effects, facts: list[AnyFact] | None) -> None:
        """Publish the frames, which clients wait for. Facts and acks follow, those of several batches together.

        `facts` are those of the whole batch, or None when another part of it follows.
        """
        started = time.perf_counter()
        publish = partial(
            self._publisher.publish_frames, effects, batch.traced, abandoned=lambda: batch.will_be_redelivered
        )
        if await self._retry_until_store_answers(batch, publish) and facts is not None:
            self._unsettled.append((batch, facts))
            if self._settling is None or self._settling.done():
                self._settling = asyncio.create_task(self._settle_all())
        metrics.BATCH_SECONDS.labels(self._queue.name, "send").observe(time.perf_counter() - started)

    async def _settle_all(self) -> None:
        """Publish facts, then ack the messages that they come from."""
        while self._unsettled:
            if any(facts for _, facts in self._unsettled):
                await asyncio.sleep(FACTS_WAIT)
            unsettled, self._unsettled = self._unsettled, []
            batches = [batch for batch, _ in unsettled]
            facts = [fact for _, of_batch in unsettled for fact in of_batch]
            traced = [each for batch in batches for each in batch.traced]
            try:
                if await self._publisher.publish_facts(facts, traced, _all_will_be_redelivered(batches)):
                    await self._ack(batches)
            except Exception:
                # A later ack covers earlier messages, so none is sent before these batches are settled.
                log.exception(
                    "The facts of %d batches of %s could not be published; trying again.",
                    len(batches),
                    self._queue.name,
                )
                self._unsettled = unsettled + self._unsettled
                await asyncio.sleep(SETTLE_RETRY)

    async def _ack(self, batches: Sequence[Batch]) -> None:
        """Ack these batches and every earlier message: batches are settled in the order in which they came."""
        open_messages = [message for batch in batches for message in batch.messages if not message.will_be_redelivered]
        if open_messages:
            await open_messages[-1].ack(multiple=True)


def _all_will_be_redelivered(batches: Sequence[Batch]) -> Abandoned:
    return lambda: all(batch.will_be_redelivered for batch in batches)


def _label(item: Item) -> str:
    return f"{item.edge_id}/{item.request}" if isinstance(item, Command) else item.name
