"""Users with the least rights, on a real broker: Warren runs with them, and they can do nothing else."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from contracts.codec import encode_bundle
from contracts.errors import BrokerUnavailable, PublishUnknown
from contracts.topology import (
    COMMANDS,
    DEAD,
    FACTS,
    FRAMES,
    PERSISTENCE,
    QUEUES,
    WORK_QUEUES,
    Queue,
    edge_queue,
)
from infra.broker import dead_letters, management
from infra.broker.channel import Channel
from infra.broker.dead_letters import LetterFilter
from infra.broker.declare import check_topology, declare_edge_queue, declare_topology
from infra.broker.link import Setup, connect_once
from infra.broker.publisher import Publisher
from infra.deploy.definitions import AUTOSCALER, EDGE, MIN_PASSWORD, OPERATOR, WORKER, definitions
from infra.local.services import Services, delete_vhost
from infra.local.stack import WORKER_KINDS, Stack
from infra.local.tenant import Tenant
from infra.settings import Settings
from tests.support.people import People
from tests.support.sample_commands import send
from tests.support.waiting import cancelled


@dataclass(frozen=True)
class Imported:
    """A virtual host that was made by importing definitions, and its users' addresses."""

    services: Services
    vhost: str
    urls: dict[str, str]

    def settings(self, user: str) -> Settings:
        return Settings(amqp_url=SecretStr(self.urls[user]), management_url=SecretStr(self.management_url(user)))

    def management_url(self, user: str) -> str:
        login = urlsplit(self.urls[user]).netloc.split("@")[0]
        parts = urlsplit(self.services.management_url)
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.split('@')[-1]}"))


@pytest.fixture(scope="module")
def imported(services: Services) -> Iterator[Imported]:
    """Definitions with passwords, imported through the management API; users get a name of this run's own."""
    own = f"permissions_{os.getpid()}_{secrets.token_hex(4)}"
    passwords = {user: secrets.token_hex(MIN_PASSWORD) for user in (EDGE, WORKER, OPERATOR, AUTOSCALER)}
    text = json.dumps(definitions(own, passwords))
    names = {user: f"{user}-{own}" for user in passwords}
    for user, name in names.items():
        text = text.replace(f'"{user}"', f'"{name}"')
    parts = urlsplit(services.amqp_url)
    where = parts.netloc.split("@")[-1]
    with httpx.Client(base_url=services.management_url, timeout=30, trust_env=False) as client:
        headers = {"content-type": "application/json"}
        client.post("/api/definitions", content=text, headers=headers).raise_for_status()
        yield Imported(
            services,
            own,
            {user: f"{parts.scheme}://{names[user]}:{passwords[user]}@{where}/{own}" for user in passwords},
        )
        delete_vhost(services, own)
        for name in names.values():
            client.delete(f"/api/users/{name}").raise_for_status()


# --- What is allowed --------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def restricted(imported: Imported, tenant: Tenant) -> AsyncIterator[Stack]:
    """All of Warren, each process as its own user."""
    private = replace(tenant, amqp_url=imported.urls[OPERATOR], name=imported.vhost, database=imported.vhost)
    async with Stack(private, edges=0, workers={}) as stack:
        as_worker = {"WARREN_AMQP_URL": imported.urls[WORKER], "WARREN_DECLARE_TOPOLOGY": "false"}
        starting = [stack.add_worker(kind, as_worker) for kind in WORKER_KINDS]
        starting.append(stack.add_edge({"WARREN_AMQP_URL": imported.urls[EDGE]}))
        await asyncio.gather(*starting)
        yield stack


@pytest.mark.slow
async def test_people_chat_while_every_process_has_the_least_rights(restricted: Stack) -> None:
    # Given two users of a stack whose processes have no more rights than they need
    people = People(restricted)
    ada, bob = await people.arrive("ada", "bob", edges=(0, 0))
    conversation_id = await people.chat(ada, bob)

    # When they do all that there is to do, then all of it works
    message = await people.say(ada, conversation_id)
    assert await bob.push("new_message", conversation_id) == {"message": message}
    assert (await bob.call("message_seen", conversation_id=conversation_id, seq=2))["unread_count"] == 0
    assert await ada.push("message_seen", conversation_id)
    await ada.call("typing", conversation_id=conversation_id, typing=True)
    assert await bob.push("typing", conversation_id)
    await bob.close()
    assert await ada.push("presence_updated", user_id=bob.user_id, online=False)
    assert (await ada.call("list_conversations"))["conversations"][0]["last_seq"] == 2
    await people.leave()
    assert not people.violations


async def test_the_topology_that_is_imported_is_the_one_that_is_declared(imported: Imported) -> None:
    # Another argument anywhere would be refused (406)
    await connect_once(imported.settings(OPERATOR), declare_topology)
    await connect_once(imported.settings(WORKER), check_topology)


async def test_the_operator_sees_queues_and_looks_after_the_dead_letters(imported: Imported) -> None:
    settings = imported.settings(OPERATOR)
    async with publishing(imported.settings(WORKER)) as worker:
        await worker.publish(DEAD, "persistence", encode_bundle([send("ada", "c", "m1")]))
        await worker.publish(DEAD, "persistence", b"nonsense")
    assert (await dead_letters.replay(settings, "persistence", LetterFilter(), raw=True)).removed == 2
    assert {queue.name for queue in QUEUES} <= {queue.name for queue in await management.queues(settings)}


async def test_the_autoscaler_sees_how_long_queues_are(imported: Imported) -> None:
    seen = await management.queues(imported.settings(AUTOSCALER))
    assert {queue.name for queue in QUEUES} <= {queue.name for queue in seen}


# --- What is not ------------------------------------------------------------------------------------------


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, "test")
    running = asyncio.create_task(publisher.link.run())
    await asyncio.wait_for(publisher.link.up.wait(), 10)
    yield publisher
    await cancelled(running)


async def refused(settings: Settings, *attempts: Setup) -> None:
    """Each of these is refused for want of a permission, and for nothing else."""
    for attempt in attempts:
        with pytest.raises(BrokerUnavailable, match="ACCESS_REFUSED"):
            await connect_once(settings, attempt)


def consume(queue: str) -> Setup:
    async def attempt(channel: Channel) -> None:
        await channel.consume(queue, lambda _: None, prefetch=1)

    return attempt


def bind(queue: str, exchange: str, key: str) -> Setup:
    """Declare one's own queue, bound where one has no business."""

    async def attempt(channel: Channel) -> None:
        await channel.declare_queue(Queue(queue, ((exchange, key),), durable=False, exclusive=True))

    return attempt


def declare(queue: Queue) -> Setup:
    async def attempt(channel: Channel) -> None:
        await channel.declare_queue(queue)

    return attempt


async def refused_to_publish(settings: Settings, *exchanges: str) -> None:
    """No message gets into any of these exchanges."""
    for exchange in exchanges:
        async with publishing(settings) as publisher:
            with pytest.raises(PublishUnknown, match="ACCESS_REFUSED"):
                await publisher.publish(exchange, PERSISTENCE.name, b"{}")


async def test_an_edge_can_neither_read_the_queues_nor_write_past_the_workers(imported: Imported) -> None:
    edge = imported.settings(EDGE)
    await refused(edge, *(consume(queue.name) for queue in QUEUES))
    await refused_to_publish(edge, FACTS, FRAMES, DEAD, "")
    # Nor listen to what others ask, nor change the topology
    own = "edge.spy.1"
    await refused(
        edge, bind(own, COMMANDS, "send_message"), bind(own, FACTS, "message.stored"), bind(own, DEAD, "unread")
    )
    await refused(edge, declare(PERSISTENCE), declare(replace(PERSISTENCE, name="mine")), declare_topology)

    # While its own queue and its commands are its own affair
    await connect_once(edge, lambda channel: declare_edge_queue(channel, edge_queue("edge-1", 1)))
    async with publishing(edge) as publisher:
        await publisher.publish(COMMANDS, "typing", encode_bundle([]))


async def test_an_edge_cannot_take_another_edges_queue(imported: Imported) -> None:
    queue = edge_queue("edge-2", 1)
    edge = imported.settings(EDGE)

    async def hold(channel: Channel) -> None:
        await declare_edge_queue(channel, queue)
        for attempt in (consume(queue.name), lambda channel: declare_edge_queue(channel, queue)):
            with pytest.raises(BrokerUnavailable, match="RESOURCE_LOCKED"):
                await connect_once(edge, attempt)

    await connect_once(edge, hold)


async def test_a_worker_can_consume_its_work_and_change_nothing(imported: Imported) -> None:
    worker = imported.settings(WORKER)
    await refused(worker, *(consume(f"{queue.name}.dead") for queue in WORK_QUEUES))
    await refused(worker, declare_topology, declare(replace(PERSISTENCE, name="mine")))
    await refused(worker, bind("edge.spy.2", FRAMES, "edge-1"))
    await refused_to_publish(worker, "")


async def test_an_operator_makes_no_queues_beside_the_topology(imported: Imported) -> None:
    operator = imported.settings(OPERATOR)
    await refused(operator, declare(replace(PERSISTENCE, name="mine")), bind("edge.spy.3", FRAMES, "edge-1"))


async def test_the_autoscaler_can_neither_read_nor_write_nor_declare(imported: Imported) -> None:
    # Given the user that scales workers, then the broker refuses it everything over AMQP
    autoscaler = imported.settings(AUTOSCALER)
    await refused(autoscaler, *(consume(queue.name) for queue in WORK_QUEUES))
    await refused(autoscaler, declare_topology, bind("edge.spy.4", FRAMES, "edge-1"))
    await refused_to_publish(autoscaler, COMMANDS)
    # And so does the management API, which can read messages and make users too
    path = f"{imported.management_url(AUTOSCALER)}/api"
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        wanted = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
        read = await client.post(f"{path}/queues/{imported.vhost}/persistence/get", json=wanted)
        assert (read.status_code, "ACCESS_REFUSED" in read.text) in ((400, True), (403, False), (401, True)), read.text
        made = await client.put(f"{path}/users/mallory", json={"password": "x" * 20, "tags": "administrator"})
        assert made.status_code == 401, made.text


async def test_nobody_of_ours_may_look_into_another_virtual_host(imported: Imported, vhost: str) -> None:
    for user in (EDGE, WORKER, OPERATOR, AUTOSCALER):
        login = urlsplit(imported.urls[user]).netloc
        elsewhere = urlunsplit(urlsplit(vhost)._replace(netloc=login))
        with pytest.raises(BrokerUnavailable, match=r"Connection\.Close"):
            await connect_once(Settings(amqp_url=SecretStr(elsewhere)), check_topology)
