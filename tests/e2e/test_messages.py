"""`send_message`, `list_messages` and `message_seen`: what the ack says, and who is told."""

import pytest

from contracts.errors import Code
from tests.support.people import People
from tests.support.socketio_client import Client, Json


async def history(client: Client, conversation_id: str, **page: Json) -> list[Json]:
    """The messages of one page."""
    messages: list[Json] = (await client.call("list_messages", conversation_id=conversation_id, **page))["messages"]
    return messages


async def test_a_message_is_acked_as_it_stands_in_history(people: People) -> None:
    # Given two who chat
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)

    # When one of them writes
    acked = await ada.call(
        "send_message", conversation_id=conversation_id, client_message_id="a-Z_09", body="  two words \n"
    )

    # Then the ack has the message as it is stored
    message = acked["message"]
    assert message == {
        "id": message["id"],
        "conversation_id": conversation_id,
        "seq": 2,
        "sender_id": ada.user_id,
        "client_message_id": "a-Z_09",
        "body": "two words",
        "sent_at": message["sent_at"],
    }
    assert (await history(bob, conversation_id))[-1] == message


async def test_a_message_reaches_every_socket_of_every_participant_except_the_one_that_sent_it(people: People) -> None:
    # Given a group of three, the sender and one recipient on both edges, and a stranger
    ada, bob, cy, stranger = await people.arrive("ada", "bob", "cy", "stranger")
    adas_phone = await people.connect(ada.user_id, edge=1)
    adas_tablet = await people.connect(ada.user_id, edge=0)
    bobs_phone = await people.connect(bob.user_id, edge=0)
    everyone = (ada, adas_phone, adas_tablet, bob, bobs_phone, cy)
    conversation_id = await people.chat(ada, bob, cy)
    await people.settle(*everyone)
    for client in everyone:
        client.mark()

    # When the sender's first socket sends
    message = await people.say(ada, conversation_id, "to all")

    # Then all other sockets of all participants get what the ack said
    for client in (adas_phone, adas_tablet, bob, bobs_phone, cy):
        assert await client.push("new_message", conversation_id) == {"message": message}
    # And the recipients, on every socket, their new count; the sender had nothing unread before or after
    for client in (bob, bobs_phone, cy):
        count = await client.push("unread_updated", conversation_id)
        assert (count["unread_count"], count["last_read_seq"], count["last_read_at"]) == (2, 0, None)
    await people.settle(*everyone, stranger)
    assert ada.names(conversation_id) == []
    assert adas_phone.names(conversation_id) == adas_tablet.names(conversation_id) == ["new_message"]
    for client in (bob, bobs_phone, cy):
        assert client.names(conversation_id) == ["new_message", "unread_updated"]
    # And nobody else hears of it
    assert stranger.names(conversation_id) == []


async def test_who_writes_has_read_what_was_there(people: People) -> None:
    # Given somebody with two unread messages, on two sockets
    ada, bob = await people.arrive("ada", "bob")
    bobs_phone = await people.connect(bob.user_id, edge=0)
    conversation_id = await people.chat(ada, bob)
    await people.say(ada, conversation_id)
    await people.settle(bob, bobs_phone)
    bob.mark()
    bobs_phone.mark()

    # When they write
    message = await people.say(bob, conversation_id)

    # Then their watermark has moved up to their message, and both sockets know that nothing is unread
    for client in (bob, bobs_phone):
        count = await client.push("unread_updated", conversation_id)
        assert (count["unread_count"], count["last_read_seq"]) == (0, 3)
        assert count["last_read_at"] == message["sent_at"]
    listed = (await bob.call("list_conversations"))["conversations"][0]
    marks = {person["user"]["id"]: person["last_read_seq"] for person in listed["participants"]}
    assert (listed["unread_count"], marks) == (0, {ada.user_id: 2, bob.user_id: 3})


async def test_seeing_moves_the_watermark_and_tells_both_sides(people: People) -> None:
    # Given three messages that the reader, who has two sockets, has not seen, and a third participant
    ada, bob, cy, stranger = await people.arrive("ada", "bob", "cy", "stranger")
    bobs_phone = await people.connect(bob.user_id, edge=0)
    adas_phone = await people.connect(ada.user_id, edge=1)
    conversation_id = await people.chat(ada, bob, cy)
    await people.say(ada, conversation_id)
    await people.say(ada, conversation_id)
    everyone = (ada, adas_phone, bob, bobs_phone, cy, stranger)
    await people.settle(*everyone)
    for client in everyone:
        client.mark()

    # When the reader saw the second
    acked = await bob.call("message_seen", conversation_id=conversation_id, seq=2)

    # Then the ack, and a push to each of the reader's sockets, say that one is unread
    assert acked["conversation_id"] == conversation_id
    assert (acked["unread_count"], acked["last_read_seq"]) == (1, 2)
    assert acked["last_read_at"] is not None
    for client in (bob, bobs_phone):
        pushed = await client.push("unread_updated", conversation_id)
        assert pushed == acked
    # And every socket of the other participants learns how far the reader is
    for client in (ada, adas_phone, cy):
        assert await client.push("message_seen", conversation_id) == {
            "conversation_id": conversation_id,
            "user_id": bob.user_id,
            "last_read_seq": 2,
            "last_read_at": acked["last_read_at"],
        }
    await people.settle(*everyone)
    assert bob.names(conversation_id) == bobs_phone.names(conversation_id) == ["unread_updated"]
    assert ada.names(conversation_id) == adas_phone.names(conversation_id) == cy.names(conversation_id)
    assert cy.names(conversation_id) == ["message_seen"]
    assert stranger.names(conversation_id) == []


async def test_seeing_less_than_before_changes_nothing_and_tells_nobody(people: People) -> None:
    # Given somebody who has seen two messages
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    await people.say(ada, conversation_id)
    seen = await bob.call("message_seen", conversation_id=conversation_id, seq=2)
    await people.settle(ada, bob)
    ada.mark()

    # When they say that they have seen one
    again = await bob.call("message_seen", conversation_id=conversation_id, seq=1)

    # Then nothing changes, and nobody is told
    assert (again["last_read_seq"], again["last_read_at"]) == (2, seen["last_read_at"])
    assert again["unread_count"] == 0
    await people.settle(ada)
    assert ada.names(conversation_id) == []


async def test_nobody_sees_more_than_there_is(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)

    acked = await bob.call("message_seen", conversation_id=conversation_id, seq=2**53 - 1)

    assert (acked["last_read_seq"], acked["unread_count"]) == (1, 0)
    await people.say(ada, conversation_id)
    later = await bob.call("message_seen", conversation_id=conversation_id, seq=1)
    assert (later["last_read_seq"], later["unread_count"]) == (1, 1)


async def test_total_unread_is_the_sum_over_all_conversations(people: People) -> None:
    # Given three messages in one conversation and two in another
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    with_bob, with_cy = await people.start(bob, ada), await people.start(cy, ada)
    for other, conversation_id, count in ((bob, with_bob, 3), (cy, with_cy, 2)):
        for _ in range(count):
            await people.say(other, conversation_id)
    await ada.push("unread_updated", total_unread=5)

    # When some of one are seen, then each way to ask says the same
    acked = await ada.call("message_seen", conversation_id=with_bob, seq=2)
    assert (acked["unread_count"], acked["total_unread"]) == (1, 3)
    assert (await ada.call("list_conversations"))["total_unread"] == 3
    acked = await ada.call("message_seen", conversation_id=with_cy, seq=2)
    assert (acked["unread_count"], acked["total_unread"]) == (0, 1)


async def test_pages_of_messages_run_both_ways(people: People) -> None:
    # Given a conversation of ten messages
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.start(ada, bob)
    for number in range(1, 11):
        await people.say(ada, conversation_id, f"number {number}")

    async def page(**which: int) -> tuple[list[int], bool]:
        answer = await bob.call("list_messages", conversation_id=conversation_id, **which)
        return [message["seq"] for message in answer["messages"]], answer["has_more"]

    # Then without a direction the newest come, ascending
    assert await page() == (list(range(1, 11)), False)
    assert await page(limit=3) == ([8, 9, 10], True)
    # And backwards: those just before
    assert await page(before_seq=8, limit=3) == ([5, 6, 7], True)
    assert await page(before_seq=3, limit=3) == ([1, 2], False)
    assert await page(before_seq=4, limit=3) == ([1, 2, 3], False)
    assert await page(before_seq=1) == ([], False)
    # And forwards: those just after
    assert await page(after_seq=0, limit=4) == ([1, 2, 3, 4], True)
    assert await page(after_seq=4, limit=4) == ([5, 6, 7, 8], True)
    assert await page(after_seq=8, limit=4) == ([9, 10], False)
    assert await page(after_seq=6, limit=4) == ([7, 8, 9, 10], False)
    assert await page(after_seq=10) == ([], False)


async def test_a_page_has_50_messages_unless_asked_otherwise(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.start(ada, bob)
    for _ in range(51):
        await people.say(ada, conversation_id)

    answer = await bob.call("list_messages", conversation_id=conversation_id)

    assert ([message["seq"] for message in answer["messages"]], answer["has_more"]) == (list(range(2, 52)), True)


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_a_page_cannot_run_both_ways(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    error = await ada.error("list_messages", conversation_id=conversation_id, before_seq=5, after_seq=1)
    assert error["code"] == "invalid_payload"


@pytest.mark.answers(Code.NOT_FOUND)
@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("send_message", {"client_message_id": "m", "body": "hello"}),
        ("message_seen", {"seq": 1}),
        ("list_messages", {}),
        ("typing", {"typing": True}),
    ],
)
async def test_a_conversation_of_others_and_one_that_is_not_are_never_told_apart(
    people: People, event: str, payload: Json
) -> None:
    # Given two who chat, and a stranger
    ada, bob, stranger = await people.arrive("ada", "bob", "stranger")
    conversation_id = await people.chat(ada, bob)

    # When the stranger names their conversation, and one that does not exist
    theirs = await stranger.error(event, {"conversation_id": conversation_id, **payload})
    nowhere = await stranger.error(event, {"conversation_id": "7e57ab1e-0000-5000-8000-000000000000", **payload})

    # Then both answers are the same, and the two hear nothing of it
    assert theirs == nowhere
    assert theirs["code"] == "not_found"
    await people.settle(ada, bob)
    assert ada.names(conversation_id) == bob.names(conversation_id) == []
    assert [message["seq"] for message in await history(ada, conversation_id)] == [1]


@pytest.mark.answers(Code.TOO_LARGE, Code.INVALID_PAYLOAD)
async def test_a_body_has_1_to_4000_characters_after_trimming(people: People) -> None:
    # Given two who chat
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)

    async def send(body: str) -> Json:
        return await ada.ack(
            "send_message",
            {"conversation_id": conversation_id, "client_message_id": people.client_message_id(), "body": body},
        )

    # Then a body of any length up to the limit is taken
    assert (await send("x"))["data"]["message"]["body"] == "x"
    # Characters, not bytes and not UTF-16 units: four bytes each
    assert (await send("\N{OTTER}" * 4000))["data"]["message"]["body"] == "\N{OTTER}" * 4000
    assert (await send(" " * 50 + "y" * 4000 + "\n" * 50))["data"]["message"]["body"] == "y" * 4000

    # And none that is longer, or empty
    assert (await send("z" * 4001))["error"]["code"] == "too_large"
    for empty in ("", "   ", "\n\t"):
        error = (await send(empty))["error"]
        assert (error["code"], error["details"][0]["field"]) == ("invalid_payload", "body")


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_a_client_message_id_has_1_to_64_of_its_characters(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    for good in ("a", "Z" * 64, "-", "_", "0"):
        await ada.call("send_message", conversation_id=conversation_id, client_message_id=good, body="hello")
    for bad in ("", "a" * 65, "a b", "ä", "a\n", "a.b", 1, None):
        error = await ada.error("send_message", conversation_id=conversation_id, client_message_id=bad, body="hello")
        assert (error["code"], error["details"][0]["field"]) == ("invalid_payload", "client_message_id"), bad


async def test_a_body_comes_back_as_it_was_written(people: People) -> None:
    # Given two who chat
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)

    # When one writes what something on the way may take for its own
    for body in (
        '"quoted" \\ back\\slash',
        "<b>&amp;</b>",
        "a\u2028b\u2029c",
        "\u0007bell",
        "\u05e2\u05d1\u202e",
        "$set",
        "👩‍💻",
    ):
        message = await people.say(ada, conversation_id, body)

        # Then it comes back unchanged, in the ack, the push and history
        assert message["body"] == body
        await bob.push("new_message", message=message)
    assert [message["body"] for message in await history(bob, conversation_id)][-1] == "👩‍💻"


async def test_the_preview_is_the_start_of_a_long_body(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    await people.say(ada, conversation_id, "long " * 500)
    last = (await bob.call("list_conversations"))["conversations"][0]["last_message"]
    assert last["preview"]
    assert len(last["preview"]) < 500
    assert ("long " * 500).startswith(last["preview"])
