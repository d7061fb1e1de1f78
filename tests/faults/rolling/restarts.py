"""Restart each part of a cluster under load, one after the other, and compare the histories after each step."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import pymongo
from rich.table import Table

from infra.bench.checker import Complaint
from infra.local.mongod import Mongod
from infra.local.rabbitmq import RabbitNode
from infra.local.stack import WORKER_KINDS
from tests.faults.chat_traffic import ChatTraffic
from tests.faults.fault_report import COMPLAINT_COLUMNS
from tests.faults.fault_run import judge
from tests.faults.rolling.deployment import LIMIT, Deployment

#: Seconds of traffic before a restart and after it.
BEFORE, AFTER = 2.0, 1.0


@dataclass(frozen=True)
class Step:
    """One part, and how to restart it."""

    name: str
    restart: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Result:
    """The cost of one restart, and what clients noticed of it."""

    name: str
    #: Seconds from the stop signal until the deployment was healthy again.
    seconds: float
    sent: int
    #: Errors by code; a retry followed each.
    errors: Counter[str]
    reconnects: int
    #: The longest time, in seconds, from a message's due time to its ack, over all its tries.
    longest_wait: float
    #: Complaints that are new after this restart.
    complaints: list[Complaint]


async def restart_all(deployment: Deployment) -> AsyncIterator[Result]:
    """Restart every part; a complaint counts for the first restart that it follows."""
    known: set[Complaint] = set()
    for step in await _steps(deployment):
        result = await _restart(deployment, step, known)
        known.update(result.complaints)
        yield result


async def _steps(deployment: Deployment) -> list[Step]:
    """Brokers, stores (the primary last), edges, workers, in this order."""
    cluster, stack = deployment.cluster, deployment.stack
    primary = await asyncio.to_thread(_primary, cluster.mongo_url)
    members = sorted(cluster.members, key=lambda member: member.port == primary)
    steps = [Step(f"RabbitMQ {n}", partial(_restart_node, node)) for n, node in enumerate(cluster.nodes, start=1)]
    for member in members:
        name = f"mongod {cluster.members.index(member) + 1}{' (primary)' if member.port == primary else ''}"
        steps.append(Step(name, partial(_restart_member, member)))
    processes = [*stack.edges, *(worker for kind in WORKER_KINDS for worker in stack.workers[kind])]
    return steps + [Step(process.name, partial(stack.restart, process)) for process in processes]


async def _restart(deployment: Deployment, step: Step, known: set[Complaint]) -> Result:
    traffic = deployment.traffic
    sent, errors, reconnects = len(traffic.sent), _errors(traffic), _reconnects(traffic)
    traffic.start()
    await asyncio.sleep(BEFORE)
    began = time.monotonic()
    await step.restart()
    await deployment.until_healthy()
    seconds = time.monotonic() - began
    await asyncio.sleep(AFTER)
    await traffic.drain()
    verdict = await judge(deployment.context)
    new = traffic.sent[sent:]
    return Result(
        step.name,
        seconds,
        len(new),
        _errors(traffic) - errors,
        _reconnects(traffic) - reconnects,
        max((each.acked_at - each.due_at for each in new if each.acked_at), default=0.0),
        [complaint for complaint in verdict.complaints if complaint not in known],
    )


async def _restart_node(node: RabbitNode) -> None:
    await asyncio.to_thread(partial(node.stop, seconds=LIMIT))
    await asyncio.to_thread(partial(node.start, seconds=LIMIT))


async def _restart_member(member: Mongod) -> None:
    await asyncio.to_thread(partial(member.stop, seconds=LIMIT))
    await asyncio.to_thread(partial(member.start, alone=False, seconds=LIMIT))


def _primary(mongo_url: str) -> int:
    with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
        client.admin.command("ping")
        return client.primary[1] if client.primary else 0


def _errors(traffic: ChatTraffic) -> Counter[str]:
    return Counter(code for message in traffic.sent for code in message.failures)


def _reconnects(traffic: ChatTraffic) -> int:
    return sum(client.reconnects for client in traffic.clients)


def line(result: Result) -> str:
    """One restart in one line."""
    found = len(result.complaints) or "no"
    return f"{result.name}: healthy after {result.seconds:.1f} s, {result.errors.total()} retries, {found} complaints"


def table(results: list[Result]) -> Table:
    """The table for a terminal."""
    shown = Table(title="Every part restarted under load, one after the other", title_justify="left")
    shown.add_column("restarted", no_wrap=True)
    shown.add_column("healthy after", justify="right")
    shown.add_column("sent", justify="right")
    shown.add_column("retried after", no_wrap=True)
    for heading in ("reconnects", "longest wait", *COMPLAINT_COLUMNS):
        shown.add_column(heading, justify="right")
    for result in results:
        counts = Counter(kind for kind, _ in result.complaints)
        shown.add_row(
            result.name,
            f"{result.seconds:.1f} s",
            f"{result.sent:,}",
            ", ".join(f"{count} {code}" for code, count in sorted(result.errors.items())) or "none",
            str(result.reconnects),
            f"{result.longest_wait:.1f} s",
            *(f"[bold red]{counts[kind]}" if counts[kind] else "[green]0" for kind in COMPLAINT_COLUMNS),
        )
    return shown
