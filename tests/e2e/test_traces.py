"""A message is one trace, from a socket at one edge to a socket at another, and whoever shares its batch is linked."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from infra.local.stack import Stack
from infra.local.tenant import temporary_tenant
from tests.support.collector import Collector, running_collector
from tests.support.people import People
from tests.support.waiting import eventually

#: The sender's edge gets the reply, and the push for their other sockets.
DELIVERIES = ("deliver reply new_message", "deliver new_message", "deliver unread_updated")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a port of its own."""
    with running_collector() as collector:
        yield collector


@pytest_asyncio.fixture
async def people(collector: Collector) -> AsyncIterator[People]:
    """People on two edges of their own, all of whose events are followed."""
    env = {"WARREN_TRACES_URL": collector.url, "WARREN_TRACES_SAMPLE_RATIO": "1"}
    async with (
        temporary_tenant() as run,
        Stack(run, workers={"persistence": 1, "unread": 1, "presence": 1}, env=env) as stack,
    ):
        people = People(stack)
        yield people
        await people.leave()
        assert not people.violations, people.violations


async def test_a_message_is_followed_from_one_edge_to_the_other(people: People, collector: Collector) -> None:
    # Given two people on two edges
    ada, bob = await people.arrive("ada", "bob")
    places = [client.pushes[0].payload["edge_id"] for client in (ada, bob)]
    conversation = await people.start(ada, bob)
    await people.say(ada, conversation)
    await bob.push("unread_updated", conversation)

    # When one writes to the other, in a conversation that both know
    await people.say(ada, conversation)

    # Then one trace leads from her socket through batch and store to both edges, and on to his unread count
    def whole() -> dict[str, list[tuple[str, Span]]]:
        ids = [span.trace_id for _, _, span in collector.spans if span.name == "deliver new_message"]
        assert ids
        trace = collector.of(ids[0])
        assert {"send_message", "persistence batch", "unread batch", *DELIVERIES} <= set(trace)
        return trace

    trace = await eventually(
        whole,
        sentence=lambda: f"the whole trace has come; there are {sorted({span.name for _, _, span in collector.spans})}",
    )
    ((asked_at, asked),) = trace["send_message"]
    ((_, stored),) = trace["persistence batch"]
    ((_, counted),) = trace["unread batch"]
    assert asked_at == places[0]
    assert not asked.parent_span_id
    assert stored.parent_span_id == asked.span_id
    assert counted.parent_span_id == stored.span_id
    assert {span.parent_span_id for _, span in trace["mongodb insert"]} == {stored.span_id}
    assert {span.parent_span_id for _, span in trace["mongodb update"]} == {stored.span_id, counted.span_id}
    # Persistence knows the header; should it have taken too long, it reads it again.
    assert {span.parent_span_id for _, span in trace["mongodb find"]} - {stored.span_id} == {counted.span_id}

    def delivered(what: str) -> tuple[str, bytes]:
        ((instance, span),) = trace[f"deliver {what}"]
        return instance, span.parent_span_id

    assert delivered("reply new_message") == (places[0], stored.span_id)
    assert delivered("new_message") == (places[1], stored.span_id)
    assert delivered("unread_updated") == (places[1], counted.span_id)

    # And nobody is named in it, nor what was said
    texts = [value.value.string_value for spans in trace.values() for _, span in spans for value in span.attributes]
    assert [text for text in texts if text in (ada.user_id, bob.user_id, "hello")] == []

    # When many are written at once, then a batch is linked from each trace whose message was in it
    await asyncio.gather(*(people.say(ada, conversation) for _ in range(20)))

    def linked() -> bool:
        batches = {span.span_id: span for _, _, span in collector.spans if span.name == "persistence batch"}
        others = [span for _, _, span in collector.spans if span.name == "persistence send_message"]
        assert others
        for other in others:
            (to_batch,) = other.links
            batch = batches[to_batch.span_id]
            assert other.trace_id != batch.trace_id
            assert other.trace_id in {link.trace_id for link in batch.links}
        return True

    await eventually(linked, sentence="messages that shared a batch are linked with it")
