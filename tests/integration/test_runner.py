"""The runner on a real broker: what is acked, held, dead-lettered and redelivered."""

import asyncio
from collections.abc import Collection, Sequence

import pytest
from prometheus_client import REGISTRY

from contracts.codec import Item, decode_bundle, decode_frame
from contracts.errors import StoreUnavailable
from contracts.facts import MessageStored
from contracts.pushes import TypingByOther
from contracts.reports import SessionsDrop
from contracts.topology import COMMANDS, DEAD_QUEUES, PERSISTENCE, PRESENCE, edge_queue
from infra.broker.declare import declare_edge_queue
from infra.store.sessions import Session, SessionDirectory
from tests.support.runner_bench import Bench, Recorder, name_of
from tests.support.sample_commands import EDGE, opened, send
from tests.support.waiting import cancelled, eventually
from workers import runner as runner_module
from workers.effects import Effects
from workers.presence import Presence
from workers.publishing import EffectsPublisher
from workers.routing import Router
from workers.runner import Runner


def _counts(recorders: Sequence[Recorder]) -> list[int]:
    return [len(recorder.handled) for recorder in recorders]


async def test_what_waits_is_handled_as_one_batch_and_acked(bench: Bench) -> None:
    # Given ten messages that wait in five bundles
    recorder = Recorder()
    for n in range(5):
        await bench.publish(send("ada", "c", f"m{2 * n}"), send("ada", "c", f"m{2 * n + 1}"))

    # When a worker starts
    async with bench.runner(recorder):
        await eventually(lambda: len(recorder.handled) == 10, within=5, sentence="10 messages are handled")

    # Then it handles them in order, in few batches
    assert recorder.handled == [f"m{n}" for n in range(10)]
    assert len(recorder.batches) <= 5

    # And another worker gets none of them
    async with bench.runner(again := Recorder()):
        await bench.publish(send("ada", "c", "last"))
        await eventually(lambda: "last" in again.handled, within=5, sentence="the new message is handled")
    assert again.handled == ["last"], "acked messages were redelivered"


async def test_a_batch_that_was_not_acked_comes_again_to_another_worker(bench: Bench) -> None:
    # Given a worker that ends while it handles a message
    started = asyncio.Event()

    async def hang(_: Sequence[Item]) -> None:
        started.set()
        await asyncio.sleep(60)

    doomed = Recorder()
    doomed.before = hang
    await bench.publish(send("ada", "c", "m1"))
    async with bench.runner(doomed):
        await asyncio.wait_for(started.wait(), 5)

    # When another starts, then it gets that message, and counts it
    redelivered = "warren_worker_redelivered_total"
    before = REGISTRY.get_sample_value(redelivered, {"queue": "persistence"}) or 0
    async with bench.runner(recorder := Recorder()):
        await eventually(lambda: recorder.handled == ["m1"], within=5, sentence="the other worker gets the message")
    assert REGISTRY.get_sample_value(redelivered, {"queue": "persistence"}) == before + 1


async def test_a_divided_batch_is_handled_in_parts_and_acked_as_one(bench: Bench) -> None:
    # Given a worker that divides its batches, and ends before the last part of one
    last = asyncio.Event()

    async def hang_at_the_last(items: Sequence[Item]) -> None:
        if name_of(items[0]) == "m2":
            last.set()
            await asyncio.sleep(60)

    doomed = Recorder()
    doomed.before = hang_at_the_last
    await bench.publish(*(send("ada", "c", f"m{n}") for n in range(3)))
    async with bench.runner(doomed, divide=lambda items: [[item] for item in items]):
        await asyncio.wait_for(last.wait(), 5)
    assert doomed.batches == [["m0"], ["m1"]]

    # When another starts, then it gets the whole batch, in parts
    recorder = Recorder()
    router = Router(SessionDirectory(bench.store), "bench")
    runner = Runner(
        PERSISTENCE,
        recorder,
        publisher=EffectsPublisher(bench.publisher, router),
        settings=bench.settings,
        divide=lambda items: [[item] for item in items],
    )
    link, loop = asyncio.create_task(runner.link.run()), asyncio.create_task(runner.run())
    await eventually(lambda: len(recorder.handled) == 3, within=5, sentence="the whole batch is handled")
    await asyncio.wait_for(asyncio.gather(runner.stop(), loop), 10)
    await cancelled(link)
    assert recorder.batches == [["m0"], ["m1"], ["m2"]]

    # And it acks all of it
    async with bench.runner(again := Recorder()):
        await bench.publish(send("ada", "c", "last"))
        await eventually(lambda: "last" in again.handled, within=5, sentence="the new message is handled")
    assert again.handled == ["last"]


async def test_one_worker_is_filled_before_another_gets_any(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PREFETCH", 10)
    recorders = [Recorder(), Recorder()]
    async with bench.runner(recorders[0]), bench.runner(recorders[1]):
        for n in range(5):
            await bench.publish(send("ada", "c", f"m{n}"))
        await eventually(lambda: sum(_counts(recorders)) == 5, within=5, sentence="five messages are handled")
        free, busy = sorted(recorders, key=lambda recorder: len(recorder.handled))
        assert free.handled == [], "two workers shared what one had room for"

        # When that one is full, and stalled

        async def hang(_: Sequence[Item]) -> None:
            await asyncio.sleep(60)

        busy.before = hang
        for n in range(5, 17):
            await bench.publish(send("ada", "c", f"m{n}"))
        # Then the other gets what is beyond that
        await eventually(lambda: "m16" in free.handled, within=5, sentence="the other worker gets what is too much")


async def test_workers_of_one_priority_take_turns(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"worker_priority": 7})
    recorders = [Recorder(), Recorder()]
    async with bench.runner(recorders[0]), bench.runner(recorders[1]):
        for n in range(6):
            await bench.publish(send("ada", "c", f"m{n}"))
        await eventually(lambda: sum(_counts(recorders)) == 6, within=5, sentence="six messages are handled")
    assert _counts(recorders) == [3, 3], "one of two equal workers got more than the other"


async def test_what_cannot_be_read_is_acked_without_what_came_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first message's fact is still to be published when garbage and another message are done with."""

    # Given a worker that keeps its facts for a minute
    monkeypatch.setattr(runner_module, "FACTS_WAIT", 60.0)
    doomed = Recorder()
    doomed.facts = [MessageStored(conversation_id="c", seq=1, sender_id="ada", sender_was_behind=False)]
    dead = await bench.listen("persistence.dead")

    # When it gets a message, garbage and a message, and ends before its facts are published
    async with bench.runner(doomed):
        await bench.publish(send("ada", "c", "m1"))
        await eventually(lambda: doomed.handled == ["m1"], within=5, sentence="the first message is handled")
        await bench.publisher.publish(COMMANDS, "send_message", b"garbage")
        await eventually(lambda: len(dead) == 1, within=5, sentence="the garbage is put aside")
        await bench.publish(send("ada", "c", "m2"))
        await eventually(lambda: doomed.handled == ["m1", "m2"], within=5, sentence="the last message is handled")

    # Then another gets both messages, and not the garbage
    async with bench.runner(recorder := Recorder()):
        await eventually(lambda: recorder.handled == ["m1", "m2"], within=5, sentence="both messages are redelivered")
    assert len(dead) == 1, "the garbage was redelivered, although it was dead-lettered"


async def test_a_poison_message_goes_to_the_dead_letters_alone(bench: Bench) -> None:
    # Given a handler that fails for one message
    async def choke(items: Sequence[Item]) -> None:
        if any(name_of(item) == "poison" for item in items):
            raise ValueError("cannot swallow this")

    recorder = Recorder()
    recorder.before = choke
    dead = await bench.listen("persistence.dead")
    edge = await bench.listen("edge.edge-1.1", lambda channel: declare_edge_queue(channel, edge_queue(EDGE, 1)))

    # When that comes between two others
    poison = send("ada", "c", "poison")
    await bench.publish(send("ada", "c", "before"), poison, send("ada", "c", "after"))
    async with bench.runner(recorder):
        await eventually(lambda: len(dead) == 1, within=15, sentence="the poison message is put aside")
        await eventually(lambda: len(edge) == 1, within=5, sentence="its sender is answered")

    # Then the others are handled
    assert recorder.handled == ["before", "after"]

    # And it is put aside with why, since when and after how many attempts
    assert decode_bundle(dead[0].body) == [poison]
    headers = dead[0].amqp_headers
    assert (headers["x-warren-queue"], headers["x-warren-attempts"]) == ("persistence", 3)
    assert headers["x-warren-reason"] == "ValueError: cannot swallow this"
    assert headers["x-warren-first-failure"].endswith("Z")

    # And its sender is told that this is our fault
    reply = decode_frame(edge[0].body).replies[0]
    assert reply.request == poison.request
    assert '"code":"internal"' in reply.ack


async def test_bytes_that_are_no_bundle_go_to_the_dead_letters_as_they_are(bench: Bench) -> None:
    dead = await bench.listen("persistence.dead")
    async with bench.runner(recorder := Recorder()):
        await bench.publisher.publish(COMMANDS, "send_message", b'{"v":1,"items":[{"name":"nonsense"}]}')
        await bench.publish(send("ada", "c", "fine"))
        await eventually(lambda: recorder.handled == ["fine"], within=5, sentence="the good message is handled")
        await eventually(lambda: len(dead) == 1, within=5, sentence="the bad one is put aside")
    assert dead[0].body == b'{"v":1,"items":[{"name":"nonsense"}]}'
    assert dead[0].amqp_headers["x-warren-reason"].startswith("undecodable")


async def test_while_the_store_is_away_messages_are_held_and_nothing_is_put_aside(bench: Bench) -> None:
    # Given a store that is away for a while
    attempts = 0

    async def away_twice(_: Sequence[Item]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise StoreUnavailable("no primary")

    recorder = Recorder()
    recorder.before = away_twice
    dead = await bench.listen("persistence.dead")

    # When a message comes
    await bench.publish(send("ada", "c", "m1"))

    # Then it is held and handled later, and the worker says why it is not ready
    async with bench.runner(recorder) as runner:
        await eventually(
            lambda: runner.not_ready_reason is not None, within=5, sentence="the runner says why it is not ready"
        )
        await eventually(lambda: recorder.handled == ["m1"], within=15, sentence="the held message is handled")
        assert runner.not_ready_reason is None
    assert dead == []


async def test_frames_wait_while_sessions_cannot_be_looked_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that is away when recipients are looked up
    await Presence(bench.store)([opened("ada")])
    locate, errors = SessionDirectory.locate, iter([StoreUnavailable("no primary"), StoreUnavailable("no primary")])

    async def away_twice(sessions: SessionDirectory, users: Collection[str]) -> list[Session]:
        if (error := next(errors, None)) is not None:
            raise error
        return await locate(sessions, users)

    monkeypatch.setattr(SessionDirectory, "locate", away_twice)
    edge = await bench.listen("edge.edge-1.1", lambda channel: declare_edge_queue(channel, edge_queue(EDGE, 1)))

    async def handler(_: Sequence[Item]) -> Effects:
        effects = Effects()
        effects.push("typing", TypingByOther(conversation_id="c", user_id="bob", typing=True), ["ada"])
        return effects

    # When a push is to be sent, then it waits until the store answers
    async with bench.runner(handler) as runner:
        await bench.publish(send("ada", "c", "m1"))
        await eventually(
            lambda: runner.not_ready_reason is not None, within=5, sentence="the runner says why it is not ready"
        )
        await eventually(lambda: len(edge) == 1, within=10, sentence="the frame reaches the edge")
        assert runner.not_ready_reason is None, "an idle worker would never be ready again"


async def test_a_frame_that_finds_no_queue_has_the_edges_sessions_dropped(bench: Bench) -> None:
    # Given an edge that has a session and no queue
    await Presence(bench.store)([opened("ada", edge_id="edge-gone", epoch=7)])
    reports = await bench.listen(PRESENCE.name)

    # When three pushes are sent to it
    async with bench.runner(Recorder()):
        effects = Effects()
        for _ in range(3):
            effects.push("typing", TypingByOther(conversation_id="c", user_id="bob", typing=True), ["ada"])
            assert await bench.effects_publisher.publish_frames(effects)

    # Then it is reported once
    lost = [item for report in reports for item in decode_bundle(report.body)]
    assert [(type(item), getattr(item, "edge_id", ""), getattr(item, "epoch", 0)) for item in lost] == [
        (SessionsDrop, "edge-gone", 7)
    ], "one report is enough"


async def test_frames_for_an_edge_are_numbered_without_a_gap(bench: Bench) -> None:
    # Given an edge that holds a user
    edge = await bench.listen("edge.edge-1.1", lambda channel: declare_edge_queue(channel, edge_queue(EDGE, 1)))
    await Presence(bench.store)([opened("ada")])

    # When five batches push to them
    async with bench.runner(Recorder()):
        for _ in range(5):
            effects = Effects()
            effects.push("typing", TypingByOther(conversation_id="c", user_id="bob", typing=True), ["ada", "bob"])
            await bench.effects_publisher.publish_frames(effects)
        await eventually(lambda: len(edge) == 5, within=5, sentence="5 frames reach the edge")

    # Then the frames are numbered
    frames = [decode_frame(delivery.body) for delivery in edge]
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    assert all(frame.pushes[0].to == ["ada"] for frame in frames), "bob is not connected"


async def test_stopping_finishes_the_batch_in_hand(bench: Bench) -> None:
    # Given a worker that is in the middle of a batch
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Sequence[Item]) -> None:
        begun.set()
        await go_on.wait()

    recorder = Recorder()
    recorder.before = wait
    router = Router(SessionDirectory(bench.store), "bench")
    runner = Runner(PERSISTENCE, recorder, publisher=EffectsPublisher(bench.publisher, router), settings=bench.settings)
    link, loop = asyncio.create_task(runner.link.run()), asyncio.create_task(runner.run())
    await bench.publish(send("ada", "c", "m1"))
    await asyncio.wait_for(begun.wait(), 10)

    # When it is told to stop
    stopping = asyncio.create_task(runner.stop())
    go_on.set()
    await asyncio.wait_for(asyncio.gather(stopping, loop), 10)
    await cancelled(link)

    # Then it finishes that and acks it
    async with bench.runner(again := Recorder()):
        await bench.publish(send("ada", "c", "m2"))
        await eventually(lambda: "m2" in again.handled, within=5, sentence="the next message is handled")
    assert recorder.handled == ["m1"]
    assert again.handled == ["m2"], "the finished batch was not acked"


def test_every_work_queue_has_its_dead_letters() -> None:
    assert {queue.name for queue in DEAD_QUEUES} >= {"persistence.dead", "unread.dead", "presence.dead", "history.dead"}
