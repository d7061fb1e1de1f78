"""Where is my message? One message is followed from nowhere to its readers, on a real broker and a real store."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from pydantic import SecretStr

from contracts.codec import Item, encode_bundle
from contracts.ids import direct_conversation_id
from contracts.topology import COMMANDS, DEAD
from infra.broker.declare import declare_topology
from infra.broker.publisher import Publisher
from infra.cli.locate_message import find, told
from infra.local.services import Services
from infra.settings import WorkerSettings
from infra.store.client import Store
from tests.support.sample_commands import alive, opened, seen, send, start
from tests.support.worker_settings import MakeSettings
from workers.persistence import Persistence
from workers.presence import Presence
from workers.unread import Unread

CHAT = direct_conversation_id("ada", "bob")


@pytest.fixture
def settings(services: Services, vhost: str, make_settings: MakeSettings) -> WorkerSettings:
    return make_settings(amqp_url=SecretStr(vhost), management_url=SecretStr(services.management_url))


@pytest_asyncio.fixture
async def publisher(settings: WorkerSettings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, "test", declare_topology)
    running = asyncio.create_task(publisher.link.run())
    await asyncio.wait_for(publisher.link.up.wait(), 10)
    yield publisher
    running.cancel()
    await asyncio.wait([running])


async def dead_letter(publisher: Publisher, queue: str, items: Sequence[Item], reason: str) -> None:
    headers = {"x-warren-reason": reason, "x-warren-first-failure": "2026-01-31T12:00:00.000Z", "x-warren-attempts": 3}
    await publisher.publish(DEAD, queue, encode_bundle(items), amqp_headers=headers)


async def where(settings: WorkerSettings, client_message_id: str) -> str:
    """All that is told about a message."""
    return "\n".join(told(await find(settings, CHAT, client_message_id)))


async def test_a_message_is_followed_from_nowhere_to_its_readers(
    settings: WorkerSettings, publisher: Publisher, store: Store
) -> None:
    # Given two people who may talk, one of them connected
    assert await where(settings, "m1") == "Never seen: there is no such conversation, and nothing waits in the queue."
    await Presence(store)([opened("ada"), opened("bob", edge_id="edge-2"), alive("edge-2")])
    await Persistence(store)([start("ada", "bob")])
    assert (await where(settings, "m1")).startswith("Never seen: it is neither stored nor waiting.")

    # When nobody takes it out of the queue, then it may be waiting there
    await publisher.publish(COMMANDS, "send_message", encode_bundle([send("ada", CHAT, "m1")]))
    assert "may be waiting in persistence, which has 1 bundles ready" in await where(settings, "m1")

    # When it was put aside, then it is told where and why; others of the same queue are not mistaken for it
    await dead_letter(publisher, "persistence", [send("ada", CHAT, "m2"), send("ada", CHAT, "other")], "ValueError: no")
    expected = "ada's is among the dead letters of persistence since 2026-01-31T12:00:00.000Z: ValueError: no"
    assert await where(settings, "m2") == expected

    # When it is stored, then it is told who has read it and who is connected where
    await Persistence(store)([send("ada", CHAT, "m1")])
    effects = await Persistence(store)([send("bob", CHAT, "m3"), send("ada", CHAT, "m3")])
    text = await where(settings, "m1")
    assert "Stored: ada's, as number 1, at " in text
    assert "bob has read up to 2" in text
    assert "connected to edge-2 (seen 20" in text
    await Unread(store)([seen("ada", CHAT, 3)])

    # And where two chose the same id, both are told; a count that was put aside too
    await dead_letter(publisher, "unread", effects.facts[1:], "KeyError: 'x'")
    lines = (await where(settings, "m3")).splitlines()
    assert [line.split(" at ")[0] for line in lines if line.startswith("Stored")] == [
        "Stored: bob's, as number 2,",
        "Stored: ada's, as number 3,",
    ]
    assert "  bob has not read it; connected to edge-2" in lines[-2]
    assert lines[-1].startswith("Its unread counts are among the dead letters of unread since 2026-01-31")
