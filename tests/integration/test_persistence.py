"""What persistence promises: each message once, a dense seq, order per sender, whatever is repeated or races."""

import asyncio
import itertools
import random
from collections.abc import Collection
from typing import Any

import pytest

from contracts.commands import SendMessage
from contracts.errors import StoreUnavailable
from infra.store.client import Store
from infra.store.conversations import Conversations, Header
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks, conversation, pushes, stored_seqs
from tests.support.sample_commands import closed, opened, send, start
from workers.persistence import Persistence
from workers.presence import Presence


async def test_a_batch_is_stored_in_order_with_a_dense_seq(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    commands = [send("ada", chat, f"m{n}") for n in range(50)]
    effects = await Persistence(store)(commands)
    assert [acks(effects)[c.request]["data"]["message"]["seq"] for c in commands] == list(range(1, 51))
    assert await stored_seqs(store, chat) == list(range(1, 51))


async def test_the_same_message_many_times_in_one_batch_is_one_message(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    commands = [send("ada", chat, "same") for _ in range(20)]
    effects = await Persistence(store)([send("bob", chat, "before"), *commands, send("bob", chat, "after")])
    views = [acks(effects)[command.request]["data"]["message"] for command in commands]
    assert all(view == views[0] for view in views)
    assert await stored_seqs(store, chat) == [1, 2, 3]


async def test_a_batch_that_comes_again_after_a_crash_is_answered_with_what_is_there(store: Store) -> None:
    """A worker that dies between insert and publish leaves a batch that another one gets whole."""

    # Given a batch that a worker stored
    chat = await conversation(store, "ada", "bob")
    commands = [send("ada", chat, f"m{n}") for n in range(10)]
    first = await Persistence(store)(commands)

    # When another worker gets it too
    again = await Persistence(store)(commands)

    # Then it gives the same acks, and stores nothing
    assert acks(again) == acks(first)
    assert await stored_seqs(store, chat) == list(range(1, 11))

    # And everything that follows from the messages is sent again: the dead worker may not have come to it
    assert len(pushes(again, "new_message")) == 10
    assert len(pushes(again, "conversation_updated")) == 2
    assert [fact.seq for fact in again.facts] == list(range(1, 11))


async def test_a_crash_before_the_header_was_written_is_repaired_by_the_next_delivery(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    command = send("ada", chat, "m1")
    await Persistence(store)([command])
    await store.conversations.update_one({"_id": chat}, {"$set": {"last": None, "participants.0.read.seq": 0}})
    await Persistence(store)([command])
    header = await store.conversations.find_one({"_id": chat})
    assert (header["last"]["seq"], header["participants"][0]["read"]["seq"]) == (1, 1)


async def test_a_duplicate_in_the_middle_of_a_racing_run_leaves_no_hole(store: Store) -> None:
    """Two workers hold overlapping runs of one conversation; wherever they collide, seq stays dense."""
    chat = await conversation(store, "ada", "bob")
    for round in range(20):
        shared = [send("ada", chat, f"r{round}-s{n}") for n in range(6)]
        other = [send("bob", chat, f"r{round}-o{n}") for n in range(4)]
        one = [*shared[:3], *other[:2], *shared[3:]]
        two = [*other[2:], *shared, *other[:2]]
        await asyncio.gather(Persistence(store)(one), Persistence(store)(two))
    seqs = await stored_seqs(store, chat)
    assert seqs == list(range(1, 20 * 10 + 1)), "a seq is missing, or there twice"


async def test_four_workers_and_twenty_senders_in_one_conversation_keep_seq_dense_and_each_senders_order(
    store: Store,
) -> None:
    # Given twenty people in one conversation, and four workers
    senders = [f"user-{n}" for n in range(20)]
    chat = await conversation(store, *senders)
    commands = {sender: [send(sender, chat, f"m{n}") for n in range(15)] for sender in senders}
    queue: asyncio.Queue[tuple[SendMessage, asyncio.Future[dict[str, Any]]]] = asyncio.Queue()

    async def worker() -> None:
        # As the runner does: take what is there, handle it as one batch, answer.
        persistence = Persistence(store)
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < 10:
                batch.append(queue.get_nowait())
            answers = acks(await persistence([command for command, _ in batch]))
            for command, answer in batch:
                answer.set_result(answers[command.request])

    async def lane(sender: str) -> list[int]:
        # As an edge's lane does: the next message leaves when the last one was answered.
        seqs = []
        for command in commands[sender]:
            answer = asyncio.get_running_loop().create_future()
            queue.put_nowait((command, answer))
            seqs.append((await answer)["data"]["message"]["seq"])
        return seqs

    # When all write at once
    workers = [asyncio.create_task(worker()) for _ in range(4)]
    answered = await asyncio.gather(*(lane(sender) for sender in senders))
    for task in workers:
        task.cancel()

    # Then no seq is missing, and each sender has their order
    assert await stored_seqs(store, chat) == list(range(1, 301))
    for sender, seqs in zip(senders, answered, strict=True):
        assert seqs == sorted(seqs), f"{sender}'s messages are out of order"


async def test_random_batches_with_repeats_over_four_workers_store_each_message_once(store: Store) -> None:
    # Given messages that come twice or more, in batches at random
    chats = [await conversation(store, "ada", "bob"), await conversation(store, "ada", "cleo")]
    rng = random.Random(7)
    originals = [send("ada", rng.choice(chats), f"m{n}") for n in range(120)]
    repeated = originals + rng.choices(originals, k=120)
    rng.shuffle(repeated)
    batches = [repeated[n : n + 12] for n in range(0, len(repeated), 12)]

    # When four workers handle them, side by side
    outboxes = []
    for four in itertools.zip_longest(*[iter(batches)] * 4, fillvalue=[]):
        outboxes += await asyncio.gather(*(Persistence(store)(batch) for batch in four))

    # Then every ack of a message is the same
    seen: dict[str, Any] = {}
    for command in repeated:
        views = [acks(effects)[command.request] for effects in outboxes if command.request in acks(effects)]
        for view in views:
            assert seen.setdefault(command.payload.client_message_id, view) == view

    # And each is stored once, without a gap
    for chat in chats:
        seqs = await stored_seqs(store, chat)
        assert seqs == list(range(1, len(seqs) + 1))
    assert await store.messages.count_documents({}) == 120


async def test_a_batch_is_held_when_the_primary_changes_before_its_messages_are_committed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old primary may have taken the messages to its grave: another one's majority says nothing of them."""

    # Given a primary that takes the messages, and another that takes their headers
    chat = await conversation(store, "ada", "bob")
    commands = [send("ada", chat, f"m{n}") for n in range(3)]
    persistence = Persistence(store)
    advance = Conversations.advance

    async def of_another_primary(*arguments: Any) -> object:
        await advance(*arguments)
        return "another"

    # Then the batch is held
    with monkeypatch.context() as patch:
        patch.setattr(Conversations, "advance", of_another_primary)
        with pytest.raises(StoreUnavailable, match="primary"):
            await persistence(commands)

    # And when it is tried again, each message is there once
    effects = await persistence(commands)
    assert [acks(effects)[c.request]["data"]["message"]["seq"] for c in commands] == [1, 2, 3]
    assert await stored_seqs(store, chat) == [1, 2, 3]


async def test_a_message_is_committed_to_a_majority_with_one_wait(store: Store, counter: CommandCounter) -> None:
    chat = await conversation(store, "ada", "bob")
    persistence = Persistence(store)
    for has_one_log, waits in ((True, [1, "majority"]), (False, ["majority", "majority"])):
        store.has_one_log = has_one_log
        counter.concerns.clear()
        await persistence([send("ada", chat, f"m-{has_one_log}")])
        assert counter.concerns == waits, "the insert, then the header"


async def test_the_cost_of_a_batch_does_not_depend_on_its_size(store: Store, counter: CommandCounter) -> None:
    # Given sixty conversations
    pairs = [(f"a{n}", f"b{n}") for n in range(60)]
    chats = [await conversation(store, *pair) for pair in pairs]
    for chat, pair in zip(chats, pairs, strict=True):
        await Persistence(store)([send(pair[0], chat, "first")])
    counter.take()

    async def cost(commands: list[SendMessage]) -> list[str]:
        await Persistence(store)(commands)
        return sorted(counter.take())

    # When one message is stored, and then sixty
    one = await cost([send(pairs[0][0], chats[0], "x")])
    sixty = await cost([send(pair[1], chat, "y") for chat, pair in zip(chats, pairs, strict=True)])

    # Then the store was asked the same
    assert sixty == one, f"one message cost {one}, sixty cost {sixty}"


async def test_a_small_batch_knows_the_headers_of_the_one_before(store: Store, counter: CommandCounter) -> None:
    chat = await conversation(store, "ada", "bob")
    persistence = Persistence(store)
    await persistence([send("bob", chat, "m1"), send("ada", chat, "m2")])
    counter.take()
    effects = await persistence([send("ada", chat, "m3"), send("bob", chat, "m4")])
    assert counter.take() == ["insert", "update"], "the header was read, which this worker had just written"
    assert [fact.sender_was_behind for fact in effects.facts] == [False, True]
    assert await stored_seqs(store, chat) == [1, 2, 3, 4]


async def test_a_worker_knows_what_its_senders_have_read_without_reading_the_header_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that has stored a message, and what everybody has read by then
    monkeypatch.setattr("workers.header_cache.CACHE_SECONDS", 60.0)
    read_headers, real = 0, Conversations.headers

    async def counted(conversations: Conversations, ids: Collection[str]) -> dict[str, Header]:
        nonlocal read_headers
        read_headers += 1
        return await real(conversations, ids)

    monkeypatch.setattr(Conversations, "headers", counted)
    chat = await conversation(store, "ada", "bob", "cleo")
    persistence, rng = Persistence(store), random.Random(3)
    await persistence([send("ada", chat, "first")])
    last, read = 1, {"ada": 1, "bob": 0, "cleo": 0}
    for number in range(30):
        senders = rng.choices(("ada", "bob", "cleo"), k=rng.randint(1, 4))
        commands = [send(sender, chat, f"m{number}-{place}") for place, sender in enumerate(senders)]
        behind = []
        for sender in senders:
            behind.append(read[sender] < last)
            read[sender] = last = last + 1
        read_headers = 0

        # When it stores small batches, with a repetition in each, then it reads no header
        effects = await persistence([*commands, commands[0]])
        assert read_headers == 0
        # And knows for each message whether its sender had anything unread
        assert [fact.sender_was_behind for fact in effects.facts[:-1]] == behind

    # And in the end the store has the same
    header = (await Conversations(store).headers({chat}))[chat]
    assert header.last_seq == last
    assert {user: header.watermark(user).seq for user in read} == read


async def test_a_seq_that_another_worker_took_is_noticed_and_headers_are_read_for_a_while(
    store: Store, counter: CommandCounter
) -> None:
    chat = await conversation(store, "ada", "bob")
    one, other = Persistence(store), Persistence(store)
    await one([send("ada", chat, "m1")])
    await other([send("bob", chat, "m2"), send("bob", chat, "m3")])
    effects = await one([command := send("ada", chat, "m4")])
    assert acks(effects)[command.request]["data"]["message"]["seq"] == 4
    counter.take()
    await one([send("ada", chat, "m5")])
    assert sorted(counter.take()) == ["find", "insert", "update"], "headers are not read after a wrong guess"
    assert await stored_seqs(store, chat) == [1, 2, 3, 4, 5]


async def test_strangers_the_blocked_and_ghosts_are_refused(store: Store) -> None:
    # Given a conversation without a message, a stranger, and an initiator who is blocked
    chat = await conversation(store, "ada", "bob", opened_by_all=False)
    await Presence(store)([opened("eve")])
    await store.users.update_one({"_id": "ada"}, {"$set": {"blocked": True}})

    # When each of them writes, and somebody to a conversation that is not there
    stranger, missing = send("eve", chat, "m"), send("eve", "no-such", "m")
    ghost, blocked = send("bob", chat, "m"), send("ada", chat, "m")
    answers = acks(await Persistence(store)([stranger, missing, ghost, blocked]))

    # Then for bob too the conversation that ada only opened does not exist
    for command in (stranger, missing, ghost):
        assert answers[command.request] == answers[missing.request]
    assert answers[missing.request]["error"]["code"] == "not_found"
    assert answers[blocked.request]["error"]["code"] == "forbidden"
    assert await store.messages.count_documents({}) == 0


async def test_a_conversation_started_twice_at_once_is_one(store: Store) -> None:
    await Presence(store)([opened("ada"), opened("bob"), opened("cleo")])
    ours, theirs = start("ada", "bob"), start("bob", "ada")
    outboxes = await asyncio.gather(*(Persistence(store)([command]) for command in (ours, theirs, ours)))
    ids = {ack["data"]["conversation"]["id"] for effects in outboxes for ack in acks(effects).values()}
    assert len(ids) == 1
    group = start("ada", "bob", "cleo", title="Lunch")
    first, again = await Persistence(store)([group]), await Persistence(store)([group])
    assert acks(first) == acks(again)
    assert await store.conversations.count_documents({}) == 2


async def test_a_start_that_comes_again_is_one_group_and_another_is_not(store: Store) -> None:
    await Presence(store)([opened(user) for user in ("ada", "bob", "cy")])
    command = start("ada", "bob", "cy")
    another = command.model_copy(update={"nonce": "0" * 32})
    for batch in ([command, command], [another], [command]):
        await Persistence(store)(batch)
    assert await store.conversations.count_documents({}) == 2


async def test_an_unknown_user_cannot_be_written_to(store: Store) -> None:
    await Presence(store)([opened("ada"), closed("ada")])
    command = start("ada", "nobody")
    answer = acks(await Persistence(store)([command]))[command.request]
    assert answer["error"]["code"] == "user_not_found"
    assert "nobody" in answer["error"]["details"][0]["reason"]


async def test_the_first_message_into_a_large_group_makes_one_view_for_each_count(store: Store) -> None:
    people = [f"user-{number:03d}" for number in range(500)]
    chat = await conversation(store, *people)
    effects = await Persistence(store)([send(people[0], chat, "m1")])
    views = pushes(effects, "conversation_updated")
    assert sorted(user for view in views for user in view.to) == people
    assert len(views) == 2, "the sender has nothing unread, everybody else has one message"
