"""`python -m infra sizing`: how many of what, by arithmetic on measured costs. docs/scaling.md is written from it.

A worker handles what is there as one batch, and an edge sends what is there as one bundle. So nearly every cost has a
part per message and a part per batch, and a message is the cheaper the more there are. Two measured runs, one of small
batches and one of large, give both parts. Beyond the two cores that were measured this multiplies: it says where to
look first, and no more.
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
    """A run of `python -m infra.bench.load`: pairs on two edges, one worker of each kind, everything on two cores."""

    name: str
    #: Messages a second, acked and delivered.
    rate: float
    #: Processor time of all processes of a kind for one message, microseconds.
    edges: float
    persistence: float
    unread: float
    mongodb: float
    rabbitmq: float
    #: Commands in a batch of persistence, and milliseconds that its handler takes, waiting for the store included.
    batch: float
    handled: float
    #: Facts in a batch of unread.
    counted: float
    #: AMQP messages for one message: bundles of commands, frames, facts.
    bundles: float
    frames: float
    facts: float


#: What everything below counts with. Replace both together, from one build: docs/performance.md says how.
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
    """Microseconds for each message, and for each of what comes with it: an AMQP message, or a batch."""

    message: float
    other: float

    def of(self, messages: float, others: float) -> float:
        """Cores that so many a second take."""
        return (messages * self.message + others * self.other) / 1e6


def _solved(light: float, full: float, others_light: float, others_full: float) -> Cost:
    """The two parts of a cost, from what a message cost in both runs and how many others came with it."""
    other = (light - full) / (others_light - others_full)
    return Cost(full - other * others_full, other)


EDGES = _solved(LIGHT.edges, FULL.edges, LIGHT.bundles + LIGHT.frames, FULL.bundles + FULL.frames)
RABBITMQ = _solved(
    LIGHT.rabbitmq, FULL.rabbitmq, LIGHT.bundles + LIGHT.frames + LIGHT.facts, FULL.bundles + FULL.frames + FULL.facts
)
PERSISTENCE = _solved(LIGHT.persistence, FULL.persistence, 1 / LIGHT.batch, 1 / FULL.batch)
UNREAD = _solved(LIGHT.unread, FULL.unread, 1 / LIGHT.counted, 1 / FULL.counted)
MONGODB = _solved(LIGHT.mongodb, FULL.mongodb, 1 / LIGHT.batch + 1 / LIGHT.counted, 1 / FULL.batch + 1 / FULL.counted)
#: Milliseconds that a command adds to a batch, and those of a batch of none. A persistence worker waits for the store
#: half of its time: what ends it is not its core but the first of these.
COMMAND_MS = (FULL.handled - LIGHT.handled) / (FULL.batch - LIGHT.batch)
BATCH_MS = LIGHT.handled - COMMAND_MS * LIGHT.batch

#: What a further recipient adds, microseconds: two pushes; an entry of an inbox with its total. Estimated from
#: docs/performance.md: no run has groups.
PUSHES, COUNT, INBOX = 44, 20, 95
#: Seconds from publish to confirm, measured 3.6 to 10 ms; bundles of one edge that may be unconfirmed, and commands in
#: one (edge/relay.py).
CONFIRM, OUTSTANDING, BUNDLE = 0.005, 2, 100
#: Bundles of facts a second from one persistence worker (workers/runner.py), and batches of one unread worker at most.
FACTS, COUNTS = 10, 25
#: Nodes of a cluster: a durable message costs each of them.
NODES = 3
#: Durable messages a second through one queue, which one process of RabbitMQ leads. Assumed: not measured here.
QUEUE = 5_000
#: Sockets of an edge (WARREN_MAX_CONNECTIONS), and KB of its memory for one (`make load`).
SOCKETS, SOCKET_KB = 10_000, 30
#: Seconds that a connection lasts, and microseconds that it costs presence, and history with its snapshot. Assumed.
SESSION, CONNECT = 1_800, 1_000
#: Bytes of disk for a message with its indexes, estimated; and times the mean that the peak is, assumed.
DOCUMENT, PEAK = 400, 3

#: Share of a core or a worker's time, and of an edge's sockets, that is planned with. The rest is for the loss of a
#: neighbour, and for peaks.
BUSY, FILLED = 0.5, 0.8
#: Of each process: one may always be away.
LEAST = 2
#: Cores of one MongoDB primary, and of a RabbitMQ cluster, at which the next step is due.
SHARD_CORES, CLUSTER_CORES = 8, 24


@dataclass(frozen=True)
class Demand:
    """What is to be carried at the busiest moment."""

    #: People connected at once, each with one socket.
    connected: float
    messages_per_second: float
    #: People in a conversation, the sender included.
    group_size: float = 2

    @property
    def recipients(self) -> float:
        """People who get a message."""
        return self.group_size - 1

    def split(self, cells: int) -> "Demand":
        """What one of so many cells carries."""
        return Demand(self.connected / cells, self.messages_per_second / cells, self.group_size)


@dataclass(frozen=True)
class Traffic:
    """What so many messages a second become between so many processes; all but `batch` a second."""

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
    """How batches and bundles form: while one is handled or unconfirmed, the next one gathers."""
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
    """Each batch sends one to every edge that anything in it concerns."""
    concerned = rate / batches * touched
    return float(batches * edges * (1 - (1 - 1 / edges) ** concerned))


@dataclass(frozen=True)
class Plan:
    """How many of what one cell needs. Cores are those to provide; they are then half busy."""

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
    """What a demand needs in one cell."""
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
    """Milliseconds of processor time for one message, by part, as in the runs: two edges, one worker of each kind."""
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
    """The fewest cells in which no RabbitMQ cluster needs more than its cores."""
    number = 1
    while plan(demand.split(number)).rabbitmq_cores > CLUSTER_CORES:
        number += 1
    return number


def _processes(cores: float) -> int:
    return max(LEAST, ceil(cores / BUSY))


# --- Telling ----------------------------------------------------------------------------------------------


def rows(demand: Demand) -> Iterator[tuple[str, str, str]]:
    """Part, how many, and what that follows from."""
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
    users: Annotated[float, typer.Option(help="People who have an account.", min=1)],
    messages_per_second: Annotated[
        float | None,
        typer.Option(help="At the busiest moment; left out, one a minute of each who is connected.", min=0.1),
    ] = None,
    group_size: Annotated[
        float, typer.Option(help="People in a conversation, weighted by messages.", min=2, max=MAX_PARTICIPANTS)
    ] = 2,
    connected: Annotated[
        float, typer.Option(help="Share of the users that is connected at the busiest moment.", min=0.0001, max=1)
    ] = 0.1,
) -> None:
    """Say how many of what a number of users needs: arithmetic on measured costs, see docs/scaling.md."""
    people = users * connected
    rate = messages_per_second if messages_per_second is not None else people / 60
    table = Table("part", "needed", "for", title=f"{people:,.0f} connected, {rate:,.1f} messages/s")
    for part, needed, why in rows(Demand(people, rate, group_size)):
        table.add_row(part, needed, why)
    console.print(table)
