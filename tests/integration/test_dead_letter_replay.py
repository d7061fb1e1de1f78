"""Dead letters go back to where they came from: each once, in order, and whatever interrupts it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contracts.codec import Item, encode_bundle
from contracts.errors import BrokerUnavailable
from contracts.facts import MessageStored
from contracts.topology import COMMANDS, PERSISTENCE, UNREAD
from infra.broker import dead_letters
from infra.broker.channel import IncomingMessage
from infra.broker.dead_letters import LetterFilter
from infra.broker.publisher import Publisher
from infra.settings import WorkerSettings
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.support.sample_commands import list_messages, opened, seen, send, start
from tests.support.sample_dead_letters import count_ready, dead_letter, dead_letter_bytes, has, message_ids
from tests.support.waiting import eventually
from workers.effects import Effects
from workers.history import History
from workers.persistence import Persistence
from workers.presence import Presence
from workers.publishing import EffectsPublisher
from workers.routing import Router
from workers.runner import Runner


@asynccontextmanager
async def worker(settings: WorkerSettings, store: Store, publisher: Publisher) -> AsyncIterator[None]:
    """A persistence worker."""
    router = Router(SessionDirectory(store), "test")
    runner = Runner(PERSISTENCE, Persistence(store), publisher=EffectsPublisher(publisher, router), settings=settings)
    tasks = [asyncio.create_task(runner.link.run()), asyncio.create_task(runner.run())]
    await asyncio.wait_for(runner.link.up.wait(), 10)
    yield
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks, timeout=10)


async def test_poison_is_mended_and_replayed_twice_and_stored_once(
    publisher: Publisher, settings: WorkerSettings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a conversation that breaks in the store, and messages to it that nobody can handle
    await Presence(store)([opened("ada"), opened("bob")])
    persistence = Persistence(store)
    started = start("ada", "bob")
    conversation_id = _conversation(await persistence([started]))
    await persistence([send("ada", conversation_id, "m0")])
    intact = await store.conversations.find_one({"_id": conversation_id})
    await store.conversations.update_one({"_id": conversation_id}, {"$set": {"participants": "poison"}})
    poison: Sequence[Item] = [send("ada", conversation_id, f"m{number}") for number in (1, 2, 3)]
    await publisher.publish(COMMANDS, "send_message", encode_bundle(poison))
    async with worker(settings, store, publisher):
        await eventually(lambda: has(settings, "persistence.dead", 3), within=60, sentence="all three are put aside")

        # When the store is mended, and a replay is cut off between the confirms and the acks
        await store.conversations.replace_one({"_id": conversation_id}, intact)
        with monkeypatch.context() as patch:
            patch.setattr(IncomingMessage, "ack", _die)
            with pytest.raises(RuntimeError, match="power cut"):
                await dead_letters.replay(settings, "persistence", LetterFilter(user="ada"))
        await eventually(lambda: _stored(store, conversation_id, 4), within=10, sentence="they are stored")
        assert (await dead_letters.summarize(settings, "persistence", LetterFilter())).present == 3

        # And then again, to the end
        progress: list[int] = []
        result = await dead_letters.replay(settings, "persistence", LetterFilter(user="ada"), progress=progress.append)
        assert (result.removed, result.refused, result.error) == (3, 0, "")
        assert sum(progress) == 3
        assert await count_ready(settings, "persistence.dead") == 0
        # A message behind them shows when they have been handled once more
        await publisher.publish(COMMANDS, "send_message", encode_bundle([send("bob", conversation_id, "last")]))
        await eventually(lambda: _stored(store, conversation_id, 5), within=10, sentence="the last one is stored")

    # Then each is there once, in its order, without a gap, and nothing came back
    messages = await store.messages.find({"conversation_id": conversation_id}).sort("seq", 1).to_list(None)
    assert [(message["seq"], message["client_message_id"]) for message in messages] == [
        (1, "m0"), (2, "m1"), (3, "m2"), (4, "m3"), (5, "last"),
    ]  # fmt: skip
    page = await History(store)([list_messages("bob", conversation_id)])
    assert '"seq":5' in _ack(page)
    assert await count_ready(settings, "persistence.dead") == 0


async def _die(_: IncomingMessage) -> None:
    raise RuntimeError("power cut")


def _ack(effects: Effects) -> str:
    ((reply,),) = effects.replies.values()
    return reply.ack


def _conversation(effects: Effects) -> str:
    conversation_id: str = json.loads(_ack(effects))["data"]["conversation"]["id"]
    return conversation_id


async def _stored(store: Store, conversation_id: str, number: int) -> bool:
    count: int = await store.messages.count_documents({"conversation_id": conversation_id})
    return count == number


async def test_each_letter_goes_back_by_the_exchange_and_key_it_came_by(
    publisher: Publisher, settings: WorkerSettings
) -> None:
    fact = MessageStored(conversation_id="c", seq=1, sender_id="ada", sender_was_behind=False)
    await dead_letter(publisher, fact, queue="unread")
    await dead_letter(publisher, seen("ada", "c", 1), queue="unread")
    result = await dead_letters.replay(settings, UNREAD.name, LetterFilter())
    assert result.removed == 2
    assert await count_ready(settings, "unread") == 2
    assert await count_ready(settings, "unread.dead") == 0


async def test_what_does_not_match_stays_where_and_as_it_was(publisher: Publisher, settings: WorkerSettings) -> None:
    for number in range(250):
        await dead_letter(publisher, send("ada" if number % 2 else "bob", "c", f"m{number:03}"))
    result = await dead_letters.replay(settings, "persistence", LetterFilter(user="ada", limit=110))
    assert result.removed == 110
    assert await count_ready(settings, "persistence") == 110
    stay = [f"m{number:03}" for number in range(250) if not number % 2 or number > 2 * 110]
    assert await message_ids(settings) == stay


async def test_bytes_that_cannot_be_read_go_back_only_when_that_is_said(
    publisher: Publisher, settings: WorkerSettings
) -> None:
    await dead_letter_bytes(publisher, b"\x00 nonsense")
    await dead_letter(publisher, send("ada", "c", "m1"))
    result = await dead_letters.replay(settings, "persistence", LetterFilter())
    assert (result.removed, result.refused) == (1, 1)
    assert await count_ready(settings, "persistence.dead") == 1
    result = await dead_letters.replay(settings, "persistence", LetterFilter(), raw=True)
    assert (result.removed, result.refused) == (1, 0)
    assert (await count_ready(settings, "persistence"), await count_ready(settings, "persistence.dead")) == (2, 0)


async def test_letters_that_come_while_others_go_back_are_left_alone(
    publisher: Publisher, settings: WorkerSettings
) -> None:
    # Given a letter that fails again at once, as it does while the cause is still there
    await dead_letter(publisher, send("ada", "c", "m1"))
    came_back = asyncio.Event()

    def fail_again(_: int) -> None:
        returning.append(asyncio.create_task(dead_letter(publisher, send("ada", "c", "m1"))))
        came_back.set()

    returning: list[asyncio.Task[None]] = []
    result = await dead_letters.replay(settings, "persistence", LetterFilter(), progress=fail_again)
    await asyncio.gather(*returning)

    # Then it is not replayed for ever
    assert result.removed == 1
    assert came_back.is_set()
    assert await count_ready(settings, "persistence.dead") == 1


async def test_more_letters_than_a_look_can_hold_are_said_to_be_and_do_not_stop_a_replay(
    publisher: Publisher, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more letters than one look can hold
    for number in range(30):
        await dead_letter(publisher, send("ada" if number else "bob", "c", f"m{number:02}"))
    monkeypatch.setattr(dead_letters, "MAX_HELD", 10)
    monkeypatch.setattr(dead_letters, "IDLE_LIMIT", 0.5)
    monkeypatch.setattr(dead_letters, "REPLAY_WINDOW", 5)

    # When they are counted, then it says how many it could not read
    found = await dead_letters.summarize(settings, "persistence", LetterFilter())
    assert (found.present, found.matched, found.not_read) == (30, 10, 20)
    # What is sent back makes room, and what stays takes some
    assert (await dead_letters.replay(settings, "persistence", LetterFilter(user="ada"))).removed == 29
    assert await message_ids(settings) == ["m00"]
    assert await count_ready(settings, "persistence") == 29


async def test_a_queue_that_takes_no_more_ends_a_replay_and_the_rest_stays(
    publisher: Publisher, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a queue that is full after fifteen messages
    for number in range(30):
        await dead_letter(publisher, send("ada", "c", f"m{number:02}"))
    monkeypatch.setattr(dead_letters, "REPLAY_WINDOW", 10)
    real, published = Publisher.publish, 0

    async def full_after_15(self: Publisher, *arguments: Any, **options: Any) -> None:
        nonlocal published
        published += 1
        if published > 15:
            raise BrokerUnavailable("The queue is full.")
        await real(self, *arguments, **options)

    monkeypatch.setattr(Publisher, "publish", full_after_15)

    # When thirty letters are sent back, then the rest stays where it was
    result = await dead_letters.replay(settings, "persistence", LetterFilter())
    assert (result.removed, result.error) == (15, "The queue is full.")
    assert await message_ids(settings) == [f"m{number:02}" for number in range(15, 30)]
