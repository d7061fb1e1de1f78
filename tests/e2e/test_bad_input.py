"""Bad input: each is answered with its code or closed, is counted, and costs the others nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contracts.errors import Code
from infra.local.stack import NO_RATE_LIMITS, Stack
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.raw_websocket import raw_socket
from tests.support.scrape import metric
from tests.support.socketio_client import Json
from tests.support.waiting import eventually

#: Bytes of one event, and of a frame that is read to the end at all.
EVENT_LIMIT, FRAME_LIMIT = 65_536, 4 * 65_536


@asynccontextmanager
async def bystanders(people: People) -> AsyncIterator[None]:
    """Two people on the abused edge who chat during the block, and must not notice anything."""
    ada, bob = await people.arrive("ada", "bob", edges=(0, 0))
    conversation_id = await people.chat(ada, bob)
    over = asyncio.Event()

    async def chat() -> int:
        said = 0
        while not (over.is_set() and said):
            message = await people.say(ada, conversation_id)
            await bob.push("new_message", conversation_id, within=5, message=message)
            said += 1
            await asyncio.wait([asyncio.ensure_future(over.wait())], timeout=0.1)
        return said

    chatting = asyncio.create_task(chat())
    try:
        yield
    finally:
        over.set()
        assert await asyncio.wait_for(chatting, 30) > 0
    assert ada.closed is None
    assert bob.closed is None


# --- Payloads ---------------------------------------------------------------------------------------------

OPERATOR = {"$gt": ""}
ID = "7e57ab1e-0000-5000-8000-000000000000"
SEND: dict[str, Json] = {"conversation_id": ID, "client_message_id": "m", "body": "hello"}

#: Each event with payloads that do not match, and the field that is to be named.
WRONG: list[tuple[str, Json, str]] = [
    ("send_message", {}, "conversation_id"),
    ("send_message", {**SEND, "body": None}, "body"),
    ("send_message", {**SEND, "body": 7}, "body"),
    ("send_message", {**SEND, "body": ["a"]}, "body"),
    ("send_message", {**SEND, "body": OPERATOR}, "body"),
    ("send_message", {**SEND, "conversation_id": OPERATOR}, "conversation_id"),
    ("send_message", {**SEND, "conversation_id": ""}, "conversation_id"),
    ("send_message", {**SEND, "conversation_id": "x" * 5_000}, "conversation_id"),
    ("send_message", {**SEND, "conversation_id": "a\u0000b"}, "conversation_id"),
    ("send_message", {**SEND, "conversation_id": [ID]}, "conversation_id"),
    ("send_message", {**SEND, "client_message_id": OPERATOR}, "client_message_id"),
    ("send_message", {**SEND, "extra": 1}, "extra"),
    ("send_message", {**SEND, "__proto__": {}}, "__proto__"),
    ("start_conversation", {}, "participant_ids"),
    ("start_conversation", {"participant_ids": "bob"}, "participant_ids"),
    ("start_conversation", {"participant_ids": OPERATOR}, "participant_ids"),
    ("start_conversation", {"participant_ids": [OPERATOR]}, "participant_ids.0"),
    ("start_conversation", {"participant_ids": [None]}, "participant_ids.0"),
    ("start_conversation", {"participant_ids": ["x" * 129]}, "participant_ids.0"),
    ("start_conversation", {"participant_ids": ["b"] * 500}, "participant_ids"),
    ("start_conversation", {"participant_ids": ["b"], "title": 1}, "title"),
    ("start_conversation", {"participant_ids": ["b"], "title": " "}, "title"),
    ("start_conversation", {"participant_ids": ["b"], "title": "x" * 201}, "title"),
    ("start_conversation", {"participant_ids": ["b"], "kind": "group"}, "kind"),
    ("message_seen", {"conversation_id": ID}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": 0}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": -1}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": 1.0}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": "1"}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": True}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": 2**53}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": 10**30}, "seq"),
    ("message_seen", {"conversation_id": ID, "seq": OPERATOR}, "seq"),
    ("list_messages", {"conversation_id": OPERATOR}, "conversation_id"),
    ("list_messages", {"conversation_id": ID, "before_seq": 0}, "before_seq"),
    ("list_messages", {"conversation_id": ID, "after_seq": -1}, "after_seq"),
    ("list_messages", {"conversation_id": ID, "after_seq": OPERATOR}, "after_seq"),
    ("list_conversations", {"cursor": OPERATOR}, "cursor"),
    ("list_conversations", {"cursor": "x" * 300}, "cursor"),
    ("find_users", {"query": OPERATOR}, "query"),
    ("find_users", {"query": "x" * 101}, "query"),
    ("find_users", {"online_only": "yes"}, "online_only"),
    ("find_users", {"online_only": 1}, "online_only"),
    ("list_participants", {}, "conversation_id"),
    ("list_participants", {"conversation_id": ID, "cursor": OPERATOR}, "cursor"),
    ("get_users", {"user_ids": []}, "user_ids"),
    ("get_presence", {}, "user_ids"),
    ("get_presence", {"user_ids": OPERATOR}, "user_ids"),
    ("typing", {"conversation_id": ID}, "typing"),
    ("typing", {"conversation_id": ID, "typing": 1}, "typing"),
    ("refresh_token", {}, "token"),
    ("refresh_token", {"token": None}, "token"),
    ("refresh_token", {"token": OPERATOR}, "token"),
]


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_a_payload_that_does_not_match_is_refused_by_the_name_of_its_field(people: People, stack: Stack) -> None:
    (mallory,) = await people.arrive("mallory")
    before = await metric(stack.edges[0], "warren_edge_acks_total", outcome="invalid_payload")
    for event, payload, field in WRONG:
        error = await mallory.error(event, payload)
        assert error["code"] == "invalid_payload", (event, payload)
        assert field in [detail["field"] for detail in error["details"]], (event, payload, error)
    after = await metric(stack.edges[0], "warren_edge_acks_total", outcome="invalid_payload")
    assert after == before + len(WRONG)


@pytest.mark.answers(Code.INVALID_PAYLOAD)
@pytest.mark.parametrize("event", ["send_message", "list_conversations", "typing", "refresh_token"])
async def test_what_is_no_object_is_no_payload(people: People, event: str) -> None:
    (mallory,) = await people.arrive("mallory")
    strange: list[tuple[Json, ...]] = [(None,), (1,), ("text",), (True,), ([],), ([{}],), (OPERATOR,)]
    for arguments in [*strange, ({}, {}), ({}, None), ({},) * 20]:
        ack = await mallory.ack(event, *arguments)
        assert ack["error"]["code"] == "invalid_payload", arguments


async def test_an_event_that_needs_nothing_may_come_without_a_payload(people: People) -> None:
    (ada,) = await people.arrive("ada")
    assert (await ada.ack("list_conversations"))["ok"] is True
    assert (await ada.ack("find_users", {}))["ok"] is True


@pytest.mark.answers(Code.NOT_FOUND)
async def test_an_id_that_looks_like_an_operator_is_only_text(people: People) -> None:
    # Given that all ids are text, then these find nothing, whatever a store would make of them
    (mallory,) = await people.arrive("mallory")
    for text in ('{"$gt": ""}', "$ne", "$where: 1", "a.b", "__proto__", "null", "*", "#", "' OR 1=1 --"):
        error = await mallory.error("list_messages", conversation_id=text)
        assert error["code"] == "not_found", text
        assert (await mallory.error("start_conversation", participant_ids=[text]))["code"] == "user_not_found"
        assert (await mallory.call("get_presence", user_ids=[text]))["presence"][0]["online"] is False
        assert (await mallory.call("find_users", query=f"{text}{people.name()}"))["users"] == []


# --- Event names ------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.UNKNOWN_EVENT)
async def test_names_that_are_no_event_of_a_client(people: People, stack: Stack) -> None:
    # Given a client that sends names which libraries keep for themselves, names of pushes, and worse
    mallory = await people.connect(people.name("mallory"))
    names = ["connect", "disconnect", "connect_error", "disconnecting", "newListener", "removeListener", "message"]
    names += ["ping", "error", "new_message", "session_ready", "session.close", "sessions.drop", "*", "", "__init__"]
    names += ["send_message ", "SEND_MESSAGE", "\u0000", "x" * 1_000]
    before = await metric(stack.edges[0], "warren_edge_events_total", event="unknown")
    async with raw_socket(stack.edges[0], stack.token(people.name("mallory"))) as raw:
        for number, name in enumerate(names):
            await raw.send(f"42{number}" + json.dumps([name, {"REMOTE_ADDR": "forged"}, {"token": "forged"}]))
            answer = await raw.ack(number)
            assert answer["error"]["code"] == "unknown_event", name
        # And names that are not even text
        for number, strange in enumerate((None, 1, True, {}, [], {"$gt": ""}, ["send_message"])):
            await raw.send(f"429{number}" + json.dumps([strange, {}]))
            assert (await raw.ack(90 + number))["error"]["code"] == "unknown_event", strange
        # Then it is still connected, as itself, and can chat
        await raw.send('42999["list_conversations"]')
        assert (await raw.ack(999))["ok"] is True
    assert await metric(stack.edges[0], "warren_edge_events_total", event="unknown") == before + len(names) + 7
    # And the ordinary library gets the same answer
    assert (await mallory.error("no_such_event"))["code"] == "unknown_event"


async def test_a_forged_disconnect_ends_nobodys_session(people: People, stack: Stack) -> None:
    ada, mallory = await people.arrive("ada", "mallory", edges=(0, 0))
    conversation_id = await people.chat(ada, mallory)
    for event in ("disconnect", "connect"):
        assert (await mallory.error(event, payload="transport close"))["code"] == "unknown_event"
    message = await people.say(ada, conversation_id)
    assert await mallory.push("new_message", conversation_id, message=message)


# --- Sizes ------------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.TOO_LARGE)
async def test_an_event_over_the_limit_is_too_large_and_the_socket_stays(people: People) -> None:
    (mallory,) = await people.arrive("mallory")
    for size in (EVENT_LIMIT, 2 * EVENT_LIMIT, FRAME_LIMIT - 1_000):
        error = await mallory.error("find_users", query="x" * size)
        assert error["code"] == "too_large", size
    # Bytes count, not characters
    error = await mallory.error("find_users", query="\N{OTTER}" * (EVENT_LIMIT // 4))
    assert error["code"] == "too_large"
    assert (await mallory.ack("list_conversations"))["ok"] is True


async def test_a_frame_of_ten_megabytes_is_not_even_read(people: People, stack: Stack) -> None:
    async with bystanders(people):
        for frame in ("420" + json.dumps(["find_users", {"query": "x" * 10_000_000}]), b"x" * 10_000_000):
            async with raw_socket(stack.edges[0], stack.token(people.name("mallory"))) as raw:
                await raw.send(frame)
                await raw.until_closed()


# --- Packets ----------------------------------------------------------------------------------------------

DEEP = "[" * 20_000 + "]" * 20_000

#: Frames that no well-behaved client sends.
BAD_FRAMES: dict[str, list[str | bytes]] = {
    "binary": [b"\x04binary"],
    "an announced attachment": ['451-["send_message",{"_placeholder":true,"num":0}]'],
    "a bomb of attachments": ['451000000000-["send_message",{"_placeholder":true,"num":0}]', *[b"x" * 1_000] * 50],
    "a binary ack": ['461-0[{"_placeholder":true,"num":0}]'],
    "no JSON": ["420[nonsense"],
    "half of JSON": ['420["send_message",{"body":"'],
    "no array": ['420{"a":1}'],
    "an empty array": ["420[]"],
    "NaN": ['420["message_seen",{"seq":NaN}]'],
    "deep JSON": [f'420["send_message",{DEEP}]'],
    "another namespace": ['42/admin,0["send_message",{}]'],
    "an unknown packet": ["49"],
    "nothing": ["4"],
    "an unknown frame": ["7"],
    "an empty frame": [""],
    "a second open": ["0{}"],
    "an upgrade": ["5"],
    "a huge ack id": ["42" + "9" * 500 + '["list_conversations"]'],
    "an ack that nobody asked for": ["430[1]", "431[]", "43[]", "431x"],
}


@pytest.mark.parametrize("what", BAD_FRAMES)
async def test_a_bad_frame_is_refused_or_closed_and_harms_nobody(people: People, stack: Stack, what: str) -> None:
    edge = stack.edges[0]
    ada, bob = await people.arrive("ada", "bob", edges=(0, 0))
    conversation_id = await people.chat(ada, bob)
    before = await metric(edge, "warren_edge_bad_packets_total")
    async with raw_socket(edge, stack.token(people.name("mallory"))) as raw:
        # When it comes, followed by a good event
        for frame in BAD_FRAMES[what]:
            await raw.send(frame)
        await raw.send('42777["list_conversations"]')

        # Then the socket is closed, and that is counted; or it goes on as if nothing had been
        try:
            answer = await raw.ack(777)
            assert answer["ok"] is True
        except AssertionError:
            await raw.until_closed()
            assert await metric(edge, "warren_edge_bad_packets_total") == before + 1
    # And others chat
    message = await people.say(ada, conversation_id)
    assert await bob.push("new_message", conversation_id, message=message)


@pytest.mark.parametrize("frame", ['42["send_message",{}]', "40", "41", "2probe", "3", "451-[]", "4" + "0" * 70_000])
async def test_who_has_shown_no_token_gets_nothing(people: People, stack: Stack, frame: str) -> None:
    async with raw_socket(stack.edges[0], None) as raw:
        await raw.send(frame)
        await raw.send('420["list_conversations"]')
        await raw.send("40{}")
        # Whatever was said before, the answer to a connect without a token is that; or the socket is closed
        try:
            refused = await raw.receive("44")
            assert json.loads(refused[2:])["data"]["code"] == "unauthorized"
        except AssertionError:
            await raw.until_closed()


async def test_invalid_utf_8_closes_the_socket(people: People, stack: Stack) -> None:
    async with bystanders(people):
        for bad in (b'420["find_users",{"query":"\xff\xfe"}]', b"\xc3\x28", b"4\xed\xa0\x80"):
            async with raw_socket(stack.edges[0], stack.token(people.name("mallory"))) as raw:
                await raw.connection.send(bad, text=True)
                await raw.until_closed()


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_half_a_surrogate_pair_does_not_cost_a_client_its_connection(people: People) -> None:
    # Given that JavaScript cuts an emoji in half without noticing, and writes the half as an escape
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)

    # When such a body is sent
    error = await ada.error("send_message", conversation_id=conversation_id, client_message_id="m", body="\ud83d")

    # Then it is refused like any body that cannot be, and the socket goes on
    assert error["code"] == "invalid_payload"
    assert await people.say(ada, conversation_id)


async def test_an_event_without_an_ack_id_is_handled_all_the_same(people: People, stack: Stack) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    payload = {"conversation_id": conversation_id, "client_message_id": "m", "body": "no ack wanted"}
    async with raw_socket(stack.edges[0], stack.token(ada.user_id)) as raw:
        await raw.send("42" + json.dumps(["send_message", payload]))
        await raw.send("42" + json.dumps(["nonsense"]))
        message = (await bob.push("new_message", conversation_id))["message"]
    assert message["body"] == "no ack wanted"


# --- Floods -----------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.RATE_LIMITED)
async def test_a_flood_is_rate_limited_and_says_when_to_come_back(people: People, stack: Stack) -> None:
    # Given a user with two sockets on one edge, which share their rate
    mallory = await people.connect(people.name("mallory"))
    phone = await people.connect(mallory.user_id)
    before = await metric(stack.edges[0], "warren_edge_acks_total", outcome="rate_limited")
    async with bystanders(people):
        # When they send 400 events at once
        flood = [await client.emit("no_such_event") for _ in range(200) for client in (mallory, phone)]
        acks = await asyncio.wait_for(asyncio.gather(*flood), 30)

        # Then a burst is taken, and the rest is told to wait for a moment
        limited = [ack["error"] for ack in acks if ack["error"]["code"] == "rate_limited"]
        assert 100 <= len(acks) - len(limited) < 300
        assert all(0 < error["retry_after_ms"] <= 1_000 for error in limited)
        assert {ack["error"]["code"] for ack in acks} == {"rate_limited", "unknown_event"}
        assert await metric(stack.edges[0], "warren_edge_acks_total", outcome="rate_limited") == before + len(limited)

        # And who comes back after that is served
        async def served() -> bool:
            return bool((await mallory.ack("list_conversations"))["ok"])

        await eventually(served, sentence="somebody who waited is served again")


@pytest.mark.slow
async def test_acks_and_pushes_that_are_never_collected_cost_one_socket(people: People, stack: Stack) -> None:
    # Given an edge that keeps little for a socket that does not read, without a rate limit
    narrow = {"WARREN_SOCKET_BUFFER_BYTES": "65536", **NO_RATE_LIMITS}
    async with extra_edge(stack, narrow) as edge:
        ada, bob = await people.connect(people.name("ada"), edge), await people.connect(people.name("bob"), edge)
        mallory = await people.connect(people.name("mallory"), edge)
        conversation_id, long = await people.chat(ada, bob), await people.chat(ada, mallory)
        for _ in range(14):
            await people.say(ada, long, "x" * 4_000)
        page = json.dumps(["list_messages", {"conversation_id": long}])
        async with raw_socket(edge, stack.token(mallory.user_id)) as raw:
            # When somebody asks without end for answers of 60 KB, and reads none
            raw.connection.transport.pause_reading()

            async def flood() -> None:
                number = 0
                while True:
                    await raw.connection.send(f"42{number}{page}")
                    number += 1
                    await asyncio.sleep(0.001)

            flooding = asyncio.create_task(flood())

            # Then they are cut off
            async def cut() -> bool:
                return await metric(edge, "warren_edge_slow_sockets_total") == 1

            await eventually(cut, within=30, sentence="a socket that does not read is cut off")
            flooding.cancel()
            await asyncio.wait([flooding])
            raw.connection.transport.abort()
        # And nobody else notices
        message = await people.say(ada, conversation_id)
        assert await bob.push("new_message", conversation_id, message=message)
