"""The broker adapter on a real RabbitMQ: what is confirmed, what is refused, and what a lost connection means."""

import asyncio
import time
from contextlib import suppress
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from contracts.errors import BrokerUnavailable, PublishUnknown, Unroutable
from contracts.topology import COMMANDS, FRAMES, Queue, edge_queue
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.declare import declare_topology
from infra.broker.link import Link, connect_once
from infra.broker.publisher import Publisher
from infra.local.services import Services
from infra.settings import WorkerSettings
from tests.support.waiting import cancelled, eventually


async def close_connections(services: Services, vhost: str, name: str) -> None:
    """Close, as an operator would, the connections of a virtual host whose name holds this."""
    async with httpx.AsyncClient(base_url=services.management_url, timeout=10) as client:

        async def listed() -> list[str]:
            connections = (await client.get("/api/connections")).json()
            ours = [c for c in connections if quote(c["vhost"], safe="") in vhost]
            return [c["name"] for c in ours if name in c.get("client_properties", {}).get("connection_name", "")]

        for connection in await eventually(listed, sentence="the connection is in the management API"):
            (await client.delete(f"/api/connections/{quote(connection, safe='')}")).raise_for_status()


async def test_a_message_without_a_queue_is_unroutable_and_said_to_be(publisher: Publisher) -> None:
    with pytest.raises(Unroutable):
        await publisher.publish(FRAMES, "nobody", b"{}", persistent=False)
    await publisher.publish(COMMANDS, "send_message", b"{}")


async def test_a_full_queue_refuses_and_nothing_was_accepted(publisher: Publisher, settings: WorkerSettings) -> None:
    tiny = Queue(
        "tiny", ((COMMANDS, "tiny"),), {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await connect_once(settings, lambda channel: channel.declare_queue(tiny))

    async def until_refused() -> None:
        for _ in range(50):
            await publisher.publish(COMMANDS, "tiny", b"x")

    with pytest.raises(BrokerUnavailable, match="full"):
        await until_refused()


async def test_a_queue_that_goes_on_refusing_gets_a_fresh_channel(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a queue that is full
    monkeypatch.setattr("infra.broker.publisher.REFUSAL_LIMIT", 0.2)
    tiny = Queue("tiny", ((COMMANDS, "tiny"),), {"x-max-length": 1, "x-overflow": "reject-publish"})

    async def declare(channel: Channel) -> None:
        await declare_topology(channel)
        await channel.declare_queue(tiny)

    hasty = settings.model_copy(update={"publish_timeout": 0.5})
    publisher = Publisher(hasty, "test", declare)
    running = asyncio.create_task(publisher.link.run())
    await asyncio.wait_for(publisher.link.up.wait(), 10)
    first, lost = publisher.link.channel, asyncio.Event()
    publisher.link.on_down = lost.set

    # When a publisher insists
    async def is_fresh() -> bool:
        with suppress(BrokerUnavailable):
            await publisher.publish(COMMANDS, "tiny", b"x")
        return publisher.link.channel is not first

    await eventually(is_fresh, sentence="another channel is used")

    # Then the connection stands all the time, also when the first channel is closed, and serves
    assert first is not None
    await eventually(lambda: first.is_closed, sentence="the first channel is closed")
    await publisher.publish(COMMANDS, "send_message", b"{}")
    assert not lost.is_set()
    # And the loss of the second one is noticed like that of the first
    second = publisher.link.channel
    assert second is not None
    await second.close()
    await asyncio.wait_for(lost.wait(), 10)
    await cancelled(running)


async def test_a_consumer_that_the_broker_ends_is_made_anew(settings: WorkerSettings, services: Services) -> None:
    # Given a consumer of a queue that lies on one node
    frail = Queue("frail", ((COMMANDS, "frail"),))
    received: asyncio.Queue[IncomingMessage] = asyncio.Queue()

    async def consume(channel: Channel) -> None:
        await declare_topology(channel)
        await channel.declare_queue(frail)
        await channel.consume(frail.name, received.put_nowait, prefetch=None)

    link, publisher = Link(settings, "consume:frail", consume), Publisher(settings, "test")
    running = [asyncio.create_task(each.run()) for each in (link, publisher.link)]
    await asyncio.wait_for(asyncio.gather(link.up.wait(), publisher.link.up.wait()), 10)
    lost = asyncio.Event()
    link.on_down = lost.set

    # When the queue is gone, while the connection stands
    vhost = settings.amqp_url.get_secret_value().rsplit("/", 1)[1]
    async with httpx.AsyncClient(base_url=services.management_url, timeout=10) as client:
        (await client.delete(f"/api/queues/{vhost}/frail")).raise_for_status()

    # Then the link notices, and consumes again
    await asyncio.wait_for(lost.wait(), 10)
    await asyncio.wait_for(link.up.wait(), 10)
    await publisher.publish(COMMANDS, "frail", b"there you are")
    assert (await asyncio.wait_for(received.get(), 10)).body == b"there you are"
    for task in running:
        task.cancel()
    await asyncio.wait(running, timeout=10)


async def test_without_a_connection_publishing_fails_at_once(settings: WorkerSettings) -> None:
    publisher = Publisher(settings, "never started")
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await publisher.publish(COMMANDS, "send_message", b"{}")
    assert time.monotonic() - started < 1


async def test_more_messages_in_flight_than_allowed_are_refused(settings: WorkerSettings) -> None:
    # Given a publisher that may have five messages under way
    few = settings.model_copy(update={"publish_in_flight": 5})
    publisher = Publisher(few, "few", declare_topology)
    running = asyncio.create_task(publisher.link.run())
    await asyncio.wait_for(publisher.link.up.wait(), 10)

    # When it is given twenty at once
    sends = [publisher.publish(COMMANDS, "send_message", b"{}") for _ in range(20)]
    results = await asyncio.gather(*sends, return_exceptions=True)

    # Then five are confirmed, the others refused, and there is room again
    refused = [result for result in results if isinstance(result, BrokerUnavailable)]
    assert len(refused) == 15
    assert results.count(None) == 5
    await publisher.publish(COMMANDS, "send_message", b"{}")
    await cancelled(running)


async def test_a_closed_connection_is_rebuilt_with_its_set_up(
    publisher: Publisher, services: Services, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    await close_connections(services, vhost, "publish:test")
    await eventually(lambda: not publisher.link.up.is_set(), sentence="the loss is noticed")
    await asyncio.wait_for(publisher.link.up.wait(), 20)
    await publisher.publish(COMMANDS, "send_message", b"{}")
    (lost,) = [line for line in caplog.messages if "was lost" in line]
    assert "Closed via management plugin" in lost, "the log says why"


async def test_a_publish_whose_connection_breaks_is_of_unknown_outcome(
    publisher: Publisher, services: Services, vhost: str
) -> None:
    # Given somebody who publishes without end
    outcomes: list[object] = []

    async def keep_publishing() -> None:
        while publisher.link.up.is_set():
            try:
                await publisher.publish(COMMANDS, "send_message", b"{}")
            except (BrokerUnavailable, PublishUnknown) as error:
                outcomes.append(error)
                return

    # When the connection breaks, then one publish at most was under way
    working = asyncio.create_task(keep_publishing())
    await close_connections(services, vhost, "publish:test")
    await asyncio.wait_for(working, 20)
    assert len(outcomes) <= 1, "one publish was under way"


async def test_a_consumer_gets_a_fresh_queue_with_each_connection(
    settings: WorkerSettings, publisher: Publisher, services: Services, vhost: str
) -> None:
    # Given a consumer that makes a new queue for each connection
    got: list[IncomingMessage] = []
    connections: list[int] = []
    down: list[bool] = []

    async def set_up(channel: Channel) -> None:
        connections.append(len(connections) + 1)
        queue = edge_queue("edge-9", connections[-1])
        await channel.declare_queue(queue)
        await channel.consume(queue.name, got.append, prefetch=None)

    # When its connection breaks
    link = Link(settings, "consume:edge-9", set_up)
    # Then it is told, and consumes from a second queue
    link.on_down = lambda: down.append(True)
    running = asyncio.create_task(link.run())
    await asyncio.wait_for(link.up.wait(), 10)
    await close_connections(services, vhost, "consume:edge-9")
    await eventually(lambda: down, sentence="the loss is reported")
    await eventually(lambda: link.up.is_set() and len(connections) == 2, within=20, sentence="there is a second queue")
    await publisher.publish(FRAMES, "edge-9", b"hello", persistent=False)
    await eventually(lambda: [delivery.body for delivery in got] == [b"hello"], sentence="the frame arrives")
    await cancelled(running)


async def test_an_unreachable_broker_is_a_sentence(settings: WorkerSettings) -> None:
    wrong = settings.model_copy(update={"amqp_url": SecretStr("amqp://guest:secret-word@127.0.0.1:1/")})
    with pytest.raises(BrokerUnavailable) as raised:
        await connect_once(wrong, declare_topology)
    assert "127.0.0.1:1" in str(raised.value)
    assert "secret-word" not in str(raised.value)
