"""Workers that do not answer: what clients are told, and what becomes of what they sent."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from contracts.errors import Code
from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.support.extra_processes import extra_edge
from tests.support.people import People


@pytest_asyncio.fixture
async def impatient(stack: Stack) -> AsyncIterator[Process]:
    """An edge that gives up waiting for a reply after a second."""
    async with extra_edge(stack, {"WARREN_REPLY_TIMEOUT": "1"}) as edge:
        yield edge


@pytest.mark.answers(Code.TIMEOUT)
async def test_a_worker_that_hangs_is_a_timeout_and_the_retry_says_where_it_landed(
    people: People, stack: Stack, impatient: Process
) -> None:
    # Given two who chat, and workers that do not answer
    ada, bob = await people.connect(people.name("ada"), impatient), await people.connect(people.name("bob"), 1)
    conversation_id = await people.chat(ada, bob)
    workers = [stack.workers[kind][0] for kind in ("persistence", "history", "unread")]
    for worker in workers:
        stack.pause(worker)
    try:
        # When something is sent or asked
        payload = {"conversation_id": conversation_id, "client_message_id": "m", "body": "hello"}
        asked = {
            "send_message": payload,
            "start_conversation": {"participant_ids": [bob.user_id]},
            "list_messages": {"conversation_id": conversation_id},
            "list_conversations": {},
            "find_users": {},
            "get_presence": {"user_ids": [bob.user_id]},
            "message_seen": {"conversation_id": conversation_id, "seq": 1},
        }
        errors = await asyncio.gather(*(ada.error(event, payload) for event, payload in asked.items()))
    finally:
        for worker in workers:
            stack.resume(worker)

    # Then each answer is that the outcome is unknown
    assert {(error["code"], error["retryable"]) for error in errors} == {("timeout", True)}
    # And once the workers go on, the message lands, once: the retry is answered with where
    pushed = await bob.push("new_message", conversation_id)
    acked = await ada.call("send_message", payload)
    assert acked == pushed
    assert acked["message"]["seq"] == 2
    history = await ada.call("list_messages", conversation_id=conversation_id)
    assert [message["seq"] for message in history["messages"]] == [1, 2]


async def test_typing_into_a_void_counts_as_accepted(people: People, stack: Stack) -> None:
    # Given that nobody handles typing notices for a while
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)
    stack.pause(stack.workers["presence"][0])
    try:
        # Then they are acked all the same: they promise nothing
        assert await ada.call("typing", conversation_id=conversation_id, typing=True) == {}
    finally:
        stack.resume(stack.workers["presence"][0])
