"""Dead letters on a real broker: looked at without harm, and what the operator's command shows and does."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from contracts.codec import encode_bundle
from contracts.errors import WarrenError
from contracts.topology import COMMANDS, DELIVERY_LIMIT, PERSISTENCE
from infra.__main__ import app
from infra.broker import dead_letters
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.dead_letters import LetterFilter, NoSuchQueue
from infra.broker.link import connect_once
from infra.broker.publisher import Publisher
from infra.settings import WorkerSettings
from tests.support.sample_commands import send, start
from tests.support.sample_dead_letters import count_ready, dead_letter, dead_letter_bytes, has, message_ids
from tests.support.waiting import eventually

# --- Looking ----------------------------------------------------------------------------------------------


async def test_looking_takes_nothing_away_and_keeps_the_order(publisher: Publisher, settings: WorkerSettings) -> None:
    written = [f"m{number:03}" for number in range(150)]
    for name in written:
        await dead_letter(publisher, send("ada", "c", name))
    # More often than RabbitMQ from 4.0 on would hand out a message whose queue has no limit
    for _ in range(25):
        assert await message_ids(settings) == written
        assert await message_ids(settings, limit=7) == written[:7]
    assert (await dead_letters.summarize(settings, "persistence", LetterFilter())).present == len(written)


async def test_each_filter_means_what_it_says(publisher: Publisher, settings: WorkerSettings) -> None:
    # Given letters that differ in age, reason, name, user and whether they can be read
    await dead_letter(publisher, send("ada", "c", "old"), ago=7_200)
    await dead_letter(publisher, send("bob", "c", "keyed"), reason="KeyError: 'last'")
    await dead_letter(publisher, send("ada", "c", "new"))
    await dead_letter(publisher, start("ada", "bob"))
    await dead_letter_bytes(publisher, b"\x00 nonsense")

    # Then each filter finds its own
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert await message_ids(settings) == ["old", "keyed", "new"]
    assert await message_ids(settings, reason="keyerror") == ["keyed"]
    assert await message_ids(settings, name="send_message", user="ada") == ["old", "new"]
    assert await message_ids(settings, since=hour_ago) == ["keyed", "new"]
    assert await message_ids(settings, user="nobody") == []
    assert len(await dead_letters.read(settings, "persistence.dead", LetterFilter(name="start_conversation"))) == 1

    # And a summary counts all of them
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
        lambda: has(settings, "persistence.dead", 1), within=10, sentence="the broker puts the bundle aside"
    )

    # Then one letter holds both, and says why and since when
    (letter,) = await dead_letters.read(settings, "persistence", LetterFilter(reason="delivery_limit", user="ada"))
    assert list(letter.items) == bundle
    assert letter.attempts == DELIVERY_LIMIT + 1
    assert letter.since is not None
    assert abs(datetime.now(UTC) - letter.since) < timedelta(minutes=1)

    # And it goes back whole
    assert (await dead_letters.replay(settings, "persistence", LetterFilter())).removed == 1
    assert await count_ready(settings, "persistence") == 1


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
    # Given a long letter, one with a nasty reason, and one of another version
    await dead_letter(publisher, send("ada", "c", "m1", body="secret " * 50))
    await dead_letter(publisher, send("bob", "c", "m2"), reason="KeyError: [red]\x1b[31m'last'")
    await dead_letter_bytes(publisher, b'{"v":1,"items":[{"name":"from another version"}]}')

    # Then a list counts them by reason
    listed = await operate("list")
    assert listed.exit_code == 0
    assert "1 × ValueError: no" in listed.output
    assert "1 × KeyError: [red]\\x1b[31m'last'" in listed.output, "a reason can neither colour nor move the terminal"

    # And what is shown of each is readable, and whole only when that is asked for
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

    # And nothing is removed by a dry run, nor without a yes
    dry = await operate("replay", "persistence", "--user", "ada", "--dry-run")
    assert "Would replay 1 of 3 dead letters of persistence" in dry.output
    refused = await operate("replay", "persistence", "--user", "ada", typed="n\n")
    assert refused.exit_code == 1
    assert (await operate("purge", "persistence")).exit_code == 1, "without an answer nothing is done"
    assert await count_ready(settings, "persistence.dead") == 3

    # When that is given, then what matches goes back, and what cannot be read stays
    confirmed = await operate("replay", "persistence", "--user", "ada", typed="y\n")
    assert "Replayed 1 of 1 of 3 dead letters of persistence." in confirmed.output
    rest = await operate("replay", "persistence", "--yes")
    assert "Replayed 1 of 2 of 2 dead letters" in rest.output
    assert "1 cannot be decoded and stay" in rest.output
    assert await count_ready(settings, "persistence") == 2
    purged = await operate("purge", "persistence", "--reason", "undecodable", "--yes")
    assert "Purged 1 of 1 of 1" in purged.output
    assert "There are none." in (await operate("purge", "persistence", "--yes")).output


async def test_an_operators_mistakes_are_sentences(publisher: Publisher, operate: Any) -> None:
    assert publisher.link.up.is_set()
    assert "choose one of persistence, unread, presence, history" in str((await operate("show", "typing")).exception)
    assert (await operate("show", "persistence", "--since", "yesterday")).exit_code == 2
    assert (await operate("replay", "persistence", "--limit", "0")).exit_code == 2
