"""A backlog of messages, stored by one, two and four persistence workers in turn."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pymongo
from rich.table import Table

from contracts.codec import encode_bundle
from contracts.commands import SendMessage, SendMessagePayload
from contracts.topology import COMMANDS, PERSISTENCE
from infra.broker import management
from infra.broker.publisher import Publisher
from infra.deploy.definitions import WORKER
from infra.local.stack import Process
from tests.cluster.ground import LIMIT, Whole
from tests.support.waiting import eventually

#: Workers that share a backlog.
WORKERS = (1, 2, 4)
#: Conversations that wait, and messages in each: a burst that is stored by one worker. Where workers write in the same
#: conversations at the same moment they race for numbers, and more of them bring less.
ROOMS, BURST = 2_000, 10
BACKLOG = ROOMS * BURST
#: Messages in one bundle, as from a busy edge.
BUNDLE = 100
#: Part of the backlog that is timed: not the start of the processes, nor the last few messages.
FROM, TO = 0.1, 0.9
#: Seconds that a backlog may take.
DRAIN_LIMIT = 180.0


@dataclass(frozen=True)
class Rate:
    """How fast a number of workers stored what was waiting."""

    workers: int
    per_second: float


async def drain(whole: Whole) -> AsyncIterator[Rate]:
    """Measure with each number of workers; nobody is connected meanwhile."""
    rooms = await _rooms(whole)
    await whole.crowd.leave()
    workers = whole.stack.workers["persistence"]
    while len(workers) < max(WORKERS):
        await whole.stack.add_worker("persistence", {"WARREN_AMQP_URL": whole.cluster.amqp_url(WORKER)})
    for count in WORKERS:
        yield await _measure(whole, workers[:count], rooms)


async def _rooms(whole: Whole) -> list[tuple[str, str]]:
    """Groups of three, each with who started it and writes in it: (conversation id, user id)."""
    people = whole.crowd.people

    async def start(number: int) -> list[tuple[str, str]]:
        """As many as one person is to start; the rate limit sets the pace."""
        others = [people[(number + step) % len(people)].user_id for step in (1, 2)]
        found = []
        for _ in range(number, ROOMS, len(people)):
            started = await people[number].call("start_conversation", {"participant_ids": others})
            found.append((started["conversation"]["id"], people[number].user_id))
        return found

    return [room for rooms in await asyncio.gather(*map(start, range(len(people)))) for room in rooms]


async def _measure(whole: Whole, workers: list[Process], rooms: list[tuple[str, str]]) -> Rate:
    for worker in whole.stack.workers["persistence"]:
        if worker.is_running:
            await whole.stack.terminate(worker)
    await _fill(whole, rooms)
    for worker in workers:
        worker.spawn()
    rate = await asyncio.to_thread(_watch, whole)
    await _until_empty(whole)
    return Rate(len(workers), rate)


async def _fill(whole: Whole, rooms: list[tuple[str, str]]) -> None:
    publisher = Publisher(whole.operator, "backlog")
    link = asyncio.create_task(publisher.link.run())
    begun = time.time_ns()
    try:
        await asyncio.wait_for(publisher.link.up.wait(), LIMIT)
        messages = ((room, number) for room in rooms for number in range(BURST))
        while bundle := list(itertools.islice(messages, BUNDLE)):
            # An edge's bundle: nobody waits there for the answers.
            commands = [_command(*room, f"b{begun}-{number}") for room, number in bundle]
            await publisher.publish(COMMANDS, "send_message", encode_bundle(commands))
    finally:
        link.cancel()
        await asyncio.wait([link])


def _command(conversation_id: str, user_id: str, client_message_id: str) -> SendMessage:
    payload = SendMessagePayload(
        conversation_id=conversation_id, client_message_id=client_message_id, body="One of many that wait."
    )
    at = int(time.time() * 1000)
    return SendMessage(edge_id="nobody", request=1, at=at, user_id=user_id, sid="nobody", payload=payload)


def _watch(whole: Whole) -> float:
    """Count what is stored until all of it is; returns messages a second of the part that is timed."""
    with pymongo.MongoClient[dict[str, object]](whole.cluster.mongo_url) as client:
        messages = client[whole.scene.run.database]["messages"]
        before = messages.estimated_document_count()
        marks: list[tuple[float, int]] = []
        deadline = time.monotonic() + DRAIN_LIMIT
        while not marks or marks[-1][1] < BACKLOG:
            marks.append((time.monotonic(), messages.estimated_document_count() - before))
            if marks[-1][0] > deadline:
                raise TimeoutError(f"Only {marks[-1][1]} of {BACKLOG} messages were stored in {DRAIN_LIMIT:.0f} s.")
            time.sleep(0.05)
    timed = [mark for mark in marks if FROM * BACKLOG <= mark[1] <= TO * BACKLOG]
    (began, first), (ended, last) = timed[0], timed[-1]
    return (last - first) / (ended - began)


async def _until_empty(whole: Whole) -> None:
    """Wait until the unread workers are through with it too: the next measurement begins at rest."""

    async def empty() -> bool:
        queues = await management.queues(whole.operator)
        return not any(queue.ready + queue.unacked for queue in queues if not queue.name.endswith(".dead"))

    await eventually(empty, within=LIMIT, sentence="every queue is empty")


def line(rate: Rate) -> str:
    """One measurement as it is made."""
    return f"{rate.workers} persistence workers stored {rate.per_second:,.0f} messages a second"


def table(rates: list[Rate]) -> Table:
    """For people at a terminal."""
    shown = Table(title=f"A backlog of {BACKLOG:,} messages in {PERSISTENCE.name}", title_justify="left")
    shown.add_column("persistence workers", justify="right")
    shown.add_column("stored a second", justify="right")
    for rate in rates:
        shown.add_row(str(rate.workers), f"{rate.per_second:,.0f}")
    return shown
