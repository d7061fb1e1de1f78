"""Publishes messages with publisher confirms."""

import asyncio
import time
from typing import Any

import aiormq
from pamqp.commands import Basic

from contracts.errors import BrokerUnavailable, MessageTooLarge, PublishUnknown, Unroutable
from infra import metrics
from infra.broker.link import NO_CONNECTION, Link, Setup, no_setup, text_of
from infra.settings import Settings

#: RabbitMQ 4's default limit of one message, bytes (`max_message_size`). A larger message closes the channel, and with
#: it everything that waits for a confirm.
MAX_MESSAGE_BYTES = 16 << 20
#: Seconds of uninterrupted refusals by one queue after which a publisher replaces its channel. On RabbitMQ 3.10, a
#: channel that was opened while a quorum queue was losing its leader keeps asking the lost node and refuses until that
#: node is back; a newer channel asks the new leader. When the queue is really full, the new channel refuses too.
REFUSAL_LIMIT = 3.0


class Publisher:
    """Publishes with confirms over a link of its own.

    At most `WARREN_PUBLISH_IN_FLIGHT` messages wait for their confirm; further ones are refused at once. That limit
    bounds the memory of unconfirmed messages, because a publish does not wait for the socket to drain.
    """

    def __init__(self, settings: Settings, name: str, setup: Setup = no_setup) -> None:
        self.link = Link(settings, f"publish:{name}", setup)
        self._timeout = settings.publish_timeout
        self._free_slots = settings.publish_in_flight
        self._refusing_since: dict[str, float] = {}
        self._replacing: asyncio.Task[None] | None = None

    async def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        persistent: bool = True,
        amqp_headers: dict[str, Any] | None = None,
    ) -> None:
        """Publish one message. After it returns, every queue that the message was routed to has it.

        Raises BrokerUnavailable when nothing was accepted (connection down or blocked, queue full, too many messages in
        flight), Unroutable when no queue is bound with the key, and PublishUnknown when the confirm did not arrive
        within `WARREN_PUBLISH_TIMEOUT` seconds or the connection broke.
        """
        if len(body) > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(f"{len(body)} bytes for {exchange}/{key}; RabbitMQ takes {MAX_MESSAGE_BYTES}.")
        channel = self.link.channel
        if channel is None:
            raise BrokerUnavailable(self.link.not_ready_reason or NO_CONNECTION)
        if self._free_slots <= 0:
            raise BrokerUnavailable("Too many messages wait for the broker's confirm.")
        self._free_slots -= 1
        outcome, started = "unknown", time.perf_counter()
        try:
            answer = await channel.basic_publish(
                body,
                exchange=exchange,
                routing_key=key,
                mandatory=True,
                properties=Basic.Properties(
                    delivery_mode=2 if persistent else 1, content_type="application/json", headers=amqp_headers
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
            raise PublishUnknown(f"No confirm: {text_of(error)}") from error
        finally:
            self._free_slots += 1
            metrics.PUBLISHED.labels(exchange, outcome).inc()
            metrics.CONFIRM_SECONDS.labels(exchange).observe(time.perf_counter() - started)
        if outcome == "unroutable":
            raise Unroutable(f"{exchange} has no queue for {key}.")

    def _note_refusal(self, key: str) -> None:
        now = time.monotonic()
        since = self._refusing_since.setdefault(key, now)
        if now - since > REFUSAL_LIMIT and (self._replacing is None or self._replacing.done()):
            self._refusing_since.clear()
            self._replacing = asyncio.create_task(self.link.replace_channel(linger=self._timeout))
