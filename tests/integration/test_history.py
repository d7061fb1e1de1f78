"""History: pages, and what it says when the store is away."""

import time

import pytest

from contracts.codec import Item
from contracts.commands import GetPresence, GetPresencePayload, ListMessages
from contracts.errors import StoreUnavailable
from infra.store.client import Store
from infra.store.messages import Messages
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks, conversation
from tests.support.sample_commands import EDGE, find_users, list_conversations, list_messages, opened, send
from workers.history import History
from workers.persistence import Persistence
from workers.presence import Presence
from workers.search import Search
from workers.stale_reads import STALE_AFTER


async def test_pages_of_messages_run_both_ways(store: Store) -> None:
    # Given ten messages
    chat = await conversation(store, "ada", "bob")
    await Persistence(store)([send("ada", chat, f"m{n}") for n in range(1, 11)])

    # When pages are asked for, from either end
    asked = {
        "newest": list_messages("bob", chat, limit=3),
        "before": list_messages("bob", chat, before_seq=4, limit=10),
        "after": list_messages("bob", chat, after_seq=6, limit=2),
        "end": list_messages("bob", chat, after_seq=10),
    }
    answers = acks(await History(store)(list(asked.values())))

    def page(name: str) -> tuple[list[int], bool]:
        data = answers[asked[name].request]["data"]
        return [message["seq"] for message in data["messages"]], data["has_more"]

    # Then each has its messages in order, and says whether there are more
    assert page("newest") == ([8, 9, 10], True)
    assert page("before") == ([1, 2, 3], False)
    assert page("after") == ([7, 8], True)
    assert page("end") == ([], False)


async def test_conversations_come_newest_first_page_by_page_without_ghosts(store: Store) -> None:
    # Given five conversations, and one that somebody else opened and never wrote in
    chats = [await conversation(store, "ada", f"friend-{n}") for n in range(5)]
    for n, chat in enumerate(chats):
        await Persistence(store)([send("ada", chat, f"m{n}")])
    await conversation(store, "stranger", "ada", opened_by_all=False)

    # When they are read page by page
    seen: list[str] = []
    cursor = None
    for _ in range(5):
        command = list_conversations("ada", limit=2, cursor=cursor)
        data = acks(await History(store)([command]))[command.request]["data"]
        seen += [chat["id"] for chat in data["conversations"]]
        cursor = data["next_cursor"]
        if cursor is None:
            break

    # Then they come newest first, each once
    assert seen == chats[::-1]


async def test_a_cursor_that_we_did_not_hand_out_is_refused(store: Store) -> None:
    commands = [list_conversations("ada", cursor=cursor) for cursor in ("nonsense", "AAAA", "eyIkZ3QiOiAiIn0")]
    answers = acks(await History(store)(commands))
    assert {answers[command.request]["error"]["code"] for command in commands} == {"invalid_payload"}


async def test_presence_of_someone_never_seen_is_offline_and_nothing_more(store: Store) -> None:
    await Presence(store)([opened("ada")])
    payload = GetPresencePayload(user_ids=["ada", "nobody", "ada"])
    command = GetPresence(edge_id=EDGE, request=1, at=int(time.time() * 1000), user_id="bob", sid="s", payload=payload)
    presence = acks(await History(store)([command]))[1]["data"]["presence"]
    assert [(one["user_id"], one["online"]) for one in presence] == [("ada", True), ("nobody", False)]


async def test_a_read_that_nobody_waits_for_any_more_is_not_carried_out(store: Store, counter: CommandCounter) -> None:
    command = list_messages("ada", "c")
    stale = ListMessages(**{**dict(command), "at": int((time.time() - STALE_AFTER - 1) * 1000)})
    counter.take()
    assert acks(await History(store)([stale])) == {}
    assert counter.take() == []


async def test_while_the_store_is_away_reads_are_refused_and_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("no primary")

    chat = await conversation(store, "ada", "bob")
    monkeypatch.setattr(Messages, "pages", away)
    command = list_messages("ada", chat)
    assert acks(await History(store)([command]))[command.request]["error"]["code"] == "unavailable"


async def test_the_cost_of_a_batch_does_not_depend_on_its_size(store: Store, counter: CommandCounter) -> None:
    chats = [await conversation(store, "ada", f"friend-{n}") for n in range(30)]
    await Persistence(store)([send("ada", chat, "m") for chat in chats])
    counter.take()
    await History(store)([list_messages("ada", chats[0]), list_conversations("ada")])
    one = counter.take()
    many: list[Item] = []
    for n, chat in enumerate(chats):
        many += [list_messages("ada", chat), list_conversations("ada", limit=n + 1)]
    await History(store)(many)
    assert counter.take() == one


async def test_a_worker_answers_reads_at_once_while_the_store_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Store) -> None:
        raise StoreUnavailable("no primary")

    monkeypatch.setattr(Store, "confirm_term", away)
    read, search = list_messages("ada", "c"), find_users("ada", "gra")
    assert acks(await History(store)([read]))[read.request]["error"]["code"] == "unavailable"
    assert acks(await Search(store)([search]))[search.request]["error"]["code"] == "unavailable"
