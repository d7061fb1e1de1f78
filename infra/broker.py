"""The broker adapter: the only file that knows aio-pika and its lower layer, aiormq.

A `Link` is one AMQP connection that rebuilds itself: connect, set up, wait until it is lost, back off with
jitter, again. (aio-pika's own robust connection retries at a fixed pace, keeps queue names that the broker may
still hold, and replays bindings one by one; see docs/design.md.) Publishing and consuming have a link each, because a
broker under memory pressure stops reading from connections that publish.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aio_pika
import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts.errors import BrokerUnavailable, PublishUnknown, Unroutable
from contracts.topology import Exchange, Queue
from infra import metrics
from infra.backoff import backoff
from infra.settings import Settings

log = logging.getLogger(__name__)

#: Seconds to wait for a connection, a channel, or one declaration.
CONNECT_TIMEOUT = 10.0
#: Seconds to wait for a clean close; the broker forgets us either way.
CLOSE_TIMEOUT = 3.0
#: What a process says of itself, at /readyz and in logs.
NO_CONNECTION = "no connection to the broker"

#: Seconds of nothing but refusals by one queue after which a publisher takes a fresh channel. On RabbitMQ 3.10 one that
#: was opened while a quorum queue had just lost its leader asks the lost node and refuses until that is back; one that
#: is opened later asks the new leader. Where the queue is really full, nothing changes.
STUBBORN = 3.0


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
        self, queue: str, receive: "Callable[[Delivery], None]", *, prefetch: int | None, priority: int | None = None
    ) -> str:
        """Start to consume; `receive` must only put the delivery somewhere. No prefetch means no acks either.

        Of consumers with different priorities the broker fills the highest first; equal ones take turns.
        """
        if prefetch is not None:
            await self._channel.basic_qos(prefetch_count=prefetch, timeout=CONNECT_TIMEOUT)

        async def on_message(message: DeliveredMessage) -> None:
            receive(Delivery(message))

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


class Delivery:
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


#: What to do with each new connection before it counts as up. It may raise: then it is tried again.
Setup = Callable[[Channel], Awaitable[None]]


async def _nothing(_: Channel) -> None:
    return None


class Link:
    """One AMQP connection that is rebuilt whenever it is lost.

    `run` never returns before it is cancelled. While `up` is not set there is no usable channel.
    """

    def __init__(self, settings: Settings, name: str, setup: Setup = _nothing) -> None:
        self._url = _with_heartbeat(settings.amqp_url.get_secret_value(), settings.amqp_heartbeat)
        self._tls = settings.amqp_tls()
        self._name = name
        self._kind = name.split(":", maxsplit=1)[0]
        self._setup = setup
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: aiormq.Channel | None = None
        self._consumer_gone: asyncio.Future[None] | None = None
        self.up = asyncio.Event()
        self.on_down: Callable[[], None] = lambda: None

    @property
    def channel(self) -> aiormq.Channel | None:
        """The channel in use, or None while the connection is down or blocked by the broker."""
        if not self.up.is_set() or self._channel is None or self._channel.is_closed or self.blocked:
            return None
        return self._channel

    @property
    def trouble(self) -> str | None:
        """Why nothing can be published now, or None."""
        if self.channel is not None:
            return None
        return "the broker takes no messages: its memory or disk runs short" if self.blocked else NO_CONNECTION

    @property
    def blocked(self) -> bool:
        """Whether the broker told us to stop publishing (a memory or disk alarm)."""
        transport = self._connection.transport if self._connection is not None else None
        if transport is None:
            return False
        # aiormq has no public view of it; a test holds this name against the pinned version.
        unblocked: asyncio.Event = transport.connection._Connection__connection_unblocked  # type: ignore[attr-defined]
        return not unblocked.is_set()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        attempt = 0
        while True:
            try:
                await self._connect()
                attempt = 0
                why = await self._lost()
                log.warning("Broker connection %s was lost. %s", self._name, why)
            except asyncio.CancelledError:
                await self._close()
                raise
            except Exception as error:
                log.warning("Broker connection %s failed: %s", self._name, _reason(error))
            metrics.BROKER_RECONNECTS.labels(self._kind).inc()
            self._down()
            await self._close()
            attempt += 1
            await asyncio.sleep(backoff(attempt))

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            self._connection = await aio_pika.connect(
                self._url, ssl_context=self._tls, client_properties={"connection_name": f"warren {self._name}"}
            )
            transport = self._connection.transport
            assert transport is not None
            channel = await transport.connection.channel(publisher_confirms=True, on_return_raises=False)
            assert isinstance(channel, aiormq.Channel)
            self._channel = channel
        self._consumer_gone = asyncio.get_running_loop().create_future()
        channel.on_consumer_cancel_callbacks.add(self._on_consumer_cancelled)
        await self._setup(Channel(self._channel))
        self.up.set()
        metrics.BROKER_UP.labels(self._kind).set(1)
        metrics.BROKER_BLOCKED.labels(self._kind).set_function(lambda: self.blocked)
        log.info("Broker connection %s is up.", self._name)

    def _on_consumer_cancelled(self, _: Basic.Cancel) -> None:
        """The connection stands, but nothing will be delivered on it any more."""
        log.warning("Broker connection %s lost its consumer: the queue or its node is gone.", self._name)
        if self._consumer_gone is not None and not self._consumer_gone.done():
            self._consumer_gone.set_result(None)

    async def _lost(self) -> str:
        """Wait until the connection, the channel or the consumer ends; none is of use without the others.

        Returns what the broker or the network said about it, if anything.
        """
        assert self._connection is not None
        assert self._consumer_gone is not None
        transport = self._connection.transport
        assert transport is not None
        while True:
            channel = self._channel
            assert channel is not None
            closing = [transport.connection.closing, channel.closing]
            await asyncio.wait([*closing, self._consumer_gone], return_when=asyncio.FIRST_COMPLETED)
            ended = [future for future in closing if future.done() and not future.cancelled()]
            for future in closing:
                future.cancel()
            # A channel that was replaced is closed as well, and that is no loss.
            if channel is self._channel or transport.connection.is_closed or self._consumer_gone.done():
                return "; ".join(_reason(error) for future in ended if (error := future.exception()) is not None)

    async def renew_channel(self, linger: float) -> None:
        """Go on with a fresh channel; what waits for a confirm on the old one has `linger` seconds."""
        old, connection = self._channel, self._connection
        if old is None or connection is None or connection.transport is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                fresh = await connection.transport.connection.channel(publisher_confirms=True, on_return_raises=False)
        except (aiormq.AMQPError, ConnectionError, RuntimeError, TimeoutError) as error:
            log.info("Broker connection %s opens no other channel: %s", self._name, _reason(error))
            return
        assert isinstance(fresh, aiormq.Channel)
        if self._channel is not old:  # the connection was rebuilt meanwhile
            await fresh.close()
            return
        log.warning("Broker connection %s goes on with a fresh channel: a queue refused for too long.", self._name)
        self._channel = fresh
        await asyncio.sleep(linger)
        await old.close()

    def _down(self) -> None:
        metrics.BROKER_UP.labels(self._kind).set(0)
        if self.up.is_set():
            self.up.clear()
            self.on_down()

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._down()
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await connection.close()
        except Exception as error:
            log.info("Broker connection %s did not close cleanly: %s", self._name, _reason(error))


class Publisher:
    """Publishes with confirms over its own link.

    At most `publish_in_flight` messages wait for their confirm; a further one is refused at once.
    """

    def __init__(self, settings: Settings, name: str, setup: Setup = _nothing) -> None:
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
            raise BrokerUnavailable(self.link.trouble or NO_CONNECTION)
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
            raise PublishUnknown(f"No confirm: {_reason(error)}") from error
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


async def once(settings: Settings, work: Setup) -> None:
    """Connect, do one thing, close. Raises BrokerUnavailable with a sentence when that fails."""
    link = Link(settings, "once", work)
    try:
        await link._connect()
    except (aiormq.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(f"RabbitMQ at {_safe(link._url)}: {_reason(error)}") from error
    finally:
        await link._close()


def _with_heartbeat(url: str, seconds: int) -> str:
    return f"{url}{'&' if '?' in url else '?'}heartbeat={seconds}"


def _safe(url: str) -> str:
    return url.rsplit("@", 1)[-1].split("?", maxsplit=1)[0]


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
