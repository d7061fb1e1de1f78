"""No ghost chats: a conversation that nobody wrote in is shown only to who started it. Promise 7."""

import asyncio

import pytest

from contracts.errors import Code
from tests.support.people import People
from tests.support.socketio_client import Client, Json

#: Every event that names a conversation, and what else it needs.
NAMING_A_CONVERSATION: dict[str, dict[str, Json]] = {
    "list_messages": {},
    "list_participants": {},
    "send_message": {"client_message_id": "m", "body": "hello"},
    "message_seen": {"seq": 1},
    "typing": {"typing": True},
}


async def listed(client: Client) -> list[str]:
    """Ids of the conversations that a user sees, newest first."""
    return [conversation["id"] for conversation in (await client.call("list_conversations"))["conversations"]]


@pytest.mark.answers(Code.NOT_FOUND)
async def test_a_conversation_without_a_message_is_shown_to_nobody_but_its_initiator(people: People) -> None:
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


async def test_a_conversation_without_a_message_does_not_give_away_who_comes_and_goes(people: People) -> None:
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


async def test_two_who_start_at_once_have_one_conversation_and_get_no_push(people: People) -> None:
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


async def test_a_conversation_without_a_message_is_on_every_device_of_its_initiator(people: People) -> None:
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
