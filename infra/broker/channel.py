"""One AMQP channel, and the messages that the broker delivers on it.

Only this package imports aio-pika and its lower layer aiormq: in this file, `link.py` and `publisher.py`.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage

from contracts.topology import Exchange, Queue

log = logging.getLogger(__name__)

#: Seconds to wait for a connection, a channel or one declaration.
CONNECT_TIMEOUT = 10.0


class Channel:
    """A channel of one connection, with the operations that set-up code needs."""

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
        """Check that an exchange exists; needs no permission. Raises an AMQP error (404) when it does not."""
        await self._channel.exchange_declare(exchange.name, passive=True, timeout=CONNECT_TIMEOUT)

    async def count_ready(self, queue: str) -> int:
        """Count the messages that are ready in a queue. Raises an AMQP error (404) when the queue does not exist."""
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
        """Start a consumer and return its tag.

        `receive` is called for each message and must only enqueue it. With `prefetch` None, the broker sends without
        limit and expects no acks. The broker fills the consumer with the highest priority first; consumers of equal
        priority take turns.
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
        """Stop a consumer. Messages that it received and did not ack stay with it until the channel closes."""
        await self._channel.basic_cancel(consumer_tag, timeout=CONNECT_TIMEOUT)

    async def open_another(self) -> "Channel":
        """Open another channel on the same connection."""
        channel = await self._channel.connection.channel(publisher_confirms=False)
        assert isinstance(channel, aiormq.Channel)
        return Channel(channel)

    async def close(self) -> None:
        """Close the channel. The broker requeues what it delivered and was not acked, in the original order."""
        await self._channel.close()

    @property
    def is_closed(self) -> bool:
        """Whether either side closed the channel."""
        return bool(self._channel.is_closed)


class IncomingMessage:
    """A message that the broker delivered. It can be acked only on the channel that it was delivered on."""

    __slots__ = ("_channel", "_tag", "amqp_headers", "body", "deliveries", "redelivered")

    def __init__(self, message: DeliveredMessage) -> None:
        self.body: bytes = message.body
        self.amqp_headers: Mapping[str, Any] = message.header.properties.headers or {}
        self.redelivered = bool(message.redelivered)
        #: Number of earlier deliveries, which quorum queues count; 0 in other queues.
        count = self.amqp_headers.get("x-delivery-count")
        self.deliveries = count if isinstance(count, int) else 0
        self._channel = message.channel
        self._tag = message.delivery_tag

    async def ack(self, *, multiple: bool = False) -> None:
        """Ack the message. With `multiple`, also ack every earlier message of its channel, in one write of the broker.

        Does nothing when the channel is closed: the broker then redelivers the message.
        """
        if self._tag is None or self._channel.is_closed:
            return
        try:
            await self._channel.basic_ack(self._tag, multiple=multiple, wait=False)
        except (aiormq.AMQPError, ConnectionError):
            log.info("Ack not sent: the channel is closed. The broker redelivers the message.")

    @property
    def will_be_redelivered(self) -> bool:
        """Whether its channel is closed, so that it can no longer be acked and the broker redelivers it."""
        return bool(self._channel.is_closed)
