"""The protocol's ten promises, as far as a client can tell.

7 is in test_ghost_chats.py, 8 in test_hijacked_screens.py, 9 in test_presence.py.
"""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from contracts.errors import Code
from infra.local.stack import Stack
from tests.support.extra_processes import extra_worker
from tests.support.people import People
from tests.support.socketio_client import Client, Json


async def history(client: Client, conversation_id: str) -> list[Json]:
    """All messages of a conversation, read a page at a time."""
    messages: list[Json] = []
    more = True
    while more:
        after = messages[-1]["seq"] if messages else 0
        page = await client.call("list_messages", conversation_id=conversation_id, after_seq=after, limit=100)
        messages += page["messages"]
        more = page["has_more"]
    return messages


async def test_promise_1_what_was_acked_is_in_history(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    for _ in range(10):
        message = await people.say(ada, conversation_id)
        newest = await bob.call("list_messages", conversation_id=conversation_id, limit=1)
        assert newest["messages"] == [message]


async def test_promise_2_a_message_sent_50_times_at_once_over_two_edges_is_stored_once(
    people: People,
) -> None:
    # Given a user on both edges
    ada, bob = await people.arrive("ada", "bob")
    phone = await people.connect(ada.user_id, edge=1)
    conversation_id = await people.chat(ada, bob)

    # When they send the same message 50 times at once
    payload = {"conversation_id": conversation_id, "client_message_id": "once", "body": "hello"}
    sending = [await client.emit("send_message", payload) for _ in range(25) for client in (ada, phone)]
    acks = await asyncio.gather(*sending)

    # Then every ack tells of the same message, and it is there once
    first = acks[0]
    assert first["ok"] is True
    assert acks == [first] * 50
    assert await history(bob, conversation_id) == [(await history(ada, conversation_id))[0], first["data"]["message"]]
    await people.settle(bob)
    messages = [push.payload["message"] for push in bob.since_mark(conversation_id) if push.name == "new_message"]
    assert messages == [first["data"]["message"]]
    counts = [push.payload for push in bob.since_mark(conversation_id) if push.name == "unread_updated"]
    assert {count["unread_count"] for count in counts} == {2}

    # And much later, after others have written, from a new connection, and even with another body
    await people.say(bob, conversation_id)
    again = await people.connect(ada.user_id)
    assert await again.ack("send_message", {**payload, "body": "something else"}) == first


async def test_promise_2_a_client_message_id_is_unique_per_sender_and_conversation_only(people: People) -> None:
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    with_bob, with_cy = await people.chat(ada, bob), await people.chat(ada, cy)
    sent = [
        (await by.call("send_message", conversation_id=where, client_message_id="same", body="hello"))["message"]
        for by, where in ((ada, with_bob), (bob, with_bob), (ada, with_cy))
    ]
    assert [message["seq"] for message in sent] == [2, 3, 2]
    assert len({message["id"] for message in sent}) == 3


@pytest.mark.slow
async def test_promises_3_and_4_order_is_dense_and_each_senders_own_under_competing_workers(
    people: People, stack: Stack
) -> None:
    # Given four persistence workers that take turns, before any other, and ten people in a group, on two edges
    in_turns = {"WARREN_WORKER_PRIORITY": f"{(1 << 31) - 1}"}
    async with AsyncExitStack() as held:
        more = [extra_worker(stack, "persistence", in_turns) for _ in range(4)]
        await asyncio.gather(*(held.enter_async_context(worker) for worker in more))
        senders = await people.arrive(*["sender"] * 10)
        conversation_id = await people.start(senders[0], *senders[1:])
        await people.say(senders[0], conversation_id)

        # When all of them write 20 messages without waiting for acks
        async def pipeline(client: Client) -> list[Json]:
            sending = [
                await client.emit(
                    "send_message",
                    {"conversation_id": conversation_id, "client_message_id": f"n{number}", "body": f"{number}"},
                )
                for number in range(20)
            ]
            return [ack["data"]["message"] for ack in await asyncio.wait_for(asyncio.gather(*sending), 60)]

        acked = await asyncio.gather(*(pipeline(client) for client in senders))

    # Then each sender's messages ascend in the order in which they were sent
    for messages in acked:
        seqs = [message["seq"] for message in messages]
        assert seqs == sorted(seqs)
        assert [message["body"] for message in messages] == [f"{number}" for number in range(20)]
    # And history is 1, 2, 3 … without a gap, the same for everyone, and what the acks said
    views = [await history(client, conversation_id) for client in (senders[0], senders[1])]
    assert [message["seq"] for message in views[0]] == list(range(1, 202))
    assert views[0] == views[1]
    told = sorted((message for messages in acked for message in messages), key=lambda message: int(message["seq"]))
    assert views[0][1:] == told


async def test_promise_4_a_hundred_messages_that_one_socket_sends_at_once_stay_in_order(people: People) -> None:
    # Given a socket that has sent nothing yet, in a conversation that somebody else started
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.start(bob, ada)
    await people.say(bob, conversation_id)

    # When it sends as many messages as a burst may have, without waiting
    sending = [
        await ada.emit(
            "send_message",
            {"conversation_id": conversation_id, "client_message_id": f"n{number}", "body": f"{number}"},
        )
        for number in range(100)
    ]
    acks = await asyncio.wait_for(asyncio.gather(*sending), 60)

    # Then they land in the order in which they were sent, and nothing between them
    assert [ack["data"]["message"]["seq"] for ack in acks] == list(range(2, 102))
    assert [message["body"] for message in await history(bob, conversation_id)][1:] == [f"{n}" for n in range(100)]


class Picture:
    """What a client that follows the protocol's rules shows: a snapshot, and then pushes."""

    def __init__(self) -> None:
        self.conversations: dict[str, Json] = {}
        self.messages: dict[str, dict[str, Json]] = {}

    async def snapshot(self, client: Client) -> None:
        """Take what the store has."""
        page = await client.call("list_conversations", limit=100)
        self.conversations = {conversation["id"]: dict(conversation) for conversation in page["conversations"]}
        for conversation_id in self.conversations:
            self.messages[conversation_id] = {
                message["id"]: message for message in await history(client, conversation_id)
            }

    def apply(self, client: Client) -> None:
        """Take what was pushed since the client's mark: by id, ordered by seq, never going back."""
        for push in client.since_mark():
            match push.name:
                case "conversation_updated":
                    conversation = push.payload["conversation"]
                    if conversation["last_seq"] >= self._header(conversation["id"]).get("last_seq", 0):
                        self.conversations[conversation["id"]] = dict(conversation)
                case "new_message":
                    message = push.payload["message"]
                    self.messages.setdefault(message["conversation_id"], {})[message["id"]] = message
                    header = self._header(message["conversation_id"])
                    header["last_seq"] = max(header.get("last_seq", 0), message["seq"])
                case "unread_updated":
                    header = self._header(push.payload["conversation_id"])
                    header["unread_count"] = push.payload["unread_count"]
                case _:
                    pass

    def _header(self, conversation_id: str) -> Json:
        return self.conversations.setdefault(conversation_id, {"id": conversation_id})

    def shown(self) -> dict[str, Json]:
        """What matters to the eye, by conversation."""
        return {
            id: (
                header["last_seq"],
                header["unread_count"],
                sorted(self.messages.get(id, {}).values(), key=lambda message: int(message["seq"])),
            )
            for id, header in self.conversations.items()
        }


async def test_promise_5_a_snapshot_and_the_pushes_after_it_equal_the_store(people: People) -> None:
    # Given somebody with a snapshot, and somebody who comes back later
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    conversations = [await people.start(bob, ada), await people.start(cy, ada), await people.start(bob, ada, cy)]
    for conversation_id, by in zip(conversations, (bob, cy, bob), strict=True):
        await people.say(by, conversation_id)
    await people.settle(ada)
    picture = Picture()
    await picture.snapshot(ada)
    ada.mark()

    # When others write and the user reads, side by side
    async def write(by: Client, where: list[str]) -> None:
        for _ in range(15):
            await people.say(by, random.choice(where))

    async def read() -> None:
        for seq in (1, 2, 3):
            for conversation_id in conversations:
                await ada.call("message_seen", conversation_id=conversation_id, seq=seq)

    await asyncio.gather(write(bob, [conversations[0], conversations[2]]), write(cy, conversations[1:]), read())
    await people.settle(ada)

    # Then what the client shows is what the store has
    picture.apply(ada)
    fresh = Picture()
    await fresh.snapshot(ada)
    assert {id: picture.shown()[id] for id in conversations} == {id: fresh.shown()[id] for id in conversations}

    # And who was away while that happened has the same after session_ready and a snapshot
    await ada.close()
    for conversation_id in conversations[:2]:
        await people.say(bob if conversation_id == conversations[0] else cy, conversation_id)
    back = await people.connect(ada.user_id, edge=1)
    await picture.snapshot(back)
    assert [header["unread_count"] for header in picture.conversations.values()] == [
        header["last_seq"] - header["last_read_seq"] for header in picture.conversations.values()
    ]
    assert [len(picture.messages[id]) for id in conversations] == [
        picture.conversations[id]["last_seq"] for id in conversations
    ]


async def test_promise_6_unread_is_what_is_behind_the_watermark(people: People) -> None:
    # Given messages of others, seen up to some point, and own ones
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.start(ada, bob)
    expected_last, expected_read = 0, 0
    choose = random.Random(6)  # the same course each time
    for _ in range(40):
        match choose.choice(["theirs", "own", "seen", "seen too much"]):
            case "theirs":
                await people.say(ada, conversation_id)
                expected_last += 1
            case "own" if expected_last:
                await people.say(bob, conversation_id)
                expected_last += 1
                expected_read = expected_last
            case "seen" if expected_last:
                seq = choose.randint(1, expected_last)
                expected_read = max(expected_read, seq)
                acked = await bob.call("message_seen", conversation_id=conversation_id, seq=seq)
                assert acked["unread_count"] == expected_last - expected_read
            case "seen too much" if expected_last:
                acked = await bob.call("message_seen", conversation_id=conversation_id, seq=expected_last + 5)
                expected_read = expected_last
                assert (acked["unread_count"], acked["last_read_seq"]) == (0, expected_last)

        # Then at every point unread is the difference, and the watermark never moves back or past the end
        if expected_last:
            (header,) = (await bob.call("list_conversations"))["conversations"]
            assert (header["last_seq"], header["last_read_seq"]) == (expected_last, expected_read)
            assert header["unread_count"] == expected_last - expected_read


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_promise_10_nobody_speaks_for_another(people: People) -> None:
    # Given a user who would like to be somebody else
    mallory, ada, bob = await people.arrive("mallory", "ada", "bob")
    conversation_id = await people.chat(mallory, ada)

    # When they name another in any event, under any name, then that is refused
    message = {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"}
    payloads: dict[str, dict[str, Json]] = {
        "send_message": message,
        "message_seen": {"conversation_id": conversation_id, "seq": 1},
        "typing": {"conversation_id": conversation_id, "typing": True},
        "start_conversation": {"participant_ids": [bob.user_id]},
        "list_conversations": {},
        "list_messages": {"conversation_id": conversation_id},
        "list_participants": {"conversation_id": conversation_id},
    }
    for event, payload in payloads.items():
        for field in ("sender_id", "user_id", "sub", "by", "as", "created_by"):
            error = await mallory.error(event, {**payload, field: ada.user_id})
            assert (error["code"], error["details"][0]["field"]) == ("invalid_payload", field)

    # And what they send is theirs, whatever the body says
    sent = await mallory.call("send_message", message)
    assert sent["message"]["sender_id"] == mallory.user_id
    assert (await ada.push("new_message", conversation_id))["message"]["sender_id"] == mallory.user_id
    # And a token of the other does not change who the socket speaks for
    error = await mallory.error("refresh_token", token=people.stack.token(ada.user_id, ttl=7200))
    assert error["code"] == "unauthorized"
    assert (await people.say(mallory, conversation_id))["sender_id"] == mallory.user_id
