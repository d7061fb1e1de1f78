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

from contracts.codec import Item, decode_bundle, encode_bundle, encode_frame
from contracts.commands import Command, EdgeLost
from contracts.errors import (
    BrokerUnavailable,
    Code,
    DecodeError,
    PublishUnknown,
    Refused,
    StoreUnavailable,
    Unroutable,
)
from contracts.facts import AnyFact
from contracts.topology import COMMANDS, DEAD, FACTS, FRAMES, Queue
from contracts.values import moment_of, rfc3339
from infra import metrics, traces
from infra.backoff import backoff
from infra.broker import Channel, Delivery, Link, Publisher
from infra.declare import check_topology, declare_topology, needed_by
from infra.settings import WorkerSettings
from infra.traces import Headers, Traced
from workers.outbox import Outbox
from workers.routing import RoutedFrame, Router

log = logging.getLogger(__name__)

#: Decides and stores a batch, and returns what to send. Every write it made is durable when it returns.
Handler = Callable[[Sequence[Item]], Awaitable[Outbox]]

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
#: Seconds before the same edge is reported as lost again.
LOST_AGAIN = 5.0


@dataclass
class Batch:
    """Messages as they were delivered, and the items that were in them, some of them followed."""

    deliveries: list[Delivery]
    items: list[Item]
    traced: list[Traced] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """Whether none of it can be acked any more, so that all of it will come again."""
        return all(delivery.lost for delivery in self.deliveries)


class Runner:
    """Consumes one queue for one handler."""

    def __init__(
        self, queue: Queue, handler: Handler, *, publisher: Publisher, router: Router, settings: WorkerSettings
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._publisher = publisher
        self._router = router
        self._batch_size = settings.batch_size
        self._may_declare = settings.declare_topology
        self._priority = settings.worker_priority
        if self._priority is None and queue.one_filled_first:
            # Who of them is first does not matter.
            self._priority = random.randrange(PRIORITIES)  # noqa: S311
        self._received: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._tag: str | None = None
        self._channel: Channel | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._unsettled: list[tuple[Batch, list[AnyFact]]] = []
        self._reported: dict[tuple[str, int], float] = {}
        self.link = Link(settings, f"consume:{queue.name}", self._consume)
        #: Why the last batch is being held, or None.
        self.trouble: str | None = None

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

    async def _add(self, batch: Batch, delivery: Delivery) -> None:
        # What came over a channel that is gone comes again.
        if not delivery.lost:
            items = await self._decode(delivery)
            batch.deliveries.append(delivery)
            batch.items.extend(items)
            if delivery.headers:
                batch.traced.extend(traces.current.carried(delivery.headers, items))

    async def _decode(self, delivery: Delivery) -> list[Item]:
        try:
            return decode_bundle(delivery.body)
        except DecodeError as error:
            log.error("A message in %s cannot be decoded: %s", self._queue.name, error)
            await self._bury(error.body, f"undecodable: {error}", attempts=1)
            return []

    # --- Handling -----------------------------------------------------------------------------------------

    async def _process(self, batch: Batch) -> None:
        name = self._queue.name
        metrics.BATCH_ITEMS.labels(name).observe(len(batch.items))
        first = batch.items[0]
        if isinstance(first, Command):
            metrics.QUEUE_SECONDS.labels(name).observe(max(0.0, time.time() - first.at / 1000))
        started = time.perf_counter()
        with traces.current.handling(name, batch.traced, len(batch.items)):
            outbox = await self._handle(batch)
        metrics.BATCH_SECONDS.labels(name, "handle").observe(time.perf_counter() - started)
        # The next batch is taken while this one's frames leave; batches still leave in order.
        if self._finishing is not None:
            await self._finishing
        self._finishing = asyncio.create_task(self._finish(batch, outbox))

    async def _handle(self, batch: Batch) -> Outbox:
        try:
            outbox = await self._held(batch, batch.items)
        except Exception:
            log.exception("A batch of %d in %s failed; trying its items alone.", len(batch.items), self._queue.name)
            outbox = Outbox()
            for item in batch.items:
                outbox.add(await self._handle_alone(batch, item))
        for item in batch.items:
            metrics.ITEMS.labels(item.name, "handled").inc()
        return outbox

    async def _handle_alone(self, batch: Batch, item: Item) -> Outbox:
        failure = ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._held(batch, [item])
            except Exception as error:
                log.exception("%s failed alone, attempt %d of %d.", _label(item), attempt, MAX_ATTEMPTS)
                failure = f"{type(error).__name__}: {error}"
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(backoff(attempt))
        await self._bury(encode_bundle([item]), failure, attempts=MAX_ATTEMPTS)
        outbox = Outbox()
        if isinstance(item, Command):
            refusal = Refused(Code.INTERNAL, "Something went wrong on our side.", details=[{"id": _label(item)}])
            outbox.refuse(item, refusal)
        return outbox

    async def _held(self, batch: Batch, items: Sequence[Item]) -> Outbox:
        """Call the handler until the store answers, or until the broker has taken the batch back."""
        attempt = 0
        while True:
            try:
                outbox = await self._handler(items)
                self.trouble = None
                return outbox
            except StoreUnavailable as error:
                attempt += 1
                self.trouble = f"the store is away: {error}"
                metrics.STORE_FAILURES.labels(self._queue.name).inc()
                log.warning("The store is away; holding %d items of %s: %s", len(items), self._queue.name, error)
            if batch.lost:
                self.trouble = None
                return Outbox()
            await asyncio.sleep(backoff(attempt))

    # --- Sending ------------------------------------------------------------------------------------------

    async def _finish(self, batch: Batch, outbox: Outbox) -> None:
        """Send what people wait for; facts and acks follow, those of several batches together."""
        started = time.perf_counter()
        if await self.send_frames(outbox, batch.traced, given_up=lambda: batch.lost):
            self._unsettled.append((batch, outbox.facts))
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
            if await self._publish_facts(facts, traced, given_up=_lost(batches)):
                await self._settle(batches)

    async def _publish_facts(
        self, facts: Sequence[AnyFact], traced: Sequence[Traced], given_up: Callable[[], bool]
    ) -> bool:
        by_name: dict[str, list[AnyFact]] = {}
        for fact in facts:
            by_name.setdefault(fact.name, []).append(fact)
        publishes = [
            self._persist_publish(
                FACTS, name, encode_bundle(same), given_up, headers=traces.current.of_facts(traced, same)
            )
            for name, same in by_name.items()
        ]
        return all(await asyncio.gather(*publishes))

    async def _settle(self, batches: Sequence[Batch]) -> None:
        """Ack batches, which leave in the order in which they came."""
        here = [delivery for batch in batches for delivery in batch.deliveries if not delivery.lost]
        if here:
            await here[-1].ack(and_earlier=True)

    async def send_frames(
        self, outbox: Outbox, traced: Sequence[Traced] = (), *, given_up: Callable[[], bool] = lambda: False
    ) -> bool:
        """Publish frames and wait for every confirm; trouble is waited out, unless `given_up`."""
        if not outbox.replies and not outbox.deliveries:
            return True
        routed = await self._routed(outbox, given_up)
        return all(await asyncio.gather(*(self._send_frame(frame, traced, given_up) for frame in routed)))

    async def _routed(self, outbox: Outbox, given_up: Callable[[], bool]) -> list[RoutedFrame]:
        attempt = 0
        while True:
            try:
                frames = await self._router.frames(outbox)
                self.trouble = None
                return frames
            except StoreUnavailable as error:
                attempt += 1
                self.trouble = f"the store is away: {error}"
                if given_up():
                    self.trouble = None
                    return []
                await asyncio.sleep(backoff(attempt))

    async def _send_frame(self, routed: RoutedFrame, traced: Sequence[Traced], given_up: Callable[[], bool]) -> bool:
        headers = traces.current.of_frame(traced, routed.edge_id, routed.frame)
        try:
            return await self._persist_publish(
                FRAMES, routed.edge_id, encode_frame(routed.frame), given_up, persistent=False, headers=headers
            )
        except Unroutable:
            metrics.UNROUTABLE.inc()
            await self._report_lost(routed)
            return True

    async def _report_lost(self, routed: RoutedFrame) -> None:
        """Tell the presence workers that nobody listens for an edge any more; they drop its sessions."""
        if routed.epoch is None:
            return
        key, now = (routed.edge_id, routed.epoch), time.monotonic()
        if now - self._reported.get(key, -LOST_AGAIN) < LOST_AGAIN:
            return
        self._reported = {known: at for known, at in self._reported.items() if now - at < LOST_AGAIN}
        self._reported[key] = now
        log.warning("Edge %s has no queue: its sessions up to epoch %d are lost.", *key)
        command = EdgeLost(edge_id=routed.edge_id, epoch=routed.epoch, request=0, at=int(time.time() * 1000))
        try:
            await self._publisher.publish(COMMANDS, command.name, encode_bundle([command]))
        except (BrokerUnavailable, PublishUnknown) as error:
            log.warning("The loss of edge %s could not be reported: %s", routed.edge_id, error)

    async def _persist_publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        given_up: Callable[[], bool],
        *,
        persistent: bool = True,
        headers: Headers | None = None,
    ) -> bool:
        """Publish until it is confirmed; a message that comes twice does no harm. False when given up."""
        attempt = 0
        while True:
            try:
                await self._publisher.publish(exchange, key, body, persistent=persistent, headers=headers)
                return True
            except (BrokerUnavailable, PublishUnknown) as error:
                attempt += 1
                log.warning("%s/%s is not confirmed (%s); trying again.", exchange, key, error)
            if given_up():
                return False
            await asyncio.sleep(backoff(attempt))

    async def _bury(self, body: bytes, reason: str, *, attempts: int) -> None:
        """Put one message among the dead letters of this queue, with why, since when, and how often it was tried."""
        metrics.DEAD_LETTERS.labels(self._queue.name).inc()
        headers = {
            "x-warren-queue": self._queue.name,
            "x-warren-reason": reason[:1_000],
            "x-warren-first-failure": rfc3339(moment_of(int(time.time() * 1000))),
            "x-warren-attempts": attempts,
        }
        attempt = 0
        while True:
            try:
                await self._publisher.publish(DEAD, self._queue.name, body, headers=headers)
                return
            except (BrokerUnavailable, PublishUnknown, Unroutable) as error:
                attempt += 1
                log.warning("A dead letter of %s is not confirmed (%s); trying again.", self._queue.name, error)
            await asyncio.sleep(backoff(attempt))


def _lost(batches: Sequence[Batch]) -> Callable[[], bool]:
    return lambda: all(batch.lost for batch in batches)


def _label(item: Item) -> str:
    return f"{item.edge_id}/{item.request}" if isinstance(item, Command) else item.name
