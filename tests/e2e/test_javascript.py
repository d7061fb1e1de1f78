"""The official JavaScript client, unmodified, talks to Warren, and with Python clients on the other edge."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from contracts.errors import Code
from infra.local.paths import ROOT
from infra.local.stack import Stack
from tests.support.extra_processes import extra_edge
from tests.support.javascript_client import Driver, JavaScriptSocket, driver, end, run_node
from tests.support.people import People


@pytest_asyncio.fixture
async def javascript() -> AsyncIterator[Driver]:
    """A Node process that drives sockets of the official client."""
    async with driver() as driving:
        yield driving


async def connected(javascript: Driver, people: People, user_id: str, edge: int = 0) -> JavaScriptSocket:
    """A JavaScript socket of a user that is ready."""
    url = people.stack.edges[edge].url
    socket = await javascript.socket(user_id).connect(url, {"token": people.stack.token(user_id)})
    await socket.push("session_ready")
    return socket


async def test_every_event_is_acked_to_the_javascript_client(javascript: Driver, people: People) -> None:
    # Given a JavaScript client on one edge and a Python client on the other
    bob = await people.connect(people.name("bob"), edge=1)
    user_id = people.name("ada")
    ada = await connected(javascript, people, user_id)
    assert (await ada.push("session_ready"))["user"]["id"] == user_id

    # Then each event gets its ack, whose shape is checked
    conversation = (await ada.call("start_conversation", participant_ids=[bob.user_id]))["conversation"]
    id = conversation["id"]
    sent = await ada.call("send_message", conversation_id=id, client_message_id="js-1", body="from JavaScript ☕ 👋")
    assert sent["message"]["body"] == "from JavaScript ☕ 👋"
    assert (await ada.call("list_messages", conversation_id=id))["messages"] == [sent["message"]]
    assert [found["id"] for found in (await ada.call("list_conversations"))["conversations"]] == [id]
    assert (await ada.call("message_seen", conversation_id=id, seq=1))["unread_count"] == 0
    assert [user["id"] for user in (await ada.call("find_users", query=bob.user_id))["users"]] == [bob.user_id]
    assert (await ada.call("get_presence", user_ids=[bob.user_id]))["presence"][0]["online"] is True
    assert await ada.call("typing", conversation_id=id, typing=True) == {}
    assert (await ada.call("refresh_token", token=people.stack.token(user_id, ttl=7200)))["expires_at"]


async def test_pushes_go_both_ways_between_javascript_and_python(javascript: Driver, people: People) -> None:
    # Given a JavaScript client on each edge, and a Python client
    bob = await people.connect(people.name("bob"), edge=1)
    user_id = people.name("ada")
    ada = await connected(javascript, people, user_id)
    phone_socket = javascript.socket("phone")
    phone = await phone_socket.connect(people.stack.edges[1].url, {"token": people.stack.token(user_id)})
    await phone.push("session_ready")

    # When JavaScript writes to Python
    id = (await ada.call("start_conversation", participant_ids=[bob.user_id]))["conversation"]["id"]
    sent = await ada.call("send_message", conversation_id=id, client_message_id="js-1", body="hello, Python")

    # Then Python gets it, and so does the other JavaScript device
    assert await bob.push("new_message", id) == sent
    assert (await bob.push("conversation_updated", id))["conversation"]["unread_count"] == 1
    assert await phone.push("new_message") == sent
    assert (await phone.push("conversation_updated"))["conversation"]["created_by"] == user_id

    # When Python types, reads and answers
    await bob.call("typing", conversation_id=id, typing=True)
    await bob.call("message_seen", conversation_id=id, seq=1)
    answer = await people.say(bob, id, "hello, JavaScript")

    # Then both JavaScript devices get all of that
    for socket in (ada, phone):
        assert await socket.push("typing") == {"conversation_id": id, "user_id": bob.user_id, "typing": True}
        assert (await socket.push("message_seen"))["last_read_seq"] == 1
        number = 1 if socket is ada else 2
        assert (await socket.push("new_message", number))["message"] == answer
        assert (await socket.push("unread_updated"))["unread_count"] == 1


@pytest.mark.answers(Code.UNAUTHORIZED, Code.TOKEN_EXPIRED)
async def test_a_refused_connection_is_a_connect_error_with_its_data(javascript: Driver, people: People) -> None:
    # Given tokens of which none is good
    url = people.stack.edges[0].url
    expired = people.stack.token(people.name("ada"), ttl=-5)
    for auth, code in (
        ({"token": "nonsense"}, "unauthorized"),
        ({}, "unauthorized"),
        ({"token": expired}, "token_expired"),
    ):
        # When the client connects with one, then it is told why not
        socket = await javascript.socket(people.name()).connect(url, auth)
        error = await socket.until("connect_error")
        assert error["message"] == code
        assert error["data"] == {"code": code, "message": error["data"]["message"], "retryable": False}
        assert error["data"]["message"]
        people.saw(code)


@pytest.mark.answers(Code.INVALID_PAYLOAD, Code.UNKNOWN_EVENT, Code.NOT_FOUND, Code.USER_NOT_FOUND)
async def test_errors_come_as_acks(javascript: Driver, people: People) -> None:
    ada = await connected(javascript, people, people.name("ada"))
    nowhere = "7e57ab1e-0000-5000-8000-000000000000"
    for event, payload, code in (
        ("send_message", {"body": 1}, "invalid_payload"),
        ("no_such_event", {}, "unknown_event"),
        ("list_messages", {"conversation_id": nowhere}, "not_found"),
        ("start_conversation", {"participant_ids": [people.name("nobody")]}, "user_not_found"),
    ):
        ack = await ada.ack(event, payload)
        assert ack["error"]["code"] == code


async def test_the_client_comes_back_by_itself_when_its_edge_restarts(
    javascript: Driver, people: People, stack: Stack
) -> None:
    # Given a JavaScript client on an edge of its own, in a chat with a Python client elsewhere
    async with extra_edge(stack, {"WARREN_DRAIN_SECONDS": "0.5"}) as edge:
        bob = await people.connect(people.name("bob"), edge=1)
        user_id = people.name("ada")
        ada = await javascript.socket(user_id).connect(
            edge.url, {"token": stack.token(user_id)}, reconnectionDelay=100, reconnectionDelayMax=500
        )
        await ada.push("session_ready")
        id = (await ada.call("start_conversation", participant_ids=[bob.user_id]))["conversation"]["id"]
        await ada.call("send_message", conversation_id=id, client_message_id="before", body="before")

        # When that edge restarts
        restarting = asyncio.create_task(stack.restart(edge))

        # Then the client is told, loses its connection, and keeps trying
        assert "reconnect_after_ms" in await ada.push("server_draining")
        lost = await ada.until("disconnect")
        assert lost["active"] is True, f"the client gave up: {lost['reason']}"
        missed = await people.say(bob, id, "missed")

        # And it is back by itself, told to take a snapshot, and that has what it missed
        await restarting
        await ada.push("session_ready", 2, within=30)
        page = await ada.call("list_messages", conversation_id=id, after_seq=1)
        assert page["messages"] == [missed]
        # And all is as before
        after = await people.say(bob, id, "after")
        await ada.until("push", event="new_message", payloads=[{"message": after}])
        await ada.disconnect()
        await ada.until("disconnect", 2)


async def test_a_client_whose_token_expires_is_told_not_to_come_back_with_it(
    javascript: Driver, people: People
) -> None:
    user_id = people.name("ada")
    ada = await javascript.socket(user_id).connect(
        people.stack.edges[0].url, {"token": people.stack.token(user_id, ttl=5)}
    )
    await ada.push("session_ready")
    lost = await ada.until("disconnect")
    assert (lost["reason"], lost["active"]) == ("io server disconnect", False)


async def test_the_readmes_client_works_when_pasted(people: People) -> None:
    # Given the README's JavaScript, with the ports of these edges
    (code,) = [
        block
        for block in re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "socket.io-client" in block
    ]
    for port, edge in zip(("8001", "8002"), people.stack.edges[:2], strict=True):
        assert port in code
        code = code.replace(port, str(edge.port))

    # When it is given to node
    process = await run_node("-")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(code.encode())
    process.stdin.close()

    # Then both users are pushed what the other does, through two edges
    awaited = {
        'ada -> {"ok":true,',
        "ada <- message_seen {",
        "grace <- conversation_updated {",
        'grace <- new_message {"message":{',
        "grace <- unread_updated {",
    }
    async with asyncio.timeout(30):
        while awaited:
            line = (await process.stdout.readline()).decode()
            assert line, await end(process)
            awaited -= {start for start in awaited if line.startswith(start)}
    process.terminate()
    assert not await end(process)
