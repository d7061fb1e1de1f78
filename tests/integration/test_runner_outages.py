"""A worker that does not reach its store, or cannot publish: others go on, and nothing is acked that is not done."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from contracts.codec import Item, decode_bundle, encode_bundle, encode_frame
from contracts.commands import SendMessage
from contracts.errors import MessageTooLarge, StoreUnavailable, not_found
from contracts.facts import MessageStored
from contracts.models import Presence as PresenceView
from contracts.topology import COMMANDS, FACTS
from infra import metrics
from infra.broker.channel import Channel
from infra.broker.link import connect_once
from infra.broker.publisher import MAX_MESSAGE_BYTES
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.support.runner_bench import Bench, Recorder
from tests.support.sample_commands import EDGE, opened, send
from tests.support.waiting import eventually
from workers import runner as runner_module
from workers.effects import Effects
from workers.presence import Presence
from workers.routing import Router


class CutOff:
    """A handler that does not reach its store until `reached` is set."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.recorder = Recorder()
        self.tried = 0

    async def __call__(self, items: Sequence[Item]) -> Effects:
        await self.check()
        return await self.recorder(items)

    async def check(self) -> None:
        """Raise as the store does."""
        self.tried += 1
        if not self.reached.is_set():
            raise StoreUnavailable("cut off")


async def test_a_worker_without_its_store_gives_its_messages_to_one_that_has_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "HOLD_LIMIT", 0.3)
    cut_off, healthy = CutOff(), Recorder()
    # Given a worker that holds messages, cut off from its store
    async with bench.runner(cut_off, check_store=cut_off.check) as sick:
        for number in range(5):
            await bench.publish(send("ada", "c", f"m{number}"))
        await eventually(lambda: cut_off.tried > 0, sentence="the worker tries")
        # When another one consumes as well
        async with bench.runner(healthy):
            # Then that one gets them all, in their order
            await eventually(lambda: len(healthy.handled) == 5, within=10, sentence="the healthy worker handles them")
            assert healthy.handled == [f"m{number}" for number in range(5)]
            assert sick.not_ready_reason is not None
        # And the first consumes again once its store takes writes
        cut_off.reached.set()
        await eventually(lambda: sick.not_ready_reason is None, within=10, sentence="the worker is ready again")
        await bench.publish(send("ada", "c", "m5"))
        await eventually(lambda: "m5" in cut_off.recorder.handled, within=10, sentence="it handles messages again")


async def test_messages_that_were_delivered_often_are_held_and_never_dead_lettered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a store that comes and goes, so that one message was given back as often as it may be
    monkeypatch.setattr(runner_module, "HOLD_LIMIT", 0.05)
    monkeypatch.setattr(runner_module, "REQUEUE_LIMIT", 2)
    cut_off = CutOff()

    async def always(_: None = None) -> None:
        return None

    async with bench.runner(cut_off, check_store=always) as runner:
        await bench.publish(send("ada", "c", "m1"))
        tried = 12
        await eventually(lambda: cut_off.tried > tried, within=30, sentence="the worker goes on trying")
        given_back = metrics.REQUEUED.labels("persistence")._value.get()
        # When the store is back
        cut_off.reached.set()
        # Then it is handled, and was given back no more often than that
        await eventually(lambda: cut_off.recorder.handled == ["m1"], within=10, sentence="the message is handled")
        assert metrics.REQUEUED.labels("persistence")._value.get() == given_back
        assert runner.not_ready_reason is None


async def test_a_fact_without_a_queue_waits_and_nothing_is_acked_meanwhile(bench: Bench) -> None:
    recorder, numbers = Recorder(), iter(range(1, 100))

    async def note_a_fact(_: Sequence[Item]) -> None:
        fact = MessageStored(conversation_id="c", seq=next(numbers), sender_id="ada", sender_was_behind=False)
        recorder.facts = [fact]

    recorder.before = note_a_fact

    async def unbind(channel: Channel) -> None:
        await channel._channel.queue_unbind("unread", FACTS, "message.stored")

    async def bind(channel: Channel) -> None:
        await channel._channel.queue_bind("unread", FACTS, "message.stored")

    # Given facts that have no queue for a moment: an operator declares it anew
    async with bench.runner(recorder):
        await connect_once(bench.settings, unbind)
        await bench.publish(send("ada", "c", "m1"))
        await eventually(lambda: recorder.handled == ["m1"], sentence="the first message is handled")
        # When another one is handled, and the queue is there again
        await bench.publish(send("ada", "c", "m2"))
        await eventually(lambda: recorder.handled == ["m1", "m2"], sentence="the second message is handled")
        await connect_once(bench.settings, bind)
        # Then both facts arrive
        found = await bench.listen("unread")
        await eventually(
            lambda: sorted(item.seq for message in found for item in decode_bundle(message.body)) == [1, 2],  # type: ignore[union-attr]
            within=10,
            sentence="both facts arrive",
        )


async def test_a_frame_stays_under_the_brokers_limit_whatever_its_recipients(bench: Bench, store: Store) -> None:
    # Given 1,000 people on one edge, of whom 500 come online at once
    people = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(1_000)]
    await Presence(store)([opened(person) for person in people])
    effects = Effects()
    for person in people[:500]:
        view = PresenceView(user_id=person, online=True, last_seen_at=None)
        effects.push("presence_updated", view, [other for other in people if other != person])
    # When frames are made
    frames = await Router(SessionDirectory(store), "source").frames(effects)
    # Then each is far below what RabbitMQ takes, and they are numbered without a gap
    assert max(len(encode_frame(routed.frame)) for routed in frames) < MAX_MESSAGE_BYTES / 8
    assert [routed.frame.number for routed in frames] == list(range(1, len(frames) + 1))
    assert {routed.edge_id for routed in frames} == {EDGE}


async def test_a_message_over_the_limit_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(MessageTooLarge):
        await bench.publisher.publish(COMMANDS, "send_message", b"x" * (MAX_MESSAGE_BYTES + 1))
    await bench.publish(send("ada", "c", "m1"))


async def test_a_frame_that_cannot_be_published_harms_no_other(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a reply that can never be published
    recorder = Recorder()

    async def answer(items: Sequence[Item]) -> Effects:
        effects = await recorder(items)
        for item in items:
            assert isinstance(item, SendMessage)
            # No routing key, as if the contracts let such an edge id pass
            effects.refuse(item.model_copy(update={"edge_id": "x" * 300}), not_found())
        return effects

    # When two messages come, then both are handled
    async with bench.runner(answer):
        for name in ("m1", "m2"):
            await bench.publish(send("ada", "c", name))
            await eventually(lambda name=name: name in recorder.handled, within=10, sentence=f"{name} is handled")  # type: ignore[misc]


@pytest.mark.parametrize(
    "field",
    [{"edge_id": "x" * 300}, {"edge_id": "a b"}, {"at": 2**60}, {"request": -1}, {"user_id": ""}, {"sid": "s" * 99}],
)
async def test_a_forged_command_is_a_dead_letter_and_nothing_more(bench: Bench, field: dict[str, object]) -> None:
    # Given a command that no edge of ours sends
    body = json.loads(encode_bundle([send("mallory", "c", "m1")]))
    body["items"][0] |= field
    recorder = Recorder()
    dead = await bench.listen("persistence.dead")
    async with bench.runner(recorder):
        # When it is in the queue, and a good one behind it
        await bench.publisher.publish(COMMANDS, "send_message", json.dumps(body).encode())
        await bench.publish(send("ada", "c", "m2"))
        # Then the worker goes on
        await eventually(lambda: recorder.handled == ["m2"], within=10, sentence="the good one is handled")
        await eventually(lambda: len(dead) == 1, within=10, sentence="the forged one is a dead letter")
