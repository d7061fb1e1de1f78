"""The four bugs that this system exists to never have, by their names."""

import asyncio

import pytest

from contracts.errors import Code
from tests.support import protocol
from tests.support.people import People
from tests.support.socketio_client import Client, Json

# --- Ghost chat: a conversation that nobody wrote in shows up at somebody who did not start it --------------


#: Every event that names a conversation, and what else it needs.
NAMING_A_CONVERSATION: dict[str, dict[str, Json]] = {
    "list_messages": {},
    "send_message": {"client_message_id": "m", "body": "hello"},
    "message_seen": {"seq": 1},
    "typing": {"typing": True},
}


async def listed(client: Client) -> list[str]:
    """Ids of the conversations that a user sees, newest first."""
    return [conversation["id"] for conversation in (await client.call("list_conversations"))["conversations"]]


@pytest.mark.answers(Code.NOT_FOUND)
async def test_ghost_chat(people: People) -> None:
    # Given two devices of somebody with whom a conversation is started, directly and in a group
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    bobs_phone = await people.connect(bob.user_id, edge=0)
    for others in ([bob], [bob, cy]):
        ghost = await people.start(ada, *others)

        # When the initiator types there, and says to have seen what is not there
        await ada.call("typing", conversation_id=ghost, typing=True)
        seen = await ada.call("message_seen", conversation_id=ghost, seq=1)
        assert (seen["unread_count"], seen["last_read_seq"]) == (0, 0)

        # Then the others hear nothing, list nothing, and cannot find it, though they know its id
        await people.settle(bob, bobs_phone, cy)
        for client in (bob, bobs_phone, cy):
            assert client.names(ghost) == []
            assert ghost not in await listed(client)
            for event, payload in NAMING_A_CONVERSATION.items():
                error = await client.error(event, {"conversation_id": ghost, **payload})
                assert error["code"] == "not_found", event
        # While the initiator sees it
        assert ghost in await listed(ada)
        assert (await ada.call("list_messages", conversation_id=ghost))["messages"] == []


async def test_ghost_chat_does_not_give_away_who_comes_and_goes(people: People) -> None:
    # Given a conversation that was started and not written in
    (ada,) = await people.arrive("ada")
    user_id = people.name("bob")
    bob = await people.connect(user_id, edge=1)
    await people.start(bob, ada)
    ada.mark()

    # When the initiator's second device connects elsewhere
    await people.connect(user_id, edge=0)

    # Then the one who does not know of it is told nothing
    await people.settle(ada)
    assert "presence_updated" not in ada.names()


async def test_ghost_chat_when_both_start_at_once(people: People) -> None:
    # Given many pairs, each of whom starts the conversation with the other at the same moment, on two edges
    adas = await people.arrive(*["ada"] * 5, edges=(0,))
    bobs = await people.arrive(*["bob"] * 5, edges=(1,))
    pairs = list(zip(adas, bobs, strict=True))
    ids = await asyncio.gather(
        *(people.start(one, other) for ada, bob in pairs for one, other in ((ada, bob), (bob, ada)))
    )

    # Then each pair has one conversation, both see it, and nobody was pushed anything
    await people.settle(*adas, *bobs)
    for (ada, bob), one, other in zip(pairs, ids[::2], ids[1::2], strict=True):
        assert one == other
        assert one in await listed(ada)
        assert one in await listed(bob)
        assert ada.names(one) == bob.names(one) == []


async def test_ghost_chat_on_the_initiators_second_device(people: People) -> None:
    # Given an initiator with two devices
    ada, bob = await people.arrive("ada", "bob")
    phone = await people.connect(ada.user_id, edge=1)

    # When they start a conversation on one
    ghost = await people.start(ada, bob)

    # Then the other shows it, as their own doing, and can write in it
    pushed = await phone.push("conversation_updated", ghost)
    assert pushed["conversation"]["created_by"] == ada.user_id
    assert ghost in await listed(phone)
    await people.settle(bob)
    assert bob.names(ghost) == []
    message = await people.say(phone, ghost)
    # And only now does the other person see it
    assert (await bob.push("conversation_updated", ghost))["conversation"]["unread_count"] == 1
    assert await bob.push("new_message", ghost, message=message)
    assert ghost in await listed(bob)


# --- Stale unread: what was seen counts as unread again after a reload --------------------------------------


async def test_stale_unread(people: People) -> None:
    # Given some messages that somebody saw
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.start(ada, bob)
    for _ in range(3):
        await people.say(ada, conversation_id)
    for edge in (1, 0, 1):
        seen = await bob.call("message_seen", conversation_id=conversation_id, seq=3)
        assert (seen["unread_count"], seen["total_unread"]) == (0, 0)

        # When they reload at once, on any edge
        await bob.close()
        bob = await people.connect(bob.user_id, edge=edge)

        # Then nothing is unread
        snapshot = await bob.call("list_conversations")
        assert [conversation["unread_count"] for conversation in snapshot["conversations"]] == [0]
        assert snapshot["total_unread"] == 0


async def test_stale_unread_on_another_device(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    desk = await people.connect(bob.user_id, edge=0)
    conversation_id = await people.start(ada, bob)
    await people.say(ada, conversation_id)
    await desk.push("unread_updated", conversation_id, unread_count=1)

    await bob.call("message_seen", conversation_id=conversation_id, seq=1)

    await desk.push("unread_updated", conversation_id, unread_count=0, last_read_seq=1, total_unread=0)
    assert (await desk.call("list_conversations"))["total_unread"] == 0


# --- Unread while active: a badge in a conversation that is being read --------------------------------------


async def test_unread_while_active(people: People) -> None:
    # Given two who read whatever arrives, at once
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    await bob.call("message_seen", conversation_id=conversation_id, seq=1)
    await people.settle(ada, bob)
    marked: dict[str, set[int]] = {ada.user_id: {1}, bob.user_id: {1}}
    for client in (ada, bob):
        client.mark()

    async def read(client: Client, count: int) -> None:
        for seen in range(1, count + 1):
            seq = (await client.nth("new_message", conversation_id, seen))["message"]["seq"]
            marked[client.user_id].add(seq)
            await client.call("message_seen", conversation_id=conversation_id, seq=seq)

    async def write(client: Client, count: int) -> None:
        for _ in range(count):
            marked[client.user_id].add((await people.say(client, conversation_id))["seq"])

    # When both write 15 messages to each other
    await asyncio.gather(read(ada, 15), read(bob, 15), write(ada, 15), write(bob, 15))

    # Then nothing is unread for either of them, wherever they look
    await people.settle(ada, bob)
    for client in (ada, bob):
        header = next(
            conversation
            for conversation in (await client.call("list_conversations"))["conversations"]
            if conversation["id"] == conversation_id
        )
        assert (header["last_seq"], header["unread_count"]) == (31, 0)
        # And no count that was pushed on the way contradicts the store: each is what some last_seq leaves unread
        # behind a watermark that this user really had, and the newest says that nothing is
        counts = [push.payload for push in client.since_mark(conversation_id) if push.name == "unread_updated"]
        assert counts
        for count in counts:
            assert count["last_read_seq"] in marked[client.user_id], count
            assert count["last_read_seq"] + count["unread_count"] <= 31, count
        newest = max(counts, key=lambda count: (count["last_read_seq"], -count["unread_count"]))
        assert (newest["last_read_seq"], newest["unread_count"]) == (31, 0)
        # And in the order in which they came, none goes back
        assert [count["last_read_seq"] for count in counts] == sorted(count["last_read_seq"] for count in counts)
        assert counts[-1]["unread_count"] == 0


# --- Hijacked screen: something opens that nobody asked for -------------------------------------------------

#: What a receiver may get about conversations; each only says what is, and none what to do.
TELLING = {"conversation_updated", "new_message", "unread_updated", "message_seen", "typing"}


async def test_hijacked_screen(people: People) -> None:
    # Given somebody who looks at one conversation, on two devices
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    phone = await people.connect(bob.user_id, edge=0)
    at = await people.chat(ada, bob)
    for client in (bob, phone):
        client.mark()

    # When others start conversations with them, write in them, type and read
    direct, group = await people.start(cy, bob), await people.start(cy, bob, ada, title="Open me")
    for conversation_id in (direct, group):
        await cy.call("typing", conversation_id=conversation_id, typing=True)
        await people.say(cy, conversation_id)
        await cy.call("typing", conversation_id=conversation_id, typing=True)
    await ada.call("message_seen", conversation_id=group, seq=1)
    await people.settle(bob, phone)

    # Then they are told what is new, in events that say what is and never what to do
    for client in (bob, phone):
        for conversation_id in (direct, group):
            pushed = {push.name for push in client.since_mark(conversation_id)}
            assert pushed >= {"conversation_updated", "new_message", "unread_updated"}
            assert pushed <= TELLING
        assert client.names(at) == []

    # And their own start on one device comes to the other in exactly the form in which others' do: only the ack of
    # one's own start, which the other device does not get, may open anything
    ada.mark()
    own = await bob.call("start_conversation", participant_ids=[cy.user_id])
    echoed = await phone.push("conversation_updated", direct, conversation=own["conversation"])
    protocol.check(echoed, protocol.PUSHES["conversation_updated"], "conversation_updated")
    others = await phone.push("conversation_updated", group)
    assert echoed.keys() == others.keys()
    assert echoed["conversation"].keys() == others["conversation"].keys()
