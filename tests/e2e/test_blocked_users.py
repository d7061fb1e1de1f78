"""Users whom an operator has blocked: they read, and write nothing."""

import asyncio
import sys

import pytest

from contracts.errors import Code
from infra.local.paths import ROOT
from infra.local.tenant import Tenant
from tests.support.people import People
from tests.support.waiting import eventually


async def operator(tenant: Tenant, *arguments: str) -> None:
    """Run `python -m infra …` on the tenant's database."""
    env = {
        "WARREN_AMQP_URL": tenant.amqp_url,
        "WARREN_MONGO_URL": tenant.mongo_url,
        "WARREN_MONGO_DATABASE": tenant.database,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", *arguments, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, said.decode()


@pytest.mark.answers(Code.FORBIDDEN)
async def test_a_blocked_user_reads_but_does_not_write(people: People, tenant: Tenant) -> None:
    # Given two who chat, and one of them gets blocked by an operator
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    conversation_id = await people.chat(ada, bob)
    await operator(tenant, "block", ada.user_id)

    # When it is in force, within seconds, and they write or start a conversation
    async def in_force() -> bool:
        message = {"conversation_id": conversation_id, "client_message_id": people.client_message_id(), "body": "?"}
        return not (await ada.ack("send_message", message))["ok"]

    await eventually(in_force, within=20, sentence="a blocked user is refused")
    await people.settle(bob)
    bob.mark()
    sent = await ada.error("send_message", conversation_id=conversation_id, client_message_id="m", body="hello")
    started = await ada.error("start_conversation", participant_ids=[cy.user_id])

    # Then both are forbidden, and so are typing notices
    assert (sent["code"], started["code"]) == ("forbidden", "forbidden")

    async def may_not_type() -> bool:
        return not (await ada.ack("typing", {"conversation_id": conversation_id, "typing": True}))["ok"]

    await eventually(may_not_type, within=20, sentence="a blocked user's typing is refused")
    bob.mark()
    typing = await ada.error("typing", conversation_id=conversation_id, typing=True)
    assert typing["code"] == "forbidden"
    # And the other hears nothing
    await people.settle(bob)
    assert bob.names(conversation_id) == []
    # While reading works, on a new connection too, and whoever is not blocked writes
    assert (await ada.call("list_messages", conversation_id=conversation_id))["messages"]
    again = await people.connect(ada.user_id, edge=1)
    assert (await again.call("message_seen", conversation_id=conversation_id, seq=1))["unread_count"] == 0
    assert (await again.error("start_conversation", participant_ids=[cy.user_id]))["code"] == "forbidden"
    await people.say(bob, conversation_id)
    # And a stranger's conversation is still not found: being blocked says nothing about it
    others = await people.start(bob, cy)
    error = await ada.error("send_message", conversation_id=others, client_message_id="m", body="hello")
    assert error["code"] == "not_found"
    assert (await ada.error("typing", conversation_id=others, typing=True))["code"] == "not_found"

    # When they are allowed again, then what was refused can be sent with the same id
    await operator(tenant, "unblock", ada.user_id)
    refused = {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"}

    async def allowed() -> bool:
        return bool((await ada.ack("send_message", refused))["ok"])

    await eventually(allowed, within=20, sentence="an allowed user's message is taken")
    await bob.push("new_message", conversation_id)
