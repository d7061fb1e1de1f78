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
from infra.local.supervisor import Process
from tests.faults.rolling.deployment import LIMIT, Deployment
from tests.support.waiting import cancelled, eventually

#: Workers that share a backlog.
WORKERS = (1, 2, 4)
#: Conversations, and messages that wait in each: a burst that one worker stores. Workers that write in the same
#: conversations at the same moment race for seqs, and then more workers store less.
CONVERSATIONS, BURST = 2_000, 10
BACKLOG = CONVERSATIONS * BURST
#: Messages in one bundle, as from a busy edge.
BUNDLE = 100
#: The share of the backlog that is timed, without the start of the processes and the last few messages.
FROM, TO = 0.1, 0.9
#: Seconds that draining a backlog may take.
DRAIN_LIMIT = 180.0


@dataclass(frozen=True)
class Rate:
    """How fast a number of workers drained a backlog."""

    workers: int
    per_second: float


async def drain(deployment: Deployment) -> AsyncIterator[Rate]:
    """Measure with each number of workers; no client is connected meanwhile."""
    conversations = await _start_conversations(deployment)
    await deployment.traffic.disconnect()
    workers = deployment.stack.workers["persistence"]
    while len(workers) < max(WORKERS):
        await deployment.stack.add_worker("persistence", {"WARREN_AMQP_URL": deployment.cluster.amqp_url(WORKER)})
    for count in WORKERS:
        yield await _measure(deployment, workers[:count], conversations)


async def _start_conversations(deployment: Deployment) -> list[tuple[str, str]]:
    """Start groups of three; returns (conversation id, user id) of each, its only sender."""
    clients = deployment.traffic.clients

    async def start(number: int) -> list[tuple[str, str]]:
        """Start one client's share; the rate limit sets the pace."""
        others = [clients[(number + step) % len(clients)].user_id for step in (1, 2)]
        found = []
        for _ in range(number, CONVERSATIONS, len(clients)):
            started = await clients[number].call("start_conversation", {"participant_ids": others})
            found.append((started["conversation"]["id"], clients[number].user_id))
        return found

    shares = await asyncio.gather(*map(start, range(len(clients))))
    return [conversation for share in shares for conversation in share]


async def _measure(deployment: Deployment, workers: list[Process], conversations: list[tuple[str, str]]) -> Rate:
    for worker in deployment.stack.workers["persistence"]:
        if worker.is_running:
            await deployment.stack.terminate(worker)
    await _fill(deployment, conversations)
    for worker in workers:
        worker.spawn()
    rate = await asyncio.to_thread(_watch, deployment)
    await _until_empty(deployment)
    return Rate(len(workers), rate)


async def _fill(deployment: Deployment, conversations: list[tuple[str, str]]) -> None:
    publisher = Publisher(deployment.operator, "backlog")
    link = asyncio.create_task(publisher.link.run())
    begun = time.time_ns()
    try:
        await asyncio.wait_for(publisher.link.up.wait(), LIMIT)
        messages = ((conversation, number) for conversation in conversations for number in range(BURST))
        while bundle := list(itertools.islice(messages, BUNDLE)):
            # Like a bundle of an edge, but no edge waits for the replies.
            commands = [_command(*conversation, f"b{begun}-{number}") for conversation, number in bundle]
            await publisher.publish(COMMANDS, "send_message", encode_bundle(commands))
    finally:
        await cancelled(link)


def _command(conversation_id: str, user_id: str, client_message_id: str) -> SendMessage:
    payload = SendMessagePayload(
        conversation_id=conversation_id, client_message_id=client_message_id, body="One of many in a backlog."
    )
    at = int(time.time() * 1000)
    return SendMessage(edge_id="nobody", request=1, at=at, user_id=user_id, sid="nobody", payload=payload)


def _watch(deployment: Deployment) -> float:
    """Count stored messages until all are; returns messages a second of the timed share."""
    with pymongo.MongoClient[dict[str, object]](deployment.cluster.mongo_url) as client:
        messages = client[deployment.context.tenant.database]["messages"]
        before = messages.estimated_document_count()
        samples: list[tuple[float, int]] = []
        deadline = time.monotonic() + DRAIN_LIMIT
        while not samples or samples[-1][1] < BACKLOG:
            samples.append((time.monotonic(), messages.estimated_document_count() - before))
            if samples[-1][0] > deadline:
                raise TimeoutError(f"Only {samples[-1][1]} of {BACKLOG} messages were stored in {DRAIN_LIMIT:.0f} s.")
            time.sleep(0.05)
    timed = [sample for sample in samples if FROM * BACKLOG <= sample[1] <= TO * BACKLOG]
    (began, first), (ended, last) = timed[0], timed[-1]
    return (last - first) / (ended - began)


async def _until_empty(deployment: Deployment) -> None:
    """Wait until the unread workers have drained their queue too, so that the next measurement starts at rest."""

    async def empty() -> bool:
        queues = await management.queues(deployment.operator)
        return not any(queue.ready + queue.unacked for queue in queues if not queue.name.endswith(".dead"))

    await eventually(empty, within=LIMIT, sentence="every queue is empty")


def line(rate: Rate) -> str:
    """One measurement in one line."""
    return f"{rate.workers} persistence workers stored {rate.per_second:,.0f} messages a second"


def table(rates: list[Rate]) -> Table:
    """The table for a terminal."""
    shown = Table(title=f"A backlog of {BACKLOG:,} messages in {PERSISTENCE.name}", title_justify="left")
    shown.add_column("persistence workers", justify="right")
    shown.add_column("stored a second", justify="right")
    for rate in rates:
        shown.add_row(str(rate.workers), f"{rate.per_second:,.0f}")
    return shown
