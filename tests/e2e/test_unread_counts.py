"""Unread counts after reloads, on other devices, and in a conversation that is being read. Promise 6."""

import asyncio

from tests.support.people import People
from tests.support.socketio_client import Client


async def test_what_was_read_stays_read_after_a_reload_on_any_edge(people: People) -> None:
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


async def test_what_one_device_reads_the_others_no_longer_count(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    desk = await people.connect(bob.user_id, edge=0)
    conversation_id = await people.start(ada, bob)
    await people.say(ada, conversation_id)
    await desk.push("unread_updated", conversation_id, unread_count=1)

    await bob.call("message_seen", conversation_id=conversation_id, seq=1)

    await desk.push("unread_updated", conversation_id, unread_count=0, last_read_seq=1, total_unread=0)
    assert (await desk.call("list_conversations"))["total_unread"] == 0


async def test_two_who_read_while_they_write_end_with_nothing_unread_and_no_count_goes_back(people: People) -> None:
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
