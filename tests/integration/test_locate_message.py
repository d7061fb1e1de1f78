"""Where is my message? One message is followed from nowhere to its readers, on a real broker and a real store."""

from collections.abc import Sequence

import pytest
from pydantic import SecretStr

from contracts.codec import Item, encode_bundle
from contracts.ids import direct_conversation_id
from contracts.topology import COMMANDS, DEAD
from infra.broker.publisher import Publisher
from infra.cli.locate_message import describe, find
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


async def dead_letter(publisher: Publisher, queue: str, items: Sequence[Item], reason: str) -> None:
    headers = {"x-warren-reason": reason, "x-warren-first-failure": "2026-01-31T12:00:00.000Z", "x-warren-attempts": 3}
    await publisher.publish(DEAD, queue, encode_bundle(items), amqp_headers=headers)


async def where(settings: WorkerSettings, client_message_id: str) -> str:
    """The description of a message's location."""
    return "\n".join(describe(await find(settings, CHAT, client_message_id)))


async def test_a_message_is_found_from_never_received_to_read(
    settings: WorkerSettings, publisher: Publisher, store: Store
) -> None:
    # Given two people who may talk, one of them connected
    assert await where(settings, "m1") == (
        "Never received: the conversation does not exist, and nothing waits in the queue."
    )
    await Presence(store)([opened("ada"), opened("bob", edge_id="edge-2"), alive("edge-2")])
    await Persistence(store)([start("ada", "bob")])
    assert (await where(settings, "m1")).startswith("Never received: it is neither stored nor waiting.")

    # When nobody takes it out of the queue, then it may be waiting there
    await publisher.publish(COMMANDS, "send_message", encode_bundle([send("ada", CHAT, "m1")]))
    assert "may be waiting in persistence, which has 1 bundles ready" in await where(settings, "m1")

    # When it is dead-lettered, then its queue and reason are named, and other letters are not confused with it
    await dead_letter(publisher, "persistence", [send("ada", CHAT, "m2"), send("ada", CHAT, "other")], "ValueError: no")
    expected = "The message by ada is in the dead letters of persistence since 2026-01-31T12:00:00.000Z: ValueError: no"
    assert await where(settings, "m2") == expected

    # When it is stored, then its readers and their edges are named
    await Persistence(store)([send("ada", CHAT, "m1")])
    effects = await Persistence(store)([send("bob", CHAT, "m3"), send("ada", CHAT, "m3")])
    text = await where(settings, "m1")
    assert "Stored: message 1 of the conversation, by ada, at " in text
    assert "bob has read up to 2" in text
    assert "connected to edge-2 (lease renewed 20" in text
    await Unread(store)([seen("ada", CHAT, 3)])

    # And when two senders chose the same id, both are named, and a dead-lettered fact too
    await dead_letter(publisher, "unread", effects.facts[1:], "KeyError: 'x'")
    lines = (await where(settings, "m3")).splitlines()
    assert [line.split(" at ")[0] for line in lines if line.startswith("Stored")] == [
        "Stored: message 2 of the conversation, by bob,",
        "Stored: message 3 of the conversation, by ada,",
    ]
    assert "  bob has not read it; connected to edge-2" in lines[-2]
    assert lines[-1].startswith("The fact of it is in the dead letters of unread since 2026-01-31")
