"""Random events of three users in one group, several at once, with repetitions: promises 2 to 7 hold in any order."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from infra.local.stack import NO_RATE_LIMITS, Stack
from tests.fuzz.length import fuzzing
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.socketio_client import Client, Json
from tests.support.waiting import eventually

NAMES = ("ada", "bob", "cy")


@dataclass(frozen=True)
class Send:
    """A message; numbers repeat, so that some are sent again."""

    user: str
    number: int


@dataclass(frozen=True)
class See:
    """All up to `seq` was on the screen, also where there is no such message yet."""

    user: str
    seq: int


users = st.sampled_from(NAMES)
actions = st.builds(Send, users, st.integers(1, 6)) | st.builds(See, users, st.integers(1, 12))
#: The actions of one list are sent at once; the next list waits for their acks.
scripts = st.lists(st.lists(actions, min_size=1, max_size=8), max_size=6)

Sent = dict[tuple[str, int], Json]


@pytest_asyncio.fixture
async def cast(people: People, stack: Stack) -> AsyncIterator[dict[str, Client]]:
    """Three users on two edges that limit no rate."""
    async with extra_edge(stack, NO_RATE_LIMITS) as one, extra_edge(stack, NO_RATE_LIMITS) as other:
        edges = (one, other, one)
        yield {name: await people.connect(people.name(name), edges[place]) for place, name in enumerate(NAMES)}


async def act(client: Client, conversation_id: str, action: Send | See) -> Json:
    """Carry out an action and return its ack."""
    if isinstance(action, See):
        return await client.ack("message_seen", {"conversation_id": conversation_id, "seq": action.seq})
    id, body = f"m{action.number}", f"{action.user} {action.number}"
    return await client.ack("send_message", {"conversation_id": conversation_id, "client_message_id": id, "body": body})


async def listed(client: Client, conversation_id: str) -> list[Json]:
    """What a user reads in the conversation."""
    page = await client.call("list_messages", conversation_id=conversation_id)
    messages: list[Json] = page["messages"]
    return messages


async def shown(client: Client, conversation_id: str) -> Json | None:
    """The conversation in a user's list, if it is there."""
    page = await client.call("list_conversations", limit=100)
    return next((found for found in page["conversations"] if found["id"] == conversation_id), None)


@fuzzing(examples=20)
@given(script=scripts)
async def test_whatever_users_do_at_once_they_see_one_history_and_true_counts(
    cast: dict[str, Client], people: People, script: list[list[Send | See]]
) -> None:
    # Given a group, which exists for nobody but ada until she says something
    conversation_id = await people.start(cast["ada"], cast["bob"], cast["cy"], title="fuzz")
    ack = await act(cast["bob"], conversation_id, Send("bob", 1))
    assert ack["error"]["code"] == "not_found"
    assert await shown(cast["cy"], conversation_id) is None
    opening = Send("ada", 0)
    first_message = (await act(cast["ada"], conversation_id, opening))["data"]["message"]

    # When users send and see at random
    sent: Sent = {(opening.user, opening.number): first_message}
    seen = dict.fromkeys(NAMES, 0)
    order: dict[str, list[int]] = {name: [] for name in NAMES}
    order["ada"].append(1)
    for step in script:
        acks = await asyncio.gather(*(act(cast[action.user], conversation_id, action) for action in step))
        for action, ack in zip(step, acks, strict=True):
            assert ack["ok"], (action, ack)
            if isinstance(action, Send):
                message = ack["data"]["message"]
                first = sent.setdefault((action.user, action.number), message)
                assert message == first, f"{action} was sent again, and is another message"
                if message["seq"] not in order[action.user]:
                    order[action.user].append(message["seq"])
            else:
                seen[action.user] = max(seen[action.user], ack["data"]["last_read_seq"])

    # Then everybody reads the same messages: those that were acked, each once, in one dense order
    last_seq = len(sent)
    expected = sorted(sent.values(), key=lambda message: int(message["seq"]))
    assert [message["seq"] for message in expected] == list(range(1, last_seq + 1))
    for name, client in cast.items():
        assert await listed(client, conversation_id) == expected
        assert order[name] == sorted(order[name]), f"what {name} sent is out of order"

    # And everybody's count follows from what they sent and saw
    for name, client in cast.items():
        own = max((message["seq"] for (user, _), message in sent.items() if user == name), default=0)

        async def is_counted(client: Client = client, read: int = max(own, seen[name])) -> bool:
            found = await shown(client, conversation_id)
            return found is not None and (found["last_seq"], found["unread_count"]) == (last_seq, last_seq - read)

        await eventually(is_counted, sentence=f"the list of {name} counts {last_seq} - {max(own, seen[name])} unread")
