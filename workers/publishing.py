"""Publishes what a worker's batches lead to: frames to edges, facts, and dead letters. Every publish is confirmed.

A publish without a confirm is repeated, with back-off and jitter. Frames and facts are repeated until the broker takes
their batch back, because it then redelivers the batch to another worker. Dead letters are repeated without an end. All
consumers are idempotent, so a message that is published twice does no harm.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from contracts.codec import encode_bundle, encode_frame
from contracts.errors import BrokerUnavailable, PublishUnknown, Unroutable
from contracts.facts import AnyFact
from contracts.reports import SessionsDrop
from contracts.topology import COMMANDS, DEAD, FACTS, FRAMES
from contracts.values import rfc3339, utc_datetime
from infra import metrics, tracing
from infra.backoff import backoff
from infra.broker.publisher import Publisher
from infra.clock import now_ms
from infra.tracing.tracer import AmqpHeaders, Traced
from workers.effects import Effects
from workers.routing import RoutedFrame, Router

log = logging.getLogger(__name__)

#: Seconds between two reports that the same edge is lost.
REPORT_INTERVAL = 5.0
#: Seconds between two checks of which edges get an empty frame.
TRAILING_INTERVAL = 1.0
#: Characters of a dead letter's reason.
MAX_REASON = 1_000

#: Whether a publish is no longer needed, because the broker will redeliver the batch that it comes from.
Abandoned = Callable[[], bool]


def _never() -> bool:
    return False


class EffectsPublisher:
    """Publishes the effects of one runner's batches, and its dead letters."""

    def __init__(self, publisher: Publisher, router: Router) -> None:
        self._publisher = publisher
        self._router = router
        self._reported_at: dict[tuple[str, int], float] = {}
        #: Held from the numbering of frames until they are confirmed, so that no later one overtakes them.
        self._frames_lock = asyncio.Lock()

    # --- Frames -------------------------------------------------------------------------------------------

    async def publish_frames(
        self, effects: Effects, traced: Sequence[Traced] = (), *, abandoned: Abandoned = _never
    ) -> bool:
        """Publish the replies and pushes as frames and wait for every confirm; False when abandoned.

        Raises StoreUnavailable when the recipients' edges cannot be looked up, or when what follows from sending fails;
        the caller then sends everything again.
        """
        if effects.replies or effects.pushes:
            async with self._frames_lock:
                routed = await self._router.frames(effects)
                if not all(await asyncio.gather(*(self._send_frame(frame, traced, abandoned) for frame in routed))):
                    return False
        for follow_up in effects.after_frames:
            await follow_up()
        return True

    async def run(self) -> None:
        """Send empty frames to edges that get no other frame, so that they notice when the last one was lost."""
        while True:
            await asyncio.sleep(TRAILING_INTERVAL)
            async with self._frames_lock:
                await asyncio.gather(*(self._send_trailing_frame(frame) for frame in self._router.trailing_frames()))

    async def _send_trailing_frame(self, routed: RoutedFrame) -> None:
        try:
            # Repeated without an end: an edge that does not get this number would report a gap.
            await self._publish_until_confirmed(
                FRAMES, routed.edge_id, encode_frame(routed.frame), _never, persistent=False
            )
        except Unroutable:
            # The edge has stopped, or connects again and then tells its clients to take a snapshot.
            self._router.end_trailing(routed.edge_id)
        except Exception:
            self._router.end_trailing(routed.edge_id)
            log.exception("An empty frame for edge %.100s cannot be published.", routed.edge_id)

    async def _send_frame(self, routed: RoutedFrame, traced: Sequence[Traced], abandoned: Abandoned) -> bool:
        try:
            return await self._publish_until_confirmed(
                FRAMES,
                routed.edge_id,
                encode_frame(routed.frame),
                abandoned,
                persistent=False,
                amqp_headers=tracing.current.inject_frame(traced, routed.edge_id, routed.frame),
            )
        except Unroutable:
            metrics.UNROUTABLE.inc()
            await self._report_lost_edge(routed)
        except Exception:
            # Only this frame is lost. The edge detects the missing number, and its clients take a snapshot.
            metrics.FRAMES_DROPPED.inc()
            log.exception("A frame for edge %.100s cannot be published; it is dropped.", routed.edge_id)
        return True

    async def _report_lost_edge(self, routed: RoutedFrame) -> None:
        """Tell the presence workers that an edge has no queue, so that they drop its sessions."""
        if routed.epoch is None:
            return
        key, now = (routed.edge_id, routed.epoch), time.monotonic()
        if now - self._reported_at.get(key, -REPORT_INTERVAL) < REPORT_INTERVAL:
            return
        self._reported_at = {known: at for known, at in self._reported_at.items() if now - at < REPORT_INTERVAL}
        self._reported_at[key] = now
        log.warning("Edge %s has no queue: its sessions up to epoch %d are lost.", *key)
        command = SessionsDrop(edge_id=routed.edge_id, epoch=routed.epoch, request=0, at=now_ms())
        try:
            await self._publisher.publish(COMMANDS, command.name, encode_bundle([command]))
        except (BrokerUnavailable, PublishUnknown) as error:
            log.warning("The loss of edge %s could not be reported; its lease will expire: %s", routed.edge_id, error)

    # --- Facts --------------------------------------------------------------------------------------------

    async def publish_facts(self, facts: Sequence[AnyFact], traced: Sequence[Traced], abandoned: Abandoned) -> bool:
        """Publish facts, those of one name in one message, and wait for every confirm; False when abandoned.

        A fact without a queue is published again too, until an operator or a worker has declared the queue.
        """
        by_name: dict[str, list[AnyFact]] = {}
        for fact in facts:
            by_name.setdefault(fact.name, []).append(fact)
        publishes = [
            self._publish_until_confirmed(
                FACTS,
                name,
                encode_bundle(same),
                abandoned,
                repeat_unroutable=True,
                amqp_headers=tracing.current.inject_facts(traced, same),
            )
            for name, same in by_name.items()
        ]
        return all(await asyncio.gather(*publishes))

    # --- Dead letters -------------------------------------------------------------------------------------

    async def dead_letter(self, queue: str, body: bytes, reason: str, *, attempts: int) -> None:
        """Publish a message to a queue's dead letters with the reason, the time, and the number of attempts.

        Returns once the broker has confirmed it.
        """
        metrics.DEAD_LETTERS.labels(queue).inc()
        amqp_headers = {
            "x-warren-queue": queue,
            "x-warren-reason": reason[:MAX_REASON],
            "x-warren-first-failure": rfc3339(utc_datetime(now_ms())),
            "x-warren-attempts": attempts,
        }
        attempt = 0
        while True:
            try:
                await self._publisher.publish(DEAD, queue, body, amqp_headers=amqp_headers)
                return
            except (BrokerUnavailable, PublishUnknown, Unroutable) as error:
                attempt += 1
                log.warning("A dead letter of %s is not confirmed; trying again: %s", queue, error)
            await asyncio.sleep(backoff(attempt))

    async def _publish_until_confirmed(
        self,
        exchange: str,
        key: str,
        body: bytes,
        abandoned: Abandoned,
        *,
        persistent: bool = True,
        repeat_unroutable: bool = False,
        amqp_headers: AmqpHeaders | None = None,
    ) -> bool:
        """Publish until the broker confirms; False when abandoned. Raises MessageTooLarge, and Unroutable unless it is
        repeated."""
        attempt = 0
        while True:
            try:
                await self._publisher.publish(exchange, key, body, persistent=persistent, amqp_headers=amqp_headers)
                return True
            except (BrokerUnavailable, PublishUnknown, Unroutable) as error:
                if isinstance(error, Unroutable) and not repeat_unroutable:
                    raise
                attempt += 1
                log.warning("A message to %s/%s is not confirmed; trying again: %s", exchange, key, error)
            if abandoned():
                return False
            await asyncio.sleep(backoff(attempt))
