"""What a change of primary may lose or hide: numbers stay dense, and no reader believes an old state."""

import asyncio
from collections.abc import Collection

import pytest
from bson import ObjectId
from pydantic import SecretStr

from contracts.counting import inbox_state
from contracts.errors import StoreUnavailable
from infra.cli.recount import recount_all
from infra.store import messages as store_messages
from infra.store.client import Store
from infra.store.conversations import Conversations, Header
from infra.store.operations import Term
from tests.support.handlers import acks, conversation, stored_seqs
from tests.support.sample_commands import list_messages, seen, send
from tests.support.waiting import eventually
from tests.support.worker_settings import MakeSettings
from workers.history import History
from workers.persistence import Persistence
from workers.unread import Unread

#: Older than that of any primary: the first election of a replica set begins term 1.
OLD_TERM = ObjectId("7fffffff0000000000000000")


async def lost(collection: object, documents: list[object], *, majority: bool = True) -> tuple[int, Term]:
    """An insert at a primary that dies before anybody replicates it."""
    return len(documents), OLD_TERM


@pytest.mark.parametrize("same_worker", [True, False])
async def test_an_insert_that_a_primary_lost_leaves_no_hole(
    store: Store, monkeypatch: pytest.MonkeyPatch, same_worker: bool
) -> None:
    # Given a conversation with one message
    chat = await conversation(store, "ada", "bob")
    worker = Persistence(store)
    await worker([send("ada", chat, "one")])
    second = send("ada", chat, "two")
    # When three messages are inserted at a primary that dies, and their header is updated at its successor
    with monkeypatch.context() as patch:
        patch.setattr(store_messages, "insert_all", lost)
        with pytest.raises(StoreUnavailable):
            await worker([second, send("ada", chat, "three"), send("ada", chat, "four")])
    header = (await Conversations(store).headers([chat]))[chat]
    assert header.last_seq == 4, "the header claims what was lost"
    # Then the next message gets the number after the last one that is there
    effects = await (worker if same_worker else Persistence(store))([second])
    assert acks(effects)[second.request]["data"]["message"]["seq"] == 2
    assert await stored_seqs(store, chat) == [1, 2]
    header = (await Conversations(store).headers([chat]))[chat]
    assert (header.last_seq, header.watermark("ada").seq) == (2, 2), "nobody has read what does not exist"


async def test_nobody_is_told_to_have_read_or_not_read_a_message_that_a_primary_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a header that claims a message which is lost
    chat = await conversation(store, "ada", "bob")
    facts = (await Persistence(store)([send("ada", chat, "one")])).facts
    with monkeypatch.context() as patch:
        patch.setattr(store_messages, "insert_all", lost)
        with pytest.raises(StoreUnavailable):
            await Persistence(store)([send("ada", chat, "two")])

    # When a reader has seen all that there is, and the count of the first message is repeated
    read = seen("bob", chat, 2)
    ack = acks(await Unread(store)([read, *facts]))[read.request]["data"]
    assert (ack["last_read_seq"], ack["unread_count"], ack["total_unread"]) == (1, 0, 0)

    # Then the next message is unread, and the watermark has not moved back
    await Unread(store)((await Persistence(store)([send("ada", chat, "three")])).facts)
    assert (await Conversations(store).headers([chat]))[chat].watermark("bob").seq == 1
    entry = await store.inboxes.find_one({"_id": {"u": "bob", "c": chat}})
    assert entry["state"] == inbox_state(2, 1)


async def test_a_recount_lets_no_header_claim_more_than_the_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = await conversation(store, "ada", "bob")
    await Persistence(store)([send("ada", chat, "one")])
    with monkeypatch.context() as patch:
        patch.setattr(store_messages, "insert_all", lost)
        with pytest.raises(StoreUnavailable):
            await Persistence(store)([send("ada", chat, "two")])
    assert (await recount_all(store)).headers_differed == 1
    assert (await Conversations(store).headers([chat]))[chat].last_seq == 1
    assert (await recount_all(store)).headers_differed == 0


async def test_a_count_waits_for_the_header_that_its_fact_tells_of(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message whose count is right, and a second one
    chat = await conversation(store, "ada", "bob")
    await Unread(store)((await Persistence(store)([send("ada", chat, "m1")])).facts)
    before = await Conversations(store).headers([chat])
    facts = (await Persistence(store)([send("ada", chat, "m2")])).facts
    # When the header is read as it was before: a new primary's majority read, some milliseconds after its election
    real, stale = Conversations.headers, [before]

    async def headers(self: Conversations, ids: Collection[str]) -> dict[str, Header]:
        return stale.pop() if stale else await real(self, ids)

    monkeypatch.setattr(Conversations, "headers", headers)
    unread = Unread(store)
    # Then nothing is counted from it, and the next attempt counts right
    with pytest.raises(StoreUnavailable):
        await unread(facts)
    await unread(facts)
    entry = await store.inboxes.find_one({"_id": {"u": "bob", "c": chat}})
    assert entry["state"] == inbox_state(2, 0)


async def test_a_fact_of_a_conversation_that_began_anew_does_not_wait_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await conversation(store, "ada", "bob")
    facts = (await Persistence(store)([send("ada", chat, "m1"), send("ada", chat, "m2")])).facts
    await store.conversations.update_one({"_id": chat}, {"$set": {"last.seq": 1}})
    monkeypatch.setattr("workers.unread.BEHIND_LIMIT", 0.05)
    unread = Unread(store)
    with pytest.raises(StoreUnavailable):
        await unread(facts)
    await asyncio.sleep(0.06)  # the limit itself is what is tested
    await unread(facts)


async def test_what_was_stored_before_its_sender_was_blocked_is_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that dies between insert and header, and a sender who is then blocked
    chat = await conversation(store, "ada", "bob")
    await Persistence(store)([send("bob", chat, "m0")])
    command = send("ada", chat, "m1")

    async def crash(self: Conversations, *_: object) -> object:
        raise RuntimeError("the worker is killed here")

    with monkeypatch.context() as patch:
        patch.setattr(Conversations, "advance", crash)
        with pytest.raises(RuntimeError):
            await Persistence(store)([command])
    await store.users.update_one({"_id": "ada"}, {"$set": {"blocked": True}})
    # When the command is delivered again
    later = send("ada", chat, "m2")
    effects = await Persistence(store)([command, later])
    # Then its ack says where it is, and what was not stored is refused
    assert acks(effects)[command.request]["data"]["message"]["seq"] == 2
    assert acks(effects)[later.request]["error"]["code"] == "forbidden"
    assert len(effects.facts) == 1


async def test_a_reader_may_have_seen_more_than_the_header_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a worker that hangs between the insert of a message and its header
    chat = await conversation(store, "ada", "bob")
    await Persistence(store)([send("ada", chat, "m1")])
    go_on, real = asyncio.Event(), Conversations.advance

    async def slow(self: Conversations, *arguments: object) -> object:
        await go_on.wait()
        return await real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Conversations, "advance", slow)
    sending = asyncio.create_task(Persistence(store)([send("ada", chat, "m2")]))

    async def is_shown() -> bool:
        command = list_messages("bob", chat)
        found = acks(await History(store)([command]))[command.request]["data"]["messages"]
        return [message["seq"] for message in found] == [1, 2]

    await eventually(is_shown, sentence="history shows the message")
    # When a reader says that it was on screen
    read = seen("bob", chat, 2)
    ack = acks(await Unread(store)([read]))[read.request]
    go_on.set()
    await Unread(store)((await sending).facts)
    # Then it stays read
    assert ack["data"]["last_read_seq"] == 2
    entry = await store.inboxes.find_one({"_id": {"u": "bob", "c": chat}})
    assert entry["state"]["n"] == 0


async def test_fields_of_a_newer_version_are_skipped(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    await Persistence(store)([send("ada", chat, "m1")])
    for collection in (store.messages, store.conversations, store.users, store.inboxes, store.sessions):
        await collection.update_many({}, {"$set": {"of_a_newer_version": {"some": "thing"}}})
    command = list_messages("bob", chat)
    assert acks(await History(store)([command]))[command.request]["ok"]


async def test_reads_go_to_the_primary_whatever_the_address_says(make_settings: MakeSettings) -> None:
    address = make_settings().mongo_url.get_secret_value() + "&readPreference=secondaryPreferred"
    store = Store(make_settings(mongo_url=SecretStr(address)))
    try:
        assert store.sessions.read_preference.mode == 0
    finally:
        await store.close()


async def test_a_process_writes_once_in_each_term_before_it_trusts_reads(either_store: Store) -> None:
    term = await either_store.confirm_term()
    assert term is not None
    assert either_store.current_term == term
    async with either_store.one_term() as same:
        assert same == term


async def test_a_block_in_which_the_primary_changed_is_not_trusted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_while_the_primary_changes() -> None:
        async with store.one_term():
            monkeypatch.setattr(Store, "current_term", OLD_TERM)

    with pytest.raises(StoreUnavailable, match="primary changed"):
        await read_while_the_primary_changes()
