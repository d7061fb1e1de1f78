"""Dead letters on a real broker and store: looked at without harm, sent back without doubles, thrown away on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from contracts.codec import Item, encode_bundle
from contracts.commands import SendMessage
from contracts.errors import BrokerUnavailable, WarrenError
from contracts.facts import MessageStored
from contracts.topology import COMMANDS, DEAD, DELIVERY_LIMIT, PERSISTENCE, UNREAD
from infra.__main__ import app
from infra.broker import dead_letters
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.dead_letters import LetterFilter, NoSuchQueue
from infra.broker.declare import declare_topology
from infra.broker.link import connect_once
from infra.broker.publisher import Publisher
from infra.cli.dead_letters import parse_since
from infra.settings import WorkerSettings
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.support.sample_commands import list_messages, opened, seen, send, start
from tests.support.waiting import eventually
from tests.support.worker_settings import MakeSettings
from workers.effects import Effects
from workers.history import History
from workers.persistence import Persistence
from workers.presence import Presence
from workers.routing import Router
from workers.runner import Runner
from workers.sending import Sender


@pytest.fixture
def settings(vhost: str, make_settings: MakeSettings) -> WorkerSettings:
    return make_settings(amqp_url=SecretStr(vhost))


@pytest.fixture
async def publisher(settings: WorkerSettings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, "test", declare_topology)
    running = asyncio.create_task(publisher.link.run())
    await asyncio.wait_for(publisher.link.up.wait(), 10)
    yield publisher
    running.cancel()
    await asyncio.wait([running])


async def dead_letter(
    publisher: Publisher, *items: Item, queue: str = "persistence", reason: str = "ValueError: no", ago: float = 60
) -> None:
    """Put one letter aside as a worker does."""
    await bury_bytes(publisher, encode_bundle(items), queue=queue, reason=reason, ago=ago)


async def bury_bytes(
    publisher: Publisher, body: bytes, *, queue: str = "persistence", reason: str = "undecodable: v", ago: float = 60
) -> None:
    headers = {
        "x-warren-queue": queue,
        "x-warren-reason": reason,
        "x-warren-first-failure": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
        "x-warren-attempts": 3,
    }
    await publisher.publish(DEAD, queue, body, amqp_headers=headers)


async def ids(settings: WorkerSettings, **wanted: Any) -> list[str]:
    """The messages among the letters that match, oldest first."""
    letters = await dead_letters.read(settings, "persistence", LetterFilter(**wanted))
    return [
        item.payload.client_message_id for letter in letters for item in letter.items if isinstance(item, SendMessage)
    ]


async def ready(settings: WorkerSettings, queue: str) -> int:
    """Messages that wait in a queue."""
    counts: list[int] = []

    async def count(channel: Channel) -> None:
        counts.append(await channel.count_ready(queue))

    await connect_once(settings, count)
    return counts[0]


# --- Looking ----------------------------------------------------------------------------------------------


async def test_looking_takes_nothing_away_and_keeps_the_order(publisher: Publisher, settings: WorkerSettings) -> None:
    written = [f"m{number:03}" for number in range(150)]
    for name in written:
        await dead_letter(publisher, send("ada", "c", name))
    # More often than RabbitMQ from 4.0 on would hand out a message whose queue has no limit
    for _ in range(25):
        assert await ids(settings) == written
        assert await ids(settings, limit=7) == written[:7]
    assert (await dead_letters.summarize(settings, "persistence", LetterFilter())).present == len(written)


async def test_each_filter_means_what_it_says(publisher: Publisher, settings: WorkerSettings) -> None:
    await dead_letter(publisher, send("ada", "c", "old"), ago=7_200)
    await dead_letter(publisher, send("bob", "c", "keyed"), reason="KeyError: 'last'")
    await dead_letter(publisher, send("ada", "c", "new"))
    await dead_letter(publisher, start("ada", "bob"))
    await bury_bytes(publisher, b"\x00 nonsense")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert await ids(settings) == ["old", "keyed", "new"]
    assert await ids(settings, reason="keyerror") == ["keyed"]
    assert await ids(settings, name="send_message", user="ada") == ["old", "new"]
    assert await ids(settings, since=hour_ago) == ["keyed", "new"]
    assert await ids(settings, user="nobody") == []
    assert len(await dead_letters.read(settings, "persistence.dead", LetterFilter(name="start_conversation"))) == 1
    found = await dead_letters.summarize(settings, "persistence", LetterFilter())
    assert (found.present, found.matched, found.undecodable) == (5, 5, 1)
    assert found.reasons == {"ValueError: no": 3, "KeyError: 'last'": 1, "undecodable: v": 1}
    assert found.names == {"send_message": 3, "start_conversation": 1}
    assert found.oldest is not None
    assert found.oldest < hour_ago


async def test_a_queue_without_dead_letters_is_refused_by_name(settings: WorkerSettings) -> None:
    for name in ("typing", "nonsense", "edge.a.1"):
        with pytest.raises(NoSuchQueue, match=name):
            await dead_letters.summarize(settings, name, LetterFilter())


async def test_a_missing_topology_is_a_sentence(settings: WorkerSettings) -> None:
    with pytest.raises(WarrenError, match=r"persistence\.dead"):
        await dead_letters.summarize(settings, "persistence", LetterFilter())


async def test_a_bundle_that_the_broker_gave_up_is_kept_whole_with_its_reason(
    publisher: Publisher, settings: WorkerSettings
) -> None:
    # Given a bundle on which consumers die, each time it is delivered
    bundle = [send("ada", "c", "m1"), send("ada", "c", "m2")]
    await publisher.publish(COMMANDS, "send_message", encode_bundle(bundle))

    async def die(channel: Channel) -> None:
        received: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        await channel.consume(PERSISTENCE.name, received.put_nowait, prefetch=1)
        await asyncio.wait_for(received.get(), 5)

    for _ in range(DELIVERY_LIMIT + 1):
        await connect_once(settings, die)
    await eventually(
        lambda: _has(settings, "persistence.dead", 1), within=10, sentence="the broker puts the bundle aside"
    )

    # Then one letter holds both, and says why and since when
    (letter,) = await dead_letters.read(settings, "persistence", LetterFilter(reason="delivery_limit", user="ada"))
    assert list(letter.items) == bundle
    assert letter.attempts == DELIVERY_LIMIT + 1
    assert letter.since is not None
    assert abs(datetime.now(UTC) - letter.since) < timedelta(minutes=1)

    # And it goes back whole
    assert (await dead_letters.replay(settings, "persistence", LetterFilter())).removed == 1
    assert await ready(settings, "persistence") == 1


async def _has(settings: WorkerSettings, queue: str, number: int) -> bool:
    return await ready(settings, queue) == number


# --- Replaying --------------------------------------------------------------------------------------------


@asynccontextmanager
async def worker(settings: WorkerSettings, store: Store, publisher: Publisher) -> AsyncIterator[None]:
    """A persistence worker."""
    router = Router(SessionDirectory(store), "test")
    runner = Runner(PERSISTENCE, Persistence(store), sender=Sender(publisher, router), settings=settings)
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
        await eventually(lambda: _has(settings, "persistence.dead", 3), within=60, sentence="all three are put aside")

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
        assert await ready(settings, "persistence.dead") == 0
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
    assert await ready(settings, "persistence.dead") == 0


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
    assert await ready(settings, "unread") == 2
    assert await ready(settings, "unread.dead") == 0


async def test_what_does_not_match_stays_where_and_as_it_was(publisher: Publisher, settings: WorkerSettings) -> None:
    for number in range(250):
        await dead_letter(publisher, send("ada" if number % 2 else "bob", "c", f"m{number:03}"))
    result = await dead_letters.replay(settings, "persistence", LetterFilter(user="ada", limit=110))
    assert result.removed == 110
    assert await ready(settings, "persistence") == 110
    stay = [f"m{number:03}" for number in range(250) if not number % 2 or number > 2 * 110]
    assert await ids(settings) == stay


async def test_bytes_that_cannot_be_read_go_back_only_when_that_is_said(
    publisher: Publisher, settings: WorkerSettings
) -> None:
    await bury_bytes(publisher, b"\x00 nonsense")
    await dead_letter(publisher, send("ada", "c", "m1"))
    result = await dead_letters.replay(settings, "persistence", LetterFilter())
    assert (result.removed, result.refused) == (1, 1)
    assert await ready(settings, "persistence.dead") == 1
    result = await dead_letters.replay(settings, "persistence", LetterFilter(), raw=True)
    assert (result.removed, result.refused) == (1, 0)
    assert (await ready(settings, "persistence"), await ready(settings, "persistence.dead")) == (2, 0)


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
    assert await ready(settings, "persistence.dead") == 1


async def test_more_letters_than_a_look_can_hold_are_said_to_be_and_do_not_stop_a_replay(
    publisher: Publisher, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        await dead_letter(publisher, send("ada" if number else "bob", "c", f"m{number:02}"))
    monkeypatch.setattr(dead_letters, "MAX_HELD", 10)
    monkeypatch.setattr(dead_letters, "IDLE_LIMIT", 0.5)
    monkeypatch.setattr(dead_letters, "REPLAY_WINDOW", 5)
    found = await dead_letters.summarize(settings, "persistence", LetterFilter())
    assert (found.present, found.matched, found.not_read) == (30, 10, 20)
    # What is sent back makes room, and what stays takes some
    assert (await dead_letters.replay(settings, "persistence", LetterFilter(user="ada"))).removed == 29
    assert await ids(settings) == ["m00"]
    assert await ready(settings, "persistence") == 29


async def test_a_queue_that_takes_no_more_ends_a_replay_and_the_rest_stays(
    publisher: Publisher, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    result = await dead_letters.replay(settings, "persistence", LetterFilter())
    assert (result.removed, result.error) == (15, "The queue is full.")
    assert await ids(settings) == [f"m{number:02}" for number in range(15, 30)]


# --- The command ------------------------------------------------------------------------------------------


@pytest.fixture
def operate(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `python -m infra dead-letters …`, in a thread, with what is typed in."""
    monkeypatch.setenv("WARREN_AMQP_URL", settings.amqp_url.get_secret_value())
    monkeypatch.setenv("COLUMNS", "200")

    async def run(*arguments: str, typed: str = "") -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *arguments], typed)

    return run


async def test_an_operator_lists_shows_replays_and_purges(
    publisher: Publisher, settings: WorkerSettings, operate: Any
) -> None:
    await dead_letter(publisher, send("ada", "c", "m1", body="secret " * 50))
    await dead_letter(publisher, send("bob", "c", "m2"), reason="KeyError: [red]\x1b[31m'last'")
    await bury_bytes(publisher, b'{"v":1,"items":[{"name":"from another version"}]}')

    listed = await operate("list")
    assert listed.exit_code == 0
    assert "1 × ValueError: no" in listed.output
    assert "1 × KeyError: [red]\\x1b[31m'last'" in listed.output, "a reason can neither colour nor move the terminal"

    shown = await operate("show", "persistence")
    assert "send_message, failed 20" in shown.output
    assert "3 attempts: ValueError: no" in shown.output
    assert '"client_message_id": "m1"' in shown.output
    assert "… (349 characters)" in shown.output
    assert "secret " * 50 not in shown.output
    assert "from another version" in shown.output
    full = await operate("show", "persistence.dead", "--full", "--limit", "1", "--since", "2h")
    assert ("secret " * 50).strip() in full.output
    assert "m2" not in full.output
    assert "There are none." in (await operate("show", "unread")).output

    dry = await operate("replay", "persistence", "--user", "ada", "--dry-run")
    assert "Would replay 1 of 3 dead letters of persistence" in dry.output
    refused = await operate("replay", "persistence", "--user", "ada", typed="n\n")
    assert refused.exit_code == 1
    assert (await operate("purge", "persistence")).exit_code == 1, "without an answer nothing is done"
    assert await ready(settings, "persistence.dead") == 3

    confirmed = await operate("replay", "persistence", "--user", "ada", typed="y\n")
    assert "Replayed 1 of 1 of 3 dead letters of persistence." in confirmed.output
    rest = await operate("replay", "persistence", "--yes")
    assert "Replayed 1 of 2 of 2 dead letters" in rest.output
    assert "1 cannot be decoded and stay" in rest.output
    assert await ready(settings, "persistence") == 2
    purged = await operate("purge", "persistence", "--reason", "undecodable", "--yes")
    assert "Purged 1 of 1 of 1" in purged.output
    assert "There are none." in (await operate("purge", "persistence", "--yes")).output


async def test_an_operators_mistakes_are_sentences(publisher: Publisher, operate: Any) -> None:
    assert publisher.link.up.is_set()
    assert "choose one of persistence, unread, presence, history" in str((await operate("show", "typing")).exception)
    assert (await operate("show", "persistence", "--since", "yesterday")).exit_code == 2
    assert (await operate("replay", "persistence", "--limit", "0")).exit_code == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("3d", 259_200), ("2026-01-31T11:00", 3_600)]
)
def test_since_is_so_long_ago_or_a_time(text: str, seconds: int) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_since(text, now) == now - timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "2 h", "9999999d", "yesterday"])
def test_other_words_for_since_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_since(text, datetime.now(UTC))
