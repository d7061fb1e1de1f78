"""`python -m infra sizing`: estimates the processes and cores for a number of users. docs/scaling.md uses the results.

A worker handles all waiting messages as one batch, and an edge sends all waiting commands as one bundle. So nearly
every cost has a part per message and a part per batch, and a message costs less under load. Two measured runs, one with
small batches and one with large batches, give both parts. The runs used two cores; beyond that, the estimate
extrapolates. It shows which part reaches its limit first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Annotated

import typer
from rich.table import Table

from contracts.values import MAX_PARTICIPANTS
from infra.cli.console import console


@dataclass(frozen=True)
class Run:
    """A run of `python -m infra load`: pairs of users on two edges, one worker of each kind, all on two cores."""

    name: str
    #: Messages per second, acked and delivered.
    rate: float
    #: Processor time per message of all processes of a kind, microseconds.
    edges: float
    persistence: float
    unread: float
    mongodb: float
    rabbitmq: float
    #: Commands in a batch of persistence, and milliseconds of its handler, including waits for the store.
    batch: float
    handled: float
    #: Facts in a batch of unread.
    counted: float
    #: AMQP messages per message: bundles of commands, frames, and bundles of facts.
    bundles: float
    frames: float
    facts: float


#: All estimates use these two runs. Replace both together, measured with one build; docs/performance.md says how.
LIGHT = Run(
    "200/s", 200, edges=1_645, persistence=2_050, unread=355, mongodb=1_445, rabbitmq=1_095,
    batch=2.10, handled=9.5, counted=22.5, bundles=0.978, frames=1.077, facts=0.044,
)  # fmt: skip
FULL = Run(
    "400 in flight", 2_722, edges=168, persistence=154, unread=45, mongodb=183, rabbitmq=30,
    batch=99.0, handled=34.2, counted=335, bundles=0.0113, frames=0.0261, facts=0.0030,
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Microseconds per message, and per AMQP message or batch (`other`)."""

    message: float
    other: float

    def of(self, messages: float, others: float) -> float:
        """Cores for so many messages and others per second."""
        return (messages * self.message + others * self.other) / 1e6


def _solved(light: float, full: float, others_light: float, others_full: float) -> Cost:
    """Solve two linear equations: the cost of a message in both runs, and the number of others per message."""
    other = (light - full) / (others_light - others_full)
    return Cost(full - other * others_full, other)


EDGES = _solved(LIGHT.edges, FULL.edges, LIGHT.bundles + LIGHT.frames, FULL.bundles + FULL.frames)
RABBITMQ = _solved(
    LIGHT.rabbitmq, FULL.rabbitmq, LIGHT.bundles + LIGHT.frames + LIGHT.facts, FULL.bundles + FULL.frames + FULL.facts
)
PERSISTENCE = _solved(LIGHT.persistence, FULL.persistence, 1 / LIGHT.batch, 1 / FULL.batch)
UNREAD = _solved(LIGHT.unread, FULL.unread, 1 / LIGHT.counted, 1 / FULL.counted)
MONGODB = _solved(LIGHT.mongodb, FULL.mongodb, 1 / LIGHT.batch + 1 / LIGHT.counted, 1 / FULL.batch + 1 / FULL.counted)
#: Milliseconds that a command adds to a batch, and milliseconds of an empty batch. A persistence worker spends half of
#: its time waiting for the store, so the first number limits it, and not its core.
COMMAND_MS = (FULL.handled - LIGHT.handled) / (FULL.batch - LIGHT.batch)
BATCH_MS = LIGHT.handled - COMMAND_MS * LIGHT.batch

#: Microseconds for each further recipient: of edges for two pushes, of unread for a count, and of MongoDB for an inbox
#: entry with its total. Estimated from docs/performance.md, because no run has groups.
PUSHES, COUNT, INBOX = 44, 20, 95
#: Seconds from publish to confirm (3.6 to 10 ms were measured), unconfirmed bundles of one edge, and commands in one
#: bundle (both from edge/relay.py).
CONFIRM, OUTSTANDING, BUNDLE = 0.005, 2, 100
#: Bundles of facts per second from one persistence worker (workers/runner.py), and batches per second of one unread
#: worker, at most.
FACTS, COUNTS = 10, 25
#: Nodes of a RabbitMQ cluster: a durable message costs processor time on each.
NODES = 3
#: Durable messages per second through one queue, which is bound to one process of RabbitMQ. Assumed, not measured.
QUEUE = 5_000
#: Sockets of an edge (WARREN_MAX_CONNECTIONS), and memory of one socket, KB (measured by `make load`).
SOCKETS, SOCKET_KB = 10_000, 30
#: Seconds that a connection lasts, and microseconds that it costs presence workers, and history workers for its
#: snapshot. Both are assumed.
SESSION, CONNECT = 1_800, 1_000
#: Bytes of disk per message with its indexes (estimated), and the ratio of peak to mean load (assumed).
DOCUMENT, PEAK = 400, 3

#: Planned load of a core or a worker, and of an edge's sockets. The rest is a reserve for the loss of another process
#: and for peaks.
BUSY, FILLED = 0.5, 0.8
#: Processes of each kind, so that one may fail.
LEAST = 2
#: Cores of one MongoDB primary, and of one RabbitMQ cluster, above which another one is planned.
SHARD_CORES, CLUSTER_CORES = 8, 24


@dataclass(frozen=True)
class Demand:
    """The load at the busiest moment."""

    #: Users connected at once, each with one socket.
    connected: float
    messages_per_second: float
    #: Participants of a conversation, including the sender.
    group_size: float = 2

    @property
    def recipients(self) -> float:
        """Users who receive a message."""
        return self.group_size - 1

    def split(self, cells: int) -> "Demand":
        """The demand of one of so many cells."""
        return Demand(self.connected / cells, self.messages_per_second / cells, self.group_size)


@dataclass(frozen=True)
class Traffic:
    """Batches and AMQP messages for a demand. All fields but `batch` are per second."""

    #: Commands in a batch of persistence.
    batch: float
    batches: float
    #: Batches of unread.
    counts: float
    #: AMQP messages: bundles of commands and of facts, and frames.
    bundles: float
    facts: float
    frames: float


def traffic(demand: Demand, *, edges: int, persistence: int, unread: int) -> Traffic:
    """The traffic of a demand: while one batch or bundle is in progress, the next one collects messages."""
    rate = demand.messages_per_second
    each = rate / persistence
    batch = max(1.0, each * BATCH_MS / (1000 - each * COMMAND_MS))
    batches = rate / batch
    facts = min(rate, persistence * FACTS)
    counts = min(facts, unread * COUNTS)
    frames = _frames(rate, batches, 1 + demand.recipients, edges) + _frames(rate, counts, demand.recipients, edges)
    bundles = max(rate / BUNDLE, min(rate, edges * OUTSTANDING / CONFIRM))
    return Traffic(batch, batches, counts, bundles, facts, frames)


def _frames(rate: float, batches: float, touched: float, edges: int) -> float:
    """Frames per second: each batch sends one to every edge that holds a sender or recipient of it."""
    concerned = rate / batches * touched
    return float(batches * edges * (1 - (1 - 1 / edges) ** concerned))


@dataclass(frozen=True)
class Plan:
    """The processes and cores of one cell. The cores include the reserve of `BUSY`."""

    edges: int
    persistence: int
    unread: int
    presence: int
    history: int
    persistence_queues: int
    rabbitmq_cores: float
    mongodb_cores: float
    shards: int
    disk_gb_a_day: float
    traffic: Traffic


def plan(demand: Demand) -> Plan:
    """The plan for a demand in one cell."""
    rate, further = demand.messages_per_second, demand.recipients - 1
    persistence = _processes(rate * COMMAND_MS / 1000)
    unread = _processes(UNREAD.of(rate, min(rate, persistence * FACTS)) + rate * further * COUNT / 1e6)
    edges = max(LEAST, ceil(demand.connected / (FILLED * SOCKETS)))
    while True:
        flow = traffic(demand, edges=edges, persistence=persistence, unread=unread)
        busy = EDGES.of(rate, flow.bundles + flow.frames) + rate * further * PUSHES / 1e6
        if _processes(busy) <= edges:
            break
        edges += 1
    mongodb = (MONGODB.of(rate, flow.batches + flow.counts) + rate * further * INBOX / 1e6) / BUSY
    arrivals = _processes(demand.connected / SESSION * CONNECT / 1e6)
    return Plan(
        edges=edges,
        persistence=persistence,
        unread=unread,
        presence=arrivals,
        history=arrivals,
        persistence_queues=max(1, ceil(flow.bundles / QUEUE)),
        rabbitmq_cores=RABBITMQ.of(rate, (flow.bundles + flow.facts) * NODES + flow.frames) / BUSY,
        mongodb_cores=mongodb,
        shards=max(1, ceil(mongodb / SHARD_CORES)),
        disk_gb_a_day=rate / PEAK * 86_400 * DOCUMENT / 1e9,
        traffic=flow,
    )


def spent(rate: float) -> dict[str, float]:
    """Milliseconds of processor time per message, by part, with two edges and one worker of each kind."""
    flow = traffic(Demand(0, rate), edges=2, persistence=1, unread=1)
    parts = {
        "edges": EDGES.of(rate, flow.bundles + flow.frames),
        "persistence": PERSISTENCE.of(rate, flow.batches),
        "unread": UNREAD.of(rate, flow.counts),
        "MongoDB": MONGODB.of(rate, flow.batches + flow.counts),
        "RabbitMQ": RABBITMQ.of(rate, flow.bundles + flow.facts + flow.frames),
    }
    return {name: cores / rate * 1000 for name, cores in parts.items()}


def cells(demand: Demand) -> int:
    """The smallest number of cells in which each RabbitMQ cluster needs at most `CLUSTER_CORES`."""
    number = 1
    while plan(demand.split(number)).rabbitmq_cores > CLUSTER_CORES:
        number += 1
    return number


def _processes(cores: float) -> int:
    return max(LEAST, ceil(cores / BUSY))


# --- Output -----------------------------------------------------------------------------------------------


def rows(demand: Demand) -> Iterator[tuple[str, str, str]]:
    """The table's rows: part, number, and the load that it is for."""
    number = cells(demand)
    share = demand.split(number)
    one = plan(share)
    rate = share.messages_per_second
    sockets = share.connected / one.edges
    durable = one.traffic.bundles + one.traffic.facts
    yield (
        "cells",
        f"{number:,}",
        f"at most {CLUSTER_CORES} RabbitMQ cores in each" + ("; one cell needs:" if number > 1 else ""),
    )
    yield "edges", f"{one.edges:,}", f"{sockets:,.0f} sockets each, {sockets * SOCKET_KB / 1000:,.0f} MB for them"
    yield "persistence workers", f"{one.persistence:,}", f"{rate:,.0f} messages/s, batches of {one.traffic.batch:,.0f}"
    yield "unread workers", f"{one.unread:,}", f"{rate * share.recipients:,.0f} counts/s"
    yield "presence workers", f"{one.presence:,}", f"{share.connected / SESSION:,.1f} connections/s"
    yield "history workers", f"{one.history:,}", f"{share.connected / SESSION:,.1f} snapshots/s"
    yield (
        "RabbitMQ, cores",
        f"{one.rabbitmq_cores:,.1f}",
        f"{durable:,.0f} durable and {one.traffic.frames:,.0f} frames/s",
    )
    yield "persistence queues", f"{one.persistence_queues:,}", f"{QUEUE:,} durable messages/s per queue"
    yield "MongoDB, cores", f"{one.mongodb_cores:,.1f}", "all primaries together"
    yield "MongoDB, shards", f"{one.shards:,}", f"at most {SHARD_CORES} cores each"
    yield "disk, GB a day", f"{one.disk_gb_a_day:,.1f}", f"on each member; the mean is 1/{PEAK} of the peak"


def command(
    users: Annotated[float, typer.Option(help="Number of user accounts.", min=1)],
    messages_per_second: Annotated[
        float | None,
        typer.Option(help="At the busiest moment; default: one per minute and connected user.", min=0.1),
    ] = None,
    group_size: Annotated[
        float, typer.Option(help="Participants of a conversation, averaged over messages.", min=2, max=MAX_PARTICIPANTS)
    ] = 2,
    connected: Annotated[
        float, typer.Option(help="Share of the users connected at the busiest moment.", min=0.0001, max=1)
    ] = 0.1,
) -> None:
    """Estimate the processes and cores for a number of users, from measured costs; see docs/scaling.md."""
    people = users * connected
    rate = messages_per_second if messages_per_second is not None else people / 60
    table = Table("part", "needed", "for", title=f"{people:,.0f} connected, {rate:,.1f} messages/s")
    for part, needed, why in rows(Demand(people, rate, group_size)):
        table.add_row(part, needed, why)
    console.print(table)
