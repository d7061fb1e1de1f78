"""Restart everything, one after the other, while people talk; after each step, the four histories are compared."""

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
from tests.cluster.ground import LIMIT, Whole
from tests.faults.report import COLUMNS
from tests.faults.run import judge

#: Seconds that people talk before a step, and after it.
BEFORE, AFTER = 2.0, 1.0


@dataclass(frozen=True)
class Step:
    """What is restarted."""

    name: str
    restart: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Result:
    """What one step took, and what clients saw of it."""

    name: str
    #: Seconds from the order to stop until everything was whole again.
    seconds: float
    sent: int
    #: Answers other than ok, by code; each was followed by a retry.
    errors: Counter[str]
    reconnects: int
    #: Seconds that the unluckiest message waited for its ack, all tries together.
    longest_wait: float
    #: What the histories show for the first time after this step.
    complaints: list[Complaint]


async def roll(whole: Whole) -> AsyncIterator[Result]:
    """Take every step; a complaint of one is not counted again in the next."""
    known: set[Complaint] = set()
    for step in await _steps(whole):
        result = await _take(whole, step, known)
        known.update(result.complaints)
        yield result


async def _steps(whole: Whole) -> list[Step]:
    """Brokers, stores (the primary last), edges, workers."""
    cluster, stack = whole.cluster, whole.stack
    primary = await asyncio.to_thread(_primary, cluster.mongo_url)
    members = sorted(cluster.members, key=lambda member: member.port == primary)
    steps = [Step(f"RabbitMQ {n}", partial(_restart_node, node)) for n, node in enumerate(cluster.nodes, start=1)]
    for member in members:
        name = f"mongod {cluster.members.index(member) + 1}{' (primary)' if member.port == primary else ''}"
        steps.append(Step(name, partial(_restart_member, member)))
    processes = [*stack.edges, *(worker for kind in WORKER_KINDS for worker in stack.workers[kind])]
    return steps + [Step(process.name, partial(stack.restart, process)) for process in processes]


async def _take(whole: Whole, step: Step, known: set[Complaint]) -> Result:
    crowd = whole.crowd
    sent, errors, reconnects = len(crowd.sent), _errors(whole), _reconnects(whole)
    crowd.start()
    await asyncio.sleep(BEFORE)
    began = time.monotonic()
    await step.restart()
    await whole.until_whole()
    seconds = time.monotonic() - began
    await asyncio.sleep(AFTER)
    await crowd.settle()
    verdict = await judge(whole.scene)
    mine = crowd.sent[sent:]
    return Result(
        step.name,
        seconds,
        len(mine),
        _errors(whole) - errors,
        _reconnects(whole) - reconnects,
        max((each.acked_at - each.due_at for each in mine if each.acked_at), default=0.0),
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


def _errors(whole: Whole) -> Counter[str]:
    return Counter(code for message in whole.crowd.sent for code in message.failures)


def _reconnects(whole: Whole) -> int:
    return sum(person.reconnects for person in whole.crowd.people)


def line(result: Result) -> str:
    """One step as it is taken."""
    said = f"{len(result.complaints)} complaints" if result.complaints else "nothing lost, doubled or out of place"
    return f"{result.name}: whole after {result.seconds:.1f} s, {result.errors.total()} errors retried, {said}"


def table(results: list[Result]) -> Table:
    """For people at a terminal."""
    shown = Table(title="Everything restarted under load, one after the other", title_justify="left")
    shown.add_column("restarted", no_wrap=True)
    shown.add_column("whole after", justify="right")
    shown.add_column("sent", justify="right")
    shown.add_column("retried after", no_wrap=True)
    for heading in ("reconnects", "longest wait", *COLUMNS):
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
            *(f"[bold red]{counts[kind]}" if counts[kind] else "[green]0" for kind in COLUMNS),
        )
    return shown
