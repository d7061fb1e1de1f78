"""Arbitrary JSON at every event: always an ack, with a code of the table or ok, and never `internal`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import CLIENT_EVENTS
from infra.local.stack import NO_RATE_LIMITS, Stack
from tests.fuzz.length import fuzzing
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.scrape import metric
from tests.support.socketio_client import Client, Json

#: What a client can write as JSON and any server reads the same way.
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40)
)
anything = st.recursive(
    scalars,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=12), part, max_size=4),
    max_leaves=12,
)

#: Stands for the id of a conversation that exists and is the client's own.
OWN = "own-conversation"
#: Stands for the id of somebody who is there.
OTHER = "other-user"

ids = st.sampled_from([OWN, OTHER, "nobody"])
numbers = st.integers(-1, 3) | st.sampled_from([100, 101, 2**31, 2**53 - 1, 2**53, 2**63, 2**64])

#: Values that come close enough to be let through to a worker, by field.
nearly: dict[str, st.SearchStrategy[Json]] = {
    "participant_ids": st.lists(ids | st.text(min_size=1, max_size=5), max_size=4),
    "title": st.text(max_size=20),
    "conversation_id": ids | st.text(max_size=20),
    "client_message_id": st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True),
    "body": st.text(max_size=60),
    "seq": numbers,
    "before_seq": numbers,
    "after_seq": numbers,
    "cursor": st.text(max_size=20) | st.just("MjAyNi0wMS0wMVQwMDowMDowMC4wMDBaIHg"),
    "limit": numbers,
    "query": st.text(max_size=20),
    "online_only": st.booleans(),
    "user_ids": st.lists(ids | st.text(max_size=5), max_size=4),
    "typing": st.booleans(),
    "token": st.text(max_size=40),
}


@st.composite
def events(draw: st.DrawFn) -> tuple[str, tuple[Json, ...]]:
    """An event with a payload that has most of its fields and mostly likely values, or with anything at all."""
    name: str = draw(st.sampled_from(sorted(CLIENT_EVENTS)))
    if draw(st.integers(0, 4)) == 0:
        return name, tuple(draw(st.lists(anything, max_size=2)))
    payload: dict[str, Any] = {}
    for field in CLIENT_EVENTS[name].model_fields:
        if draw(st.integers(0, 9)):
            payload[field] = draw(nearly[field] if draw(st.integers(0, 4)) else anything)
    if draw(st.integers(0, 9)) == 0:
        payload[draw(st.text(max_size=10))] = draw(anything)
    return name, (payload,)


@dataclass
class Target:
    """Somebody on an edge that limits no rate, and what the placeholders stand for."""

    client: Client
    ids: dict[str, str]

    def fill_in(self, value: Json) -> Json:
        """Put real ids where the placeholders are."""
        if isinstance(value, str):
            return self.ids.get(value, value)
        if isinstance(value, list):
            return [self.fill_in(part) for part in value]
        if isinstance(value, dict):
            return {name: self.fill_in(part) for name, part in value.items()}
        return value


@pytest_asyncio.fixture
async def target(people: People, stack: Stack) -> AsyncIterator[Target]:
    """A user with one conversation, on an edge of their own."""
    async with extra_edge(stack, NO_RATE_LIMITS) as edge:
        ada, bob = await people.connect(people.name("ada"), edge), await people.connect(people.name("bob"), 1)
        conversation_id = await people.chat(ada, bob)
        yield Target(ada, {OWN: conversation_id, OTHER: bob.user_id})
        assert await metric(edge, "warren_edge_bad_packets_total") == 0


@fuzzing(examples=100)
@given(batch=st.lists(events(), min_size=1, max_size=8))
async def test_arbitrary_json_is_always_answered_and_never_a_bug(
    target: Target, batch: list[tuple[str, tuple[Json, ...]]]
) -> None:
    # When a batch of events is sent at once
    sending = [
        await target.client.emit(name, *(target.fill_in(argument) for argument in arguments))
        for name, arguments in batch
    ]
    acks = await asyncio.wait_for(asyncio.gather(*sending), 30)

    # Then each is answered in the protocol's form, which the client checks, and nothing is our fault
    for (name, arguments), ack in zip(batch, acks, strict=True):
        assert ack["ok"] or ack["error"]["code"] != "internal", (name, arguments, ack)
    # And the socket is none the worse
    assert target.client.closed is None
