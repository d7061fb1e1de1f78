"""Publishing: every publish is confirmed or repeated, and one that can never be does not hold up the others."""

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from contracts.codec import decode_bundle, decode_frame, encode_bundle
from contracts.errors import BrokerUnavailable, MessageTooLarge, PublishUnknown, StoreUnavailable, Unroutable
from contracts.facts import MessageStored
from contracts.frames import Push, Reply
from contracts.reports import SessionsDrop
from contracts.topology import COMMANDS, DEAD, FACTS, FRAMES
from infra.store.sessions import Session
from tests.support.waiting import eventually
from tests.unit.workers.fakes import FakeDirectory, ScriptedPublisher
from workers import publishing, routing
from workers.effects import Effects
from workers.publishing import MAX_REASON, REPORT_INTERVAL, EffectsPublisher
from workers.routing import Router

LOST = SessionsDrop.model_fields["name"].default
FACT = MessageStored.model_fields["name"].default


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat at once."""
    monkeypatch.setattr(publishing, "backoff", lambda attempt: 0.0)


@pytest.fixture
def publisher() -> ScriptedPublisher:
    return ScriptedPublisher()


@pytest.fixture
def directory() -> FakeDirectory:
    return FakeDirectory(Session("ada", "e1", 7), Session("bob", "e2", 3))


@pytest.fixture
def effects_publisher(publisher: ScriptedPublisher, directory: FakeDirectory) -> EffectsPublisher:
    return EffectsPublisher(publisher, Router(directory, "w1"))  # type: ignore[arg-type]


def push(*to: str) -> Push:
    return Push(event="typing", payload="{}", to=list(to))


def fact(seq: int) -> MessageStored:
    return MessageStored(conversation_id="c1", seq=seq, sender_id="ada", sender_was_behind=False)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def after(attempts: int, publisher: ScriptedPublisher) -> Callable[[], bool]:
    """Says that a batch is abandoned once so many publishes were tried."""
    return lambda: len(publisher.attempts) >= attempts


# --- Frames -----------------------------------------------------------------------------------------------


async def test_a_frame_leaves_for_each_edge_and_need_not_outlive_the_broker(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    effects = Effects(replies={"e1": [Reply(request=1, ack="{}")]}, pushes=[push("ada", "bob")])
    assert await effects_publisher.publish_frames(effects)
    assert {(one.exchange, one.key, one.persistent) for one in publisher.published} == {
        (FRAMES, "e1", False),
        (FRAMES, "e2", False),
    }
    frames = {one.key: decode_frame(one.body) for one in publisher.published}
    assert [r.request for r in frames["e1"].replies] == [1]
    assert {edge: frame.pushes[0].to for edge, frame in frames.items()} == {"e1": ["ada"], "e2": ["bob"]}


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), PublishUnknown("no confirm in time")])
async def test_a_frame_is_published_until_it_is_confirmed(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher, error: Exception
) -> None:
    publisher.outcomes["e1"] = [error, error]
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada")]))
    assert publisher.attempts == ["e1"] * 3
    assert len(publisher.published) == 1


async def test_a_frame_is_given_up_once_the_broker_has_taken_its_batch_back(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    publisher.outcomes["e1"] = [BrokerUnavailable("away")] * 10
    followed: list[bool] = []

    async def follow_up() -> None:
        followed.append(True)

    effects = Effects(pushes=[push("ada")], after_frames=[follow_up])
    assert not await effects_publisher.publish_frames(effects, abandoned=after(3, publisher))
    assert len(publisher.attempts) == 3
    assert followed == []


async def test_a_store_that_is_away_is_told_before_anything_is_published(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher, directory: FakeDirectory
) -> None:
    directory.is_away = True
    with pytest.raises(StoreUnavailable):
        await effects_publisher.publish_frames(
            Effects(replies={"e1": [Reply(request=1, ack="{}")]}, pushes=[push("ada")])
        )
    assert publisher.attempts == []


async def test_a_frame_that_the_broker_will_never_take_is_dropped_alone(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("warren_worker_frames_dropped_total")
    publisher.outcomes["e1"] = [MessageTooLarge("17 MiB")]
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada", "bob")]))
    assert [one.key for one in publisher.published] == ["e2"]
    assert counted("warren_worker_frames_dropped_total") == before + 1
    assert "e1" in caplog.text


async def test_follow_ups_run_after_the_frames_and_their_failure_is_told(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    # Given something to do once the frames are confirmed, which fails at first
    done: list[int] = []
    away = [StoreUnavailable("away")]

    async def follow_up() -> None:
        done.append(len(publisher.published))
        if away:
            raise away.pop()

    # When they are sent, then the caller is told, and sends them again
    effects = Effects(pushes=[push("ada")], after_frames=[follow_up])
    with pytest.raises(StoreUnavailable):
        await effects_publisher.publish_frames(effects)
    assert await effects_publisher.publish_frames(effects)
    # Then it is done after the frames, and also when there are none
    assert await effects_publisher.publish_frames(Effects(after_frames=[follow_up]))
    assert done == [1, 2, 2]


# --- Edges without a queue --------------------------------------------------------------------------------


async def test_an_edge_without_a_queue_is_reported_to_the_presence_workers(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    before = counted("warren_worker_unroutable_frames_total")
    publisher.outcomes["e1"] = [Unroutable("no queue")]
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada", "bob")]))
    (report,) = [one for one in publisher.published if one.exchange == COMMANDS]
    (command,) = decode_bundle(report.body)
    assert isinstance(command, SessionsDrop)
    assert (report.key, command.edge_id, command.epoch) == (LOST, "e1", 7)
    assert counted("warren_worker_unroutable_frames_total") == before + 1
    assert [one.key for one in publisher.published if one.exchange == FRAMES] == ["e2"]


async def test_a_lost_edge_is_reported_once_for_a_while(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an edge that is found lost many times at once, and again after a while
    now = [1_000.0]
    monkeypatch.setattr("workers.publishing.time.monotonic", lambda: now[0])
    publisher.outcomes["e1"] = [Unroutable("no queue")] * 10
    for _ in range(3):
        await effects_publisher.publish_frames(Effects(pushes=[push("ada")]))
    assert publisher.attempts.count(LOST) == 1

    # Then it is reported again after that while
    now[0] += REPORT_INTERVAL
    await effects_publisher.publish_frames(Effects(pushes=[push("ada")]))
    assert publisher.attempts.count(LOST) == 2


async def test_an_edge_that_only_waits_for_replies_has_no_sessions_to_drop(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    publisher.outcomes["e9"] = [Unroutable("no queue")]
    assert await effects_publisher.publish_frames(Effects(replies={"e9": [Reply(request=1, ack="{}")]}))
    assert publisher.attempts == ["e9"]


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), PublishUnknown("no confirm in time")])
async def test_a_report_that_fails_holds_nothing_up(
    effects_publisher: EffectsPublisher,
    publisher: ScriptedPublisher,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher.outcomes["e1"] = [Unroutable("no queue")]
    publisher.outcomes[LOST] = [error]
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada")]))
    assert "could not be reported" in caplog.text


# --- Empty frames -----------------------------------------------------------------------------------------


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every edge gets its two empty frames at once."""
    monkeypatch.setattr(publishing, "TRAILING_INTERVAL", 0.0)
    monkeypatch.setattr(routing, "TRAILING_AFTER", (0.0, 0.0))


@pytest.mark.usefixtures("always_due")
async def test_an_empty_frame_is_repeated_and_the_next_frame_waits_for_it(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    # Given an empty frame that is not confirmed
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada")]))
    publisher.outcomes["e1"] = [PublishUnknown("no confirm in time")] * 3
    running = asyncio.create_task(effects_publisher.run())
    await eventually(lambda: len(publisher.attempts) > 1, sentence="the empty frame is tried")
    # When there is a frame to send
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada")]))
    running.cancel()
    # Then frames arrive in the order of their numbers
    numbers = [decode_frame(one.body).number for one in publisher.published]
    assert numbers == sorted(numbers)
    assert numbers[0] == 1


@pytest.mark.usefixtures("always_due")
@pytest.mark.parametrize("error", [Unroutable("no queue"), ValueError("no routing key")])
async def test_an_edge_that_cannot_get_its_empty_frame_gets_no_second_one_and_is_not_reported(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher, error: Exception
) -> None:
    # Given frames for two edges, of which one cannot get any more
    assert await effects_publisher.publish_frames(Effects(pushes=[push("ada"), push("bob")]))
    publisher.outcomes["e1"] = [error]
    # When empty ones follow
    running = asyncio.create_task(effects_publisher.run())
    await eventually(lambda: publisher.attempts.count("e2") == 3, sentence="the other edge gets both")
    running.cancel()
    # Then the other edge gets both, and nobody is told that the first one is lost
    assert publisher.attempts.count("e1") == 2
    assert COMMANDS not in {one.exchange for one in publisher.published}


# --- Facts ------------------------------------------------------------------------------------------------


async def test_facts_of_one_name_travel_in_one_durable_message(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    assert await effects_publisher.publish_facts([fact(1), fact(2), fact(3)], [], lambda: False)
    (one,) = publisher.published
    assert (one.exchange, one.key, one.persistent) == (FACTS, FACT, True)
    assert decode_bundle(one.body) == [fact(1), fact(2), fact(3)]


async def test_no_facts_are_no_message(effects_publisher: EffectsPublisher, publisher: ScriptedPublisher) -> None:
    assert await effects_publisher.publish_facts([], [], lambda: False)
    assert publisher.attempts == []


async def test_a_fact_is_published_until_somebody_has_declared_its_queue(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    publisher.outcomes[FACT] = [Unroutable("no queue"), PublishUnknown("lost"), BrokerUnavailable("full")]
    assert await effects_publisher.publish_facts([fact(1)], [], lambda: False)
    assert publisher.attempts == [FACT] * 4


async def test_facts_are_given_up_once_the_broker_has_taken_their_batch_back(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    publisher.outcomes[FACT] = [BrokerUnavailable("away")] * 10
    assert not await effects_publisher.publish_facts([fact(1)], [], after(2, publisher))
    assert publisher.published == []


# --- Dead letters -----------------------------------------------------------------------------------------


async def test_a_dead_letter_says_whence_why_since_when_and_how_often(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    # When a message is put aside
    before = counted("warren_worker_dead_letters_total", queue="unread")
    body = encode_bundle([fact(1)])
    await effects_publisher.dead_letter("unread", body, "ValueError: " + "x" * 5_000, attempts=3)

    # Then it is durable, as it was
    (letter,) = publisher.published
    assert (letter.exchange, letter.key, letter.body, letter.persistent) == (DEAD, "unread", body, True)

    # And says where it comes from, and why
    assert letter.amqp_headers is not None
    reason, since = letter.amqp_headers["x-warren-reason"], letter.amqp_headers["x-warren-first-failure"]
    assert reason == ("ValueError: " + "x" * 5_000)[:MAX_REASON]
    assert since.endswith("Z")
    assert (letter.amqp_headers["x-warren-queue"], letter.amqp_headers["x-warren-attempts"]) == ("unread", 3)
    assert counted("warren_worker_dead_letters_total", queue="unread") == before + 1


async def test_a_dead_letter_is_published_until_it_is_there(
    effects_publisher: EffectsPublisher, publisher: ScriptedPublisher
) -> None:
    publisher.outcomes["unread"] = [BrokerUnavailable("full"), PublishUnknown("lost"), Unroutable("no queue")] * 5
    await asyncio.wait_for(effects_publisher.dead_letter("unread", b"body", "why", attempts=1), 5)
    assert len(publisher.attempts) == 16
    assert len(publisher.published) == 1
