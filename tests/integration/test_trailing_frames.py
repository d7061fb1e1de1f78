"""A frame is lost and no other one follows it: an empty frame shows the gap."""

import asyncio
from types import SimpleNamespace

import pytest

from contracts.errors import not_found
from contracts.topology import edge_queue
from edge.delivery import FrameDelivery
from infra.broker.channel import Channel
from infra.broker.declare import declare_edge_queue
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.support.runner_bench import Bench
from tests.support.sample_commands import EDGE, send
from tests.support.waiting import eventually
from workers import publishing, routing
from workers.effects import Effects
from workers.publishing import EffectsPublisher
from workers.routing import Router


async def test_an_edge_notices_that_the_last_frame_of_a_worker_was_lost(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "TRAILING_AFTER", (0.1, 0.3))
    monkeypatch.setattr(publishing, "TRAILING_INTERVAL", 0.02)
    publisher = EffectsPublisher(bench.publisher, Router(SessionDirectory(store), "spare worker"))
    queue = edge_queue(EDGE, 1)

    async def lose_a_frame(channel: Channel) -> None:
        await declare_edge_queue(channel, queue)
        effects = Effects()
        effects.refuse(send("ada", "c", "m1"), not_found())
        assert await publisher.publish_frames(effects)
        await channel._channel.queue_purge(queue.name)

    # Given an edge whose queue lost the only frame of a worker
    received = await bench.listen(queue.name, lose_a_frame)
    # When the worker has nothing more to send
    running = asyncio.create_task(publisher.run())
    await eventually(lambda: len(received) == 2, sentence="two empty frames arrive")
    running.cancel()
    # Then the edge notices that something is missing, once
    gaps: list[str] = []
    nothing = SimpleNamespace(resolve=None, of=None)
    delivery = FrameDelivery(nothing, nothing, gaps.append)  # type: ignore[arg-type]
    for message in received:
        delivery.receive(message)
    assert gaps == ["missing frames"]
