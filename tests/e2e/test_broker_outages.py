"""An edge whose broker is away: what is refused, what is asked again, and who notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from contracts.errors import Code
from contracts.topology import PERSISTENCE
from infra.broker.channel import Channel
from infra.broker.link import connect_once
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.local.tenant import Tenant
from infra.settings import Settings
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.proxy import Proxy, proxy, target_of
from tests.support.scrape import metric
from tests.support.socketio_client import Client, Json
from tests.support.waiting import eventually


@dataclass
class CutOffEdge:
    """An edge, and the proxy between it and the broker."""

    process: Process
    broker: Proxy


@asynccontextmanager
async def edge_behind_proxy(stack: Stack, tenant: Tenant, reply_timeout: float) -> AsyncIterator[CutOffEdge]:
    """An edge whose broker can be taken away, and that waits so many seconds for replies."""
    async with proxy(target_of(tenant.amqp_url)) as broker:
        env = {"WARREN_AMQP_URL": broker.in_front_of(tenant.amqp_url), "WARREN_REPLY_TIMEOUT": str(reply_timeout)}
        async with extra_edge(stack, env) as edge:
            yield CutOffEdge(edge, broker)


@pytest_asyncio.fixture
async def impatient(stack: Stack, tenant: Tenant) -> AsyncIterator[CutOffEdge]:
    """An edge that gives up waiting long before its broker is back."""
    async with edge_behind_proxy(stack, tenant, 1) as edge:
        yield edge


@pytest_asyncio.fixture
async def patient(stack: Stack, tenant: Tenant) -> AsyncIterator[CutOffEdge]:
    """An edge that waits for longer than its broker is away."""
    async with edge_behind_proxy(stack, tenant, 30) as edge:
        yield edge


async def still_refused(client: Client) -> bool:
    """Whether a client's edge can't relay now."""
    ack = await client.ack("list_conversations")
    return not ack["ok"] and ack["error"]["code"] == "unavailable"


@pytest.mark.answers(Code.UNAVAILABLE)
async def test_without_a_broker_nothing_is_accepted_and_afterwards_a_snapshot_is_due(
    people: People, impatient: CutOffEdge
) -> None:
    # Given two who chat across two edges
    ada, bob = await people.connect(people.name("ada"), impatient.process), await people.connect(people.name("bob"), 1)
    conversation_id = await people.chat(ada, bob)

    # When the first edge loses its broker
    impatient.broker.cut()

    # Then its sockets stay, and whatever they send is refused for now
    async def refused() -> bool:
        return bool((await ada.ack("list_conversations"))["ok"] is False)

    await eventually(refused, sentence="events are refused while the broker is away")
    events: dict[str, Json] = {
        "send_message": {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"},
        "start_conversation": {"participant_ids": [bob.user_id]},
        "message_seen": {"conversation_id": conversation_id, "seq": 1},
        "list_messages": {"conversation_id": conversation_id},
        "list_conversations": {},
        "list_participants": {"conversation_id": conversation_id},
        "find_users": {},
        "get_users": {"user_ids": [bob.user_id]},
        "get_presence": {"user_ids": [bob.user_id]},
        "typing": {"conversation_id": conversation_id, "typing": True},
    }
    for event, payload in events.items():
        error = await ada.error(event, payload)
        assert (error["code"], error["retryable"]) == ("unavailable", True), event
    # And what the edge decides by itself still gets its answer
    assert (await ada.error("no_such_event"))["code"] == "unknown_event"
    assert (await ada.error("send_message", {}))["code"] == "invalid_payload"
    # And what others write meanwhile cannot reach them
    missed = await people.say(bob, conversation_id, "missed")
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{impatient.process.url}/readyz")).status_code == 503
        assert (await http.get(f"{impatient.process.url}/healthz")).status_code == 200

    # When the broker is back, then the sockets are told to take a snapshot, and that shows what they missed
    ada.mark()
    impatient.broker.restore()
    await ada.push("session_ready", within=30)
    page = await ada.call("list_messages", conversation_id=conversation_id, after_seq=1)
    assert page["messages"] == [missed]
    # And what was refused was not accepted: the same message is new now
    acked = await ada.call("send_message", events["send_message"])
    assert acked["message"]["seq"] == 3
    # And pushes flow both ways again
    assert await bob.push("new_message", conversation_id, message=acked["message"])
    back = await people.say(bob, conversation_id)
    assert await ada.push("new_message", conversation_id, message=back)
    assert ada.closed is None


@pytest.mark.answers(Code.UNAVAILABLE)
async def test_nobody_else_notices_that_one_edge_lost_its_broker(people: People, impatient: CutOffEdge) -> None:
    # Given a user on two edges, of which one loses its broker
    ada, bob = await people.connect(people.name("ada"), impatient.process), await people.connect(people.name("bob"), 1)
    phone = await people.connect(ada.user_id, edge=0)
    conversation_id = await people.chat(ada, bob)
    bob.mark()
    impatient.broker.cut()

    # Then their other device is told everything, at once
    for body in ("one", "two", "three"):
        message = await people.say(bob, conversation_id, body)
        assert await phone.push("new_message", conversation_id, within=5, message=message)

    # And they never were away
    await eventually(lambda: still_refused(ada), sentence="events are refused while the broker is away")
    impatient.broker.restore()
    ada.mark()
    await ada.push("session_ready", within=30)
    await people.settle(bob)
    assert "presence_updated" not in bob.names()


async def test_an_ack_that_was_lost_with_its_connection_is_fetched_anew(
    people: People, stack: Stack, tenant: Tenant, patient: CutOffEdge
) -> None:
    # Given two who chat, and a message that the broker has and no worker
    ada, bob = await people.connect(people.name("ada"), patient.process), await people.connect(people.name("bob"), 1)
    conversation_id = await people.chat(ada, bob)
    worker = stack.workers["persistence"][0]
    await stack.terminate(worker)
    payload = {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"}
    sending = asyncio.create_task(ada.ack("send_message", payload, within=40))
    ready: list[int] = []

    async def count(channel: Channel) -> None:
        ready.append(await channel.count_ready(PERSISTENCE.name))

    async def accepted() -> bool:
        await connect_once(Settings(amqp_url=SecretStr(tenant.amqp_url)), count)
        return ready[-1] == 1

    async def cut_off() -> bool:
        return await metric(patient.process, "warren_broker_up") == 0

    # When it is stored while the sender's edge has no broker, so that its ack is lost
    try:
        await eventually(accepted, sentence="the message is in its queue")
        patient.broker.cut()
        await eventually(cut_off, sentence="the edge has lost its broker")
    finally:
        await stack.restart(worker)
    pushed = await bob.push("new_message", conversation_id)
    assert not sending.done()

    # Then the edge resends the command once the broker is back, and the sender gets the ack that was lost
    patient.broker.restore()
    assert await sending == {"ok": True, "data": pushed}
    assert await metric(patient.process, "warren_edge_resent_commands_total") >= 1
