"""One AMQP channel, and the messages that the broker delivers on it.

This package is the only one that knows aio-pika and its lower layer, aiormq: this file, `link.py` and `publisher.py`.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage

from contracts.topology import Exchange, Queue

log = logging.getLogger(__name__)

#: Seconds to wait for a connection, a channel, or one declaration.
CONNECT_TIMEOUT = 10.0


class Channel:
    """A channel of one connection, with what set-up code may do on it."""

    def __init__(self, channel: aiormq.Channel) -> None:
        self._channel = channel

    async def declare_exchange(self, exchange: Exchange) -> None:
        """Declare a direct, durable exchange."""
        await self._channel.exchange_declare(
            exchange.name, exchange_type="direct", durable=True, timeout=CONNECT_TIMEOUT
        )

    async def declare_queue(self, queue: Queue) -> None:
        """Declare a queue and its bindings."""
        await self._channel.queue_declare(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            arguments=queue.arguments,
            timeout=CONNECT_TIMEOUT,
        )
        for exchange, key in queue.bindings:
            await self._channel.queue_bind(queue.name, exchange, key, timeout=CONNECT_TIMEOUT)

    async def check_exchange(self, exchange: Exchange) -> None:
        """Make sure that an exchange is there; needs no permission. Raises an AMQP error (404) otherwise."""
        await self._channel.exchange_declare(exchange.name, passive=True, timeout=CONNECT_TIMEOUT)

    async def count(self, queue: str) -> int:
        """Messages that are ready in a queue. Raises an AMQP error (404) where there is no such queue."""
        found = await self._channel.queue_declare(queue, passive=True, timeout=CONNECT_TIMEOUT)
        return found.message_count or 0

    async def consume(
        self,
        queue: str,
        receive: "Callable[[IncomingMessage], None]",
        *,
        prefetch: int | None,
        priority: int | None = None,
    ) -> str:
        """Start to consume; `receive` must only put the message somewhere. No prefetch means no acks either.

        Of consumers with different priorities the broker fills the highest first; equal ones take turns.
        """
        if prefetch is not None:
            await self._channel.basic_qos(prefetch_count=prefetch, timeout=CONNECT_TIMEOUT)

        async def on_message(message: DeliveredMessage) -> None:
            receive(IncomingMessage(message))

        reply = await self._channel.basic_consume(
            queue,
            on_message,
            no_ack=prefetch is None,
            arguments=None if priority is None else {"x-priority": priority},
            timeout=CONNECT_TIMEOUT,
        )
        assert reply.consumer_tag is not None
        return reply.consumer_tag

    async def cancel(self, consumer_tag: str) -> None:
        """Stop to consume; what was delivered stays ours until acked or the connection closes."""
        await self._channel.basic_cancel(consumer_tag, timeout=CONNECT_TIMEOUT)

    async def another(self) -> "Channel":
        """Open one more channel on the same connection."""
        channel = await self._channel.connection.channel(publisher_confirms=False)
        assert isinstance(channel, aiormq.Channel)
        return Channel(channel)

    async def close(self) -> None:
        """Close it; what was delivered on it and not acked goes back to its queue, in its old order."""
        await self._channel.close()

    @property
    def is_lost(self) -> bool:
        """Whether it is closed, by whichever side."""
        return bool(self._channel.is_closed)


class IncomingMessage:
    """A message that the broker delivered, and the channel that it must be settled on."""

    __slots__ = ("_channel", "_tag", "body", "headers", "redelivered")

    def __init__(self, message: DeliveredMessage) -> None:
        self.body: bytes = message.body
        self.headers: Mapping[str, Any] = message.header.properties.headers or {}
        self.redelivered = bool(message.redelivered)
        self._channel = message.channel
        self._tag = message.delivery_tag

    async def ack(self, *, and_earlier: bool = False) -> None:
        """Settle it, `and_earlier` all that came before it on its channel: to the broker that is one write in its log.

        On a lost channel this does nothing: the broker delivers it again.
        """
        if self._tag is None or self._channel.is_closed:
            return
        try:
            await self._channel.basic_ack(self._tag, multiple=and_earlier, wait=False)
        except (aiormq.AMQPError, ConnectionError):
            log.info("An ack came too late: the channel is gone, and the message will come again.")

    @property
    def lost(self) -> bool:
        """Whether it can no longer be settled here, so that it will come again."""
        return bool(self._channel.is_closed)
