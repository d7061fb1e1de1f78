"""Error codes that need trouble: a blocked user, a broker that is away, a worker that hangs, a poisoned document."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pymongo
import pytest
import pytest_asyncio
from pydantic import SecretStr

from contracts.errors import Code
from contracts.topology import PERSISTENCE
from infra.broker.channel import Channel
from infra.broker.link import connect_once
from infra.local.stack import ROOT, Process, Stack
from infra.local.tenant import Tenant
from infra.settings import Settings
from tests.support.people import People
from tests.support.proxy import Proxy, proxy, target_of
from tests.support.scrape import metric
from tests.support.socketio_client import Client, Json
from tests.support.waiting import eventually

#: Seconds that the frail edge waits for a reply.
REPLY_TIMEOUT = 1.0


async def operator(run: Tenant, *arguments: str) -> None:
    """Run `python -m infra …` on the run's database."""
    env = {"WARREN_AMQP_URL": run.amqp_url, "WARREN_MONGO_URL": run.mongo_url, "WARREN_MONGO_DATABASE": run.database}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", *arguments, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, said.decode()


# --- forbidden --------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.FORBIDDEN)
async def test_a_blocked_user_reads_but_does_not_write(people: People, run: Tenant) -> None:
    # Given two who chat, and one of them gets blocked by an operator
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    conversation_id = await people.chat(ada, bob)
    await operator(run, "block", ada.user_id)

    # When it is in force, within seconds, and they write or start a conversation
    async def in_force() -> bool:
        message = {"conversation_id": conversation_id, "client_message_id": people.client_message_id(), "body": "?"}
        return not (await ada.ack("send_message", message))["ok"]

    await eventually(in_force, within=20, sentence="a blocked user is refused")
    await people.settle(bob)
    bob.mark()
    sent = await ada.error("send_message", conversation_id=conversation_id, client_message_id="m", body="hello")
    started = await ada.error("start_conversation", participant_ids=[cy.user_id])

    # Then both are forbidden, and the other hears nothing
    assert (sent["code"], started["code"]) == ("forbidden", "forbidden")
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

    # When they are allowed again, then what was refused can be sent with the same id
    await operator(run, "unblock", ada.user_id)
    refused = {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"}

    async def allowed() -> bool:
        return bool((await ada.ack("send_message", refused))["ok"])

    await eventually(allowed, within=20, sentence="an allowed user's message is taken")
    await bob.push("new_message", conversation_id)


# --- unavailable and timeout ------------------------------------------------------------------------------


@dataclass
class FrailEdge:
    """An edge, and the proxy between it and the broker."""

    process: Process
    broker: Proxy


@pytest_asyncio.fixture
async def frail(stack: Stack, run: Tenant) -> AsyncIterator[FrailEdge]:
    """An edge whose broker can be taken away, and that gives up waiting after a second."""
    async with proxy(target_of(run.amqp_url)) as broker:
        edge = await stack.add_edge(
            {"WARREN_AMQP_URL": broker.in_front_of(run.amqp_url), "WARREN_REPLY_TIMEOUT": str(REPLY_TIMEOUT)}
        )
        yield FrailEdge(edge, broker)
        await stack.kill(edge)


@pytest.mark.answers(Code.UNAVAILABLE)
async def test_without_a_broker_nothing_is_accepted_and_afterwards_a_snapshot_is_due(
    people: People, frail: FrailEdge
) -> None:
    # Given two who chat across two edges
    ada, bob = await people.connect(people.name("ada"), frail.process), await people.connect(people.name("bob"), 1)
    conversation_id = await people.chat(ada, bob)

    # When the first edge loses its broker
    frail.broker.cut()

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
        "find_users": {},
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
        assert (await http.get(f"{frail.process.url}/readyz")).status_code == 503
        assert (await http.get(f"{frail.process.url}/healthz")).status_code == 200

    # When the broker is back, then the sockets are told to take a snapshot, and that shows what they missed
    ada.mark()
    frail.broker.restore()
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
async def test_nobody_else_notices_that_one_edge_lost_its_broker(people: People, frail: FrailEdge) -> None:
    # Given a user on two edges, of which one loses its broker
    ada, bob = await people.connect(people.name("ada"), frail.process), await people.connect(people.name("bob"), 1)
    phone = await people.connect(ada.user_id, edge=0)
    conversation_id = await people.chat(ada, bob)
    bob.mark()
    frail.broker.cut()

    # Then their other device is told everything, at once
    for body in ("one", "two", "three"):
        message = await people.say(bob, conversation_id, body)
        assert await phone.push("new_message", conversation_id, within=5, message=message)

    # And they never were away
    await eventually(lambda: still_refused(ada), sentence="events are refused while the broker is away")
    frail.broker.restore()
    ada.mark()
    await ada.push("session_ready", within=30)
    await people.settle(bob)
    assert "presence_updated" not in bob.names()


@pytest_asyncio.fixture
async def patient(stack: Stack, run: Tenant) -> AsyncIterator[FrailEdge]:
    """An edge whose broker can be taken away, and that waits for longer than that takes."""
    async with proxy(target_of(run.amqp_url)) as broker:
        edge = await stack.add_edge({"WARREN_AMQP_URL": broker.in_front_of(run.amqp_url), "WARREN_REPLY_TIMEOUT": "30"})
        yield FrailEdge(edge, broker)
        await stack.kill(edge)


async def test_an_ack_that_was_lost_with_its_connection_is_fetched_anew(
    people: People, stack: Stack, run: Tenant, patient: FrailEdge
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
        await connect_once(Settings(amqp_url=SecretStr(run.amqp_url)), count)
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

    # Then the edge asks again once the broker is back, and the sender gets the ack that was lost
    patient.broker.restore()
    assert await sending == {"ok": True, "data": pushed}
    assert await metric(patient.process, "warren_edge_asked_again_total") >= 1


async def still_refused(client: Client) -> bool:
    """Whether a client's edge can't relay now."""
    ack = await client.ack("list_conversations")
    return not ack["ok"] and ack["error"]["code"] == "unavailable"


@pytest.mark.answers(Code.TIMEOUT)
async def test_a_worker_that_hangs_is_a_timeout_and_the_retry_says_where_it_landed(
    people: People, stack: Stack, frail: FrailEdge
) -> None:
    # Given two who chat, and workers that do not answer
    ada, bob = await people.connect(people.name("ada"), frail.process), await people.connect(people.name("bob"), 1)
    conversation_id = await people.chat(ada, bob)
    workers = [stack.workers[kind][0] for kind in ("persistence", "history", "unread")]
    for worker in workers:
        stack.pause(worker)
    try:
        # When something is sent or asked
        payload = {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"}
        asked = {
            "send_message": payload,
            "start_conversation": {"participant_ids": [bob.user_id]},
            "list_messages": {"conversation_id": conversation_id},
            "list_conversations": {},
            "find_users": {},
            "get_presence": {"user_ids": [bob.user_id]},
            "message_seen": {"conversation_id": conversation_id, "seq": 1},
        }
        errors = await asyncio.gather(*(ada.error(event, payload) for event, payload in asked.items()))
    finally:
        for worker in workers:
            stack.resume(worker)

    # Then each answer is that the outcome is unknown
    assert {(error["code"], error["retryable"]) for error in errors} == {("timeout", True)}
    # And once the workers go on, the message lands, once: the retry is answered with where
    pushed = await bob.push("new_message", conversation_id)
    acked = await ada.call("send_message", payload)
    assert acked == pushed
    assert acked["message"]["seq"] == 2
    history = await ada.call("list_messages", conversation_id=conversation_id)
    assert [message["seq"] for message in history["messages"]] == [1, 2]


async def test_typing_into_a_void_counts_as_accepted(people: People, stack: Stack) -> None:
    # Given that nobody handles typing notices for a while
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    stack.pause(stack.workers["presence"][0])
    try:
        # Then they are acked all the same: they promise nothing
        assert await ada.call("typing", conversation_id=conversation_id, typing=True) == {}
    finally:
        stack.resume(stack.workers["presence"][0])


# --- internal ---------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.INTERNAL)
async def test_a_poisoned_conversation_is_put_aside_and_harms_no_other(people: People, run: Tenant) -> None:
    # Given two conversations, and one of them gets broken in the store
    ada, bob, cy, di = await people.arrive("ada", "bob", "cy", "di")
    poisoned, healthy = await people.chat(ada, bob), await people.chat(cy, di)
    persistence = people.stack.workers["persistence"][0]
    dead_before = await metric(persistence, "warren_worker_dead_letters_total")
    with pymongo.MongoClient[dict[str, Any]](run.mongo_url) as mongo:
        conversations = mongo[run.database]["conversations"]
        intact = conversations.find_one({"_id": poisoned})
        assert intact is not None
        conversations.update_one({"_id": poisoned}, {"$set": {"participants": "poison"}})
        try:
            # When both are written to at once, so that messages for both share batches
            sending = [
                await by.emit(
                    "send_message",
                    {"conversation_id": where, "client_message_id": f"p{number}", "body": "hello"},
                )
                for number in range(5)
                for by, where in ((ada, poisoned), (cy, healthy))
            ]
            acks = await asyncio.wait_for(asyncio.gather(*sending), 60)
        finally:
            conversations.replace_one({"_id": poisoned}, intact)

    # Then the broken one answers that this is our fault, with the id under which it is in the log
    errors = [ack["error"] for ack in acks[::2]]
    assert {(error["code"], error["retryable"]) for error in errors} == {("internal", True)}
    assert all(error["details"][0]["id"] for error in errors)
    # And the healthy one is none the worse
    assert [ack["data"]["message"]["seq"] for ack in acks[1::2]] == [2, 3, 4, 5, 6]
    # And what could not be handled is kept with what an operator needs to know, each on its own
    letters = await dead_letters(run, "persistence", poisoned)
    assert sorted(letter["item"]["payload"]["client_message_id"] for letter in letters) == [f"p{n}" for n in range(5)]
    for letter in letters:
        assert letter["headers"]["x-warren-queue"] == "persistence"
        assert letter["headers"]["x-warren-reason"]
        assert letter["headers"]["x-warren-first-failure"]
        assert int(letter["headers"]["x-warren-attempts"]) > 1
    assert await metric(persistence, "warren_worker_dead_letters_total") == dead_before + 5

    # When the store is mended, then the same message goes through
    acked = await ada.call("send_message", conversation_id=poisoned, client_message_id="p0", body="hello")
    assert acked["message"]["seq"] == 2
    assert await bob.push("new_message", poisoned) == acked


async def dead_letters(run: Tenant, queue: str, conversation_id: str) -> list[Json]:
    """What lies in a dead-letter queue about one conversation; it stays there."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.post(
            f"{run.services.management_url}/api/queues/{quote(run.name)}/{queue}.dead/get",
            json={"count": 1_000, "ackmode": "ack_requeue_true", "encoding": "base64"},
        )
    found = []
    for letter in answer.raise_for_status().json():
        body = json.loads(base64.b64decode(letter["payload"]))
        assert len(body["items"]) == 1, "every dead letter holds one item"
        if body["items"][0]["payload"].get("conversation_id") == conversation_id:
            found.append({"item": body["items"][0], "headers": letter["properties"]["headers"]})
    return found
