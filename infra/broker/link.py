"""An AMQP connection that reconnects by itself.

A `Link` connects, runs a set-up function, waits until the connection is lost, backs off with jitter, and connects
again. aio-pika's robust connection is not used: it retries at a fixed interval, keeps queue names that the broker may
still hold, and replays bindings one by one (see docs/design.md). Publishing and consuming use separate links, because
a broker under memory pressure stops reading from connections that publish.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aio_pika
import aiormq
from pamqp.commands import Basic

from contracts.errors import BrokerUnavailable
from infra import metrics
from infra.backoff import backoff
from infra.broker.channel import CONNECT_TIMEOUT, Channel
from infra.settings import Settings

log = logging.getLogger(__name__)

#: Seconds to wait for a clean close. Without one, the broker closes the connection after missed heartbeats.
CLOSE_TIMEOUT = 3.0
#: Reason at /readyz and in logs.
NO_CONNECTION = "no connection to the broker"

#: Prepares each new connection before it counts as up. When it raises, the link closes the connection and retries.
Setup = Callable[[Channel], Awaitable[None]]


async def no_setup(_: Channel) -> None:
    """Prepare nothing."""


class Link:
    """One AMQP connection that is rebuilt whenever it is lost.

    `name` is `publish:…` or `consume:…`; the part before the colon is the metrics' label. `run` returns only when it is
    cancelled. While `up` is not set there is no usable channel. `on_down` is called once for each loss.
    """

    def __init__(self, settings: Settings, name: str, setup: Setup = no_setup) -> None:
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
    def not_ready_reason(self) -> str | None:
        """Why the channel cannot be used now, or None."""
        if self.channel is not None:
            return None
        return "the broker blocks publishers: it has a memory or disk alarm" if self.blocked else NO_CONNECTION

    @property
    def blocked(self) -> bool:
        """Whether the broker blocks this connection because of a memory or disk alarm (`connection.blocked`)."""
        transport = self._connection.transport if self._connection is not None else None
        if transport is None:
            return False
        # aiormq has no public view of it; tests/unit/test_library_seams.py holds this name.
        unblocked: asyncio.Event = transport.connection._Connection__connection_unblocked  # type: ignore[attr-defined]
        return not unblocked.is_set()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        attempt = 0
        while True:
            try:
                await self._connect()
                attempt = 0
                error_text = await self._wait_until_lost()
                log.warning("Broker connection %s was lost. Reconnecting. %s", self._name, error_text)
            except asyncio.CancelledError:
                await self._close()
                raise
            except Exception as error:
                log.warning("Broker connection %s failed; trying again: %s", self._name, text_of(error))
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
        """The broker cancelled the consumer: the connection is open, but no message will be delivered on it."""
        log.warning("Broker connection %s lost its consumer: the queue or its node is gone; reconnecting.", self._name)
        if self._consumer_gone is not None and not self._consumer_gone.done():
            self._consumer_gone.set_result(None)

    async def _wait_until_lost(self) -> str:
        """Wait until the connection, the channel or the consumer ends: each is useless without the others.

        Returns the error text of the broker or the network, or "".
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
            # `replace_channel` closes the old channel too; that is not a loss.
            if channel is self._channel or transport.connection.is_closed or self._consumer_gone.done():
                return "; ".join(text_of(error) for future in ended if (error := future.exception()) is not None)

    async def replace_channel(self, linger: float) -> None:
        """Open a new channel, use it from now on, and close the old one after `linger` seconds.

        Publishes that wait for a confirm on the old channel can still get it meanwhile.
        """
        old, connection = self._channel, self._connection
        if old is None or connection is None or connection.transport is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                fresh = await connection.transport.connection.channel(publisher_confirms=True, on_return_raises=False)
        except (aiormq.AMQPError, ConnectionError, RuntimeError, TimeoutError) as error:
            log.info("Broker connection %s cannot open another channel: %s", self._name, text_of(error))
            return
        assert isinstance(fresh, aiormq.Channel)
        if self._channel is not old:  # the connection was rebuilt meanwhile
            await fresh.close()
            return
        log.warning("Broker connection %s replaced its channel: a queue kept refusing messages.", self._name)
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
            log.info("Broker connection %s did not close cleanly: %s", self._name, text_of(error))


async def connect_once(settings: Settings, work: Setup) -> None:
    """Connect, run `work`, close. Raises BrokerUnavailable with a sentence when the connection or `work` fails."""
    link = Link(settings, "once", work)
    try:
        await link._connect()
    except (aiormq.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(f"RabbitMQ at {_without_credentials(link._url)}: {text_of(error)}") from error
    finally:
        await link._close()


def _with_heartbeat(url: str, seconds: int) -> str:
    return f"{url}{'&' if '?' in url else '?'}heartbeat={seconds}"


def _without_credentials(url: str) -> str:
    return url.rsplit("@", 1)[-1].split("?", maxsplit=1)[0]


def text_of(error: BaseException) -> str:
    """The text of an error, or the name of its type when it has none."""
    return str(error) or type(error).__name__
