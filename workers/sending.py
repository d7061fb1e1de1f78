"""What a worker publishes: frames to edges, facts, and dead letters. Every publish waits for its confirm.

A publish that the broker does not confirm is repeated with back-off and jitter: frames and facts until the batch is
lost, a dead letter until it is there. A message that is published twice does no harm.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from contracts.codec import encode_bundle, encode_frame
from contracts.errors import BrokerUnavailable, PublishUnknown, StoreUnavailable, Unroutable
from contracts.facts import AnyFact
from contracts.reports import EdgeLost
from contracts.topology import COMMANDS, DEAD, FACTS, FRAMES
from contracts.values import moment_of, rfc3339
from infra import metrics, tracing
from infra.backoff import backoff
from infra.broker.publisher import Publisher
from infra.tracing.tracer import AmqpHeaders, Traced
from workers.effects import Effects
from workers.routing import RoutedFrame, Router

log = logging.getLogger(__name__)

#: Seconds before the same edge is reported as lost again.
LOST_AGAIN = 5.0

#: Says whether nobody needs a publish any more: whoever is asked to repeat it, the broker delivers its cause again.
GivenUp = Callable[[], bool]


class Sender:
    """Publishes what one worker's batches lead to."""

    def __init__(self, publisher: Publisher, router: Router) -> None:
        self._publisher = publisher
        self._router = router
        self._reported: dict[tuple[str, int], float] = {}
        #: Why frames wait, or None.
        self.not_ready_reason: str | None = None

    async def send_frames(
        self, effects: Effects, traced: Sequence[Traced] = (), *, given_up: GivenUp = lambda: False
    ) -> bool:
        """Publish frames and wait for every confirm; repeat until confirmed, unless `given_up`."""
        if not effects.replies and not effects.deliveries:
            return True
        routed = await self._routed(effects, given_up)
        return all(await asyncio.gather(*(self._send_frame(frame, traced, given_up) for frame in routed)))

    async def _routed(self, effects: Effects, given_up: GivenUp) -> list[RoutedFrame]:
        attempt = 0
        while True:
            try:
                frames = await self._router.frames(effects)
                self.not_ready_reason = None
                return frames
            except StoreUnavailable as error:
                attempt += 1
                self.not_ready_reason = f"the store is away: {error}"
                if given_up():
                    self.not_ready_reason = None
                    return []
                await asyncio.sleep(backoff(attempt))

    async def _send_frame(self, routed: RoutedFrame, traced: Sequence[Traced], given_up: GivenUp) -> bool:
        headers = tracing.current.inject_frame(traced, routed.edge_id, routed.frame)
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

    async def publish_facts(self, facts: Sequence[AnyFact], traced: Sequence[Traced], given_up: GivenUp) -> bool:
        """Publish facts, those of one name in one message; False when given up."""
        by_name: dict[str, list[AnyFact]] = {}
        for fact in facts:
            by_name.setdefault(fact.name, []).append(fact)
        publishes = [
            self._persist_publish(
                FACTS, name, encode_bundle(same), given_up, headers=tracing.current.inject_facts(traced, same)
            )
            for name, same in by_name.items()
        ]
        return all(await asyncio.gather(*publishes))

    async def _persist_publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        given_up: GivenUp,
        *,
        persistent: bool = True,
        headers: AmqpHeaders | None = None,
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

    async def bury(self, queue: str, body: bytes, reason: str, *, attempts: int) -> None:
        """Put one message among the dead letters of a queue, with why, since when, and how often it was tried."""
        metrics.DEAD_LETTERS.labels(queue).inc()
        headers = {
            "x-warren-queue": queue,
            "x-warren-reason": reason[:1_000],
            "x-warren-first-failure": rfc3339(moment_of(int(time.time() * 1000))),
            "x-warren-attempts": attempts,
        }
        attempt = 0
        while True:
            try:
                await self._publisher.publish(DEAD, queue, body, headers=headers)
                return
            except (BrokerUnavailable, PublishUnknown, Unroutable) as error:
                attempt += 1
                log.warning("A dead letter of %s is not confirmed (%s); trying again.", queue, error)
            await asyncio.sleep(backoff(attempt))
