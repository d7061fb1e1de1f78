"""Unread counts come from stored facts: however facts are repeated, shuffled or split, the end is the same."""

import asyncio
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from contracts.commands import MessageSeen
from contracts.facts import MessageStored
from infra.cli.recount import recount_all
from infra.store.client import Store
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks, conversation, pushes
from tests.support.sample_commands import seen, send
from tests.support.worker_settings import MakeSettings
from workers.persistence import Persistence
from workers.unread import Unread


async def unread_of(store: Store, user_id: str) -> int:
    """A user's unread messages as the inbox has them."""
    entries = await store.inboxes.find({"user_id": user_id}).to_list(None)
    return sum(entry["state"]["n"] for entry in entries)


async def test_recipients_have_it_unread_and_the_sender_has_read_it(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    effects = await Persistence(store)([send("ada", chat, "m1"), send("ada", chat, "m2")])
    effects = await Unread(store)(effects.facts)
    assert (await unread_of(store, "ada"), await unread_of(store, "bob")) == (0, 2)
    assert [delivery.to for delivery in pushes(effects, "unread_updated")] == [["bob"]]


async def test_sending_reads_what_was_unread_and_says_so(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    await Unread(store)((await Persistence(store)([send("ada", chat, "m1")])).facts)
    answer = await Persistence(store)([send("bob", chat, "m2")])
    assert answer.facts[0].sender_was_behind
    effects = await Unread(store)(answer.facts)
    assert (await unread_of(store, "ada"), await unread_of(store, "bob")) == (1, 0)
    assert sorted(delivery.to[0] for delivery in pushes(effects, "unread_updated")) == ["ada", "bob"]


async def test_facts_that_come_again_change_nothing_and_are_counted(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    facts = (await Persistence(store)([send("ada", chat, f"m{number}") for number in range(3)])).facts
    worker, before = Unread(store), REGISTRY.get_sample_value("warren_worker_repeated_facts_total") or 0
    for repetition in (facts, facts[:2], facts):
        await worker(repetition)
    assert await unread_of(store, "bob") == 3
    assert REGISTRY.get_sample_value("warren_worker_repeated_facts_total") == before + 2 + 3


async def test_what_sending_reads_is_counted_even_if_the_worker_died_before_it_said_so(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    await Unread(store)((await Persistence(store)([send("ada", chat, "m1")])).facts)
    command = send("bob", chat, "m2")
    await Persistence(store)([command])  # the worker dies here, and its facts with it
    await Unread(store)((await Persistence(store)([command])).facts)
    assert await unread_of(store, "bob") == 0
    assert (await recount_all(store)).inboxes_differed == 0


async def test_a_watermark_never_moves_back_and_never_passes_the_newest_message(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    await Unread(store)((await Persistence(store)([send("ada", chat, f"m{n}") for n in range(5)])).facts)
    far, back = seen("bob", chat, 999), seen("bob", chat, 2)
    first = acks(await Unread(store)([far]))[far.request]["data"]
    second = acks(await Unread(store)([back]))[back.request]["data"]
    assert first["last_read_seq"] == second["last_read_seq"] == 5
    assert first["unread_count"] == second["unread_count"] == 0


async def test_a_repeated_command_tells_the_others_again_but_a_repeated_click_does_not(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    await Unread(store)((await Persistence(store)([send("ada", chat, "m1")])).facts)
    command = seen("bob", chat, 1)
    for _ in range(2):  # as after a crash between the write and the publish
        assert len(pushes(await Unread(store)([command]), "message_seen")) == 1
    await asyncio.sleep(0.002)  # a later click has a later time, to the millisecond
    assert pushes(await Unread(store)([seen("bob", chat, 1)]), "message_seen") == []


#: Who does what: writes, or has seen everything up to some part of what is written by then.
steps = st.lists(
    st.tuples(st.sampled_from(["ada", "bob", "cleo"]), st.none() | st.floats(0, 1)), min_size=1, max_size=12
)


@given(steps=steps, seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_facts_repeated_shuffled_and_split_end_the_same(
    steps: list[tuple[str, float | None]], seed: int, loop_and_store: tuple[asyncio.AbstractEventLoop, Store]
) -> None:
    """Hypothesis chooses who writes and reads, and how the facts are mixed; the headers decide who is right."""
    loop, store = loop_and_store
    loop.run_until_complete(_play(store, steps, random.Random(seed)))


async def _play(store: Store, steps: list[tuple[str, float | None]], order: random.Random) -> None:
    await store.messages.delete_many({})
    await store.conversations.delete_many({})
    await store.inboxes.delete_many({})
    chat = await conversation(store, "ada", "bob", "cleo")
    persistence, unread = Persistence(store), Unread(store)
    items: list[MessageStored | MessageSeen] = []
    written = 0
    for user, part in steps:
        if part is None or not written:
            written += 1
            items += (await persistence([send(user, chat, f"m{written}")])).facts
        else:
            items.append(seen(user, chat, max(1, int(part * written))))
    mixed = [*items, *order.choices(items, k=len(items))]
    order.shuffle(mixed)
    await asyncio.gather(*(unread(mixed[n : n + 3]) for n in range(0, len(mixed), 3)))
    header = await store.conversations.find_one({"_id": chat})
    for participant in header["participants"]:
        expected = header["last"]["seq"] - participant["read"]["seq"]
        found = await unread_of(store, participant["user_id"])
        assert found == expected, f"{participant['user_id']} has {expected} unread, the inbox says {found}"


@pytest.fixture
def loop_and_store(make_settings: MakeSettings) -> Iterator[tuple[asyncio.AbstractEventLoop, Store]]:
    """A store on a loop that outlives hypothesis's examples."""
    loop = asyncio.new_event_loop()
    made = make_settings()

    async def make() -> Store:
        store = Store(made)
        await store.prepare()
        return store

    async def clean(store: Store) -> None:
        await store.client.drop_database(made.mongo_database)
        await store.close()

    store = loop.run_until_complete(make())
    yield loop, store
    loop.run_until_complete(clean(store))
    loop.close()


async def test_the_cost_of_a_batch_does_not_depend_on_its_size(store: Store, counter: CommandCounter) -> None:
    # Given forty conversations with a message each
    chats = [await conversation(store, f"a{n}", f"b{n}") for n in range(40)]
    sent = await Persistence(store)([send(f"a{n}", chat, "m1") for n, chat in enumerate(chats)])
    counter.take()

    # When one is counted, and then all, then the store is asked the same
    await Unread(store)(sent.facts[:1])
    one = counter.take()
    await Unread(store)(sent.facts)
    assert counter.take() == one

    # And so it is when they are read
    await Unread(store)([seen("b0", chats[0], 1)])
    one = counter.take()
    await Unread(store)([seen(f"b{n}", chat, 1) for n, chat in enumerate(chats)])
    assert counter.take() == one


async def test_a_recount_finds_nothing_in_a_healthy_store_and_repairs_a_damaged_one(store: Store) -> None:
    # Given a healthy store, then there is nothing to repair
    chat = await conversation(store, "ada", "bob")
    sent = await Persistence(store)([send("ada", chat, f"m{n}") for n in range(3)])
    await Unread(store)(sent.facts)
    healthy = await recount_all(store)
    assert (healthy.conversations, healthy.headers_differed, healthy.inboxes_differed) == (1, 0, 0)

    # When a header and an inbox are damaged
    await store.conversations.update_one({"_id": chat}, {"$set": {"last.seq": 1}})
    await store.inboxes.update_one({"_id": {"u": "bob", "c": chat}}, {"$set": {"state": {"v": 99, "n": 42}}})

    # Then both are found and repaired
    damaged = await recount_all(store)
    assert (damaged.headers_differed, damaged.inboxes_differed) == (1, 1)
    assert await unread_of(store, "bob") == 3
    again = await recount_all(store)
    assert (again.headers_differed, again.inboxes_differed) == (0, 0)
