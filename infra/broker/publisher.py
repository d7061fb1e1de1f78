"""Publishing with confirms."""

import asyncio
import time
from typing import Any

import aiormq
from pamqp.commands import Basic

from contracts.errors import BrokerUnavailable, PublishUnknown, Unroutable
from infra import metrics
from infra.broker.link import NO_CONNECTION, Link, Setup, no_setup, reason_of
from infra.settings import Settings

#: Seconds of nothing but refusals by one queue after which a publisher takes a fresh channel. On RabbitMQ 3.10 one that
#: was opened while a quorum queue had just lost its leader asks the lost node and refuses until that is back; one that
#: is opened later asks the new leader. Where the queue is really full, nothing changes.
STUBBORN = 3.0


class Publisher:
    """Publishes with confirms over its own link.

    At most `publish_in_flight` messages wait for their confirm; a further one is refused at once.
    """

    def __init__(self, settings: Settings, name: str, setup: Setup = no_setup) -> None:
        self.link = Link(settings, f"publish:{name}", setup)
        self._timeout = settings.publish_timeout
        self._free = settings.publish_in_flight
        self._refusing_since: dict[str, float] = {}
        self._renewal: asyncio.Task[None] | None = None

    async def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        persistent: bool = True,
        headers: dict[str, Any] | None = None,
    ) -> None:
        """Publish one message; returning means that every queue it was routed to has it.

        Raises BrokerUnavailable when nothing was accepted (down, blocked, queue full, too many in flight),
        Unroutable when no queue is bound with the key, and PublishUnknown when the confirm did not come in time
        or the connection broke meanwhile.
        """
        channel = self.link.channel
        if channel is None:
            raise BrokerUnavailable(self.link.not_ready_reason or NO_CONNECTION)
        if self._free <= 0:
            raise BrokerUnavailable("Too many messages wait for the broker's confirm.")
        self._free -= 1
        outcome, started = "unknown", time.perf_counter()
        try:
            answer = await channel.basic_publish(
                body,
                exchange=exchange,
                routing_key=key,
                mandatory=True,
                properties=Basic.Properties(
                    delivery_mode=2 if persistent else 1, content_type="application/json", headers=headers
                ),
                timeout=self._timeout,
                wait=False,
            )
            outcome = "confirmed" if isinstance(answer, Basic.Ack) else "unroutable"
            self._refusing_since.pop(key, None)
        except aiormq.exceptions.DeliveryError as error:
            outcome = "refused"
            self._note_refusal(key)
            raise BrokerUnavailable("The queue is full, or its node is gone.") from error
        except (TimeoutError, aiormq.AMQPError, ConnectionError, RuntimeError) as error:
            raise PublishUnknown(f"No confirm: {reason_of(error)}") from error
        finally:
            self._free += 1
            metrics.PUBLISHED.labels(exchange, outcome).inc()
            metrics.CONFIRM_SECONDS.labels(exchange).observe(time.perf_counter() - started)
        if outcome == "unroutable":
            raise Unroutable(f"{exchange} has no queue for {key}.")

    def _note_refusal(self, key: str) -> None:
        now = time.monotonic()
        since = self._refusing_since.setdefault(key, now)
        if now - since > STUBBORN and (self._renewal is None or self._renewal.done()):
            self._refusing_since.clear()
            self._renewal = asyncio.create_task(self.link.renew_channel(linger=self._timeout))
