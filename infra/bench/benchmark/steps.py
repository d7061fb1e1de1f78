"""The measurements: each takes a running system and gives metrics by name. Lengths are in one table, `SECONDS`."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from infra.bench.checker import UNDELIVERED
from infra.bench.load import scenarios
from infra.bench.load.figures import TrafficFigures
from infra.bench.load.reads import Reader
from infra.bench.load.storm import reconnect
from infra.bench.load.target import Target
from infra.bench.load.traffic import connect_crowd
from infra.bench.load.usage import GENERATOR, Meter
from infra.local.stack import Process

#: Lengths of the measured stretches, and of the warm-up before each, in seconds.
SECONDS = {
    "warm-up": 1.5,
    "100 in flight": 4.0,
    "400 in flight": 5.0,
    "200/s": 5.0,
    "50 %": 4.0,
    "80 %": 5.0,
    "group": 4.0,
    "reads": 5.0,
    "curve": 4.0,
    "persistence": 4.0,
}
#: Connections kept idle, and clients that lose their edge.
IDLE, STORM = 4000, 2000
#: Members of the group, and its messages under way.
GROUP, GROUP_IN_FLIGHT = 50, 16
#: Messages and reads a second of the run with both, and people on each side of its crowd.
READ_WRITES, READS, CROWD = 60.0, 60.0, 10
#: Messages a second on the curve over edges: one that all systems can carry with 8 edges, one that batches.
CURVE_RATE, BUSY_CURVE_RATE = 60.0, 400.0
#: A system is calm when all its processes together take less of a core than this for so many seconds; the time it gets.
CALM, CALM_LOOK, CALM_LIMIT = 0.2, 0.3, 30.0

Metrics = dict[str, float]


class Fleet(Protocol):
    """The processes of a running system that measurements touch."""

    edges: list[Process]

    async def add_edge(self) -> Process:
        """Start one more edge."""

    async def kill(self, process: Process) -> None:
        """End a process without warning."""

    async def restart(self, process: Process) -> None:
        """Start it again."""


@dataclass
class Subject:
    """One start of a system, and what is known of it so far."""

    target: Target
    fleet: Fleet
    #: Is told how far the measurement at hand is.
    progress: scenarios.Progress
    #: The highest rate so far: what 50 % and 80 % are of.
    saturation: float = 0.0
    #: Measurements so far; their number makes names of people unique.
    taken: int = field(default=0)

    def people(self) -> str:
        """The beginning of names that no other measurement has used."""
        self.taken += 1
        return f"m{self.taken}"


async def calm(subject: Subject) -> None:
    """Wait, within limits, until the system has nothing left to do: a measurement is to start without a backlog."""
    deadline = time.monotonic() + CALM_LIMIT
    while time.monotonic() < deadline:
        meter = Meter(subject.target.pids)
        await asyncio.sleep(CALM_LOOK)
        cpu = meter.stop().cpu
        if sum(seconds for name, seconds in cpu.items() if name != GENERATOR) < CALM * CALM_LOOK:
            return


async def throughput(subject: Subject, in_flight: int) -> Metrics:
    """Closed loop over 100 pairs."""
    name = f"{in_flight} in flight"
    figures = await scenarios.throughput(
        subject.target,
        subject.progress,
        in_flight=in_flight,
        seconds=SECONDS[name],
        warm_up=SECONDS["warm-up"],
        people=subject.people(),
    )
    subject.saturation = max(subject.saturation, figures.rate)
    return traffic_metrics(figures)


async def latency(subject: Subject, name: str, rate: float) -> Metrics:
    """Open loop over 100 pairs."""
    figures = await scenarios.latency(
        subject.target,
        subject.progress,
        rate=rate,
        seconds=SECONDS[name],
        warm_up=SECONDS["warm-up"],
        people=subject.people(),
    )
    return {**traffic_metrics(figures), "asked": rate}


async def share(subject: Subject, percent: int) -> Metrics:
    """Open loop at a share of the system's own saturation."""
    return await latency(subject, f"{percent} %", subject.saturation * percent / 100)


async def group(subject: Subject) -> Metrics:
    """Closed loop in one group; a message is delivered when the last member has it."""
    figures = await scenarios.throughput(
        subject.target,
        subject.progress,
        pairs=1,
        size=GROUP,
        in_flight=GROUP_IN_FLIGHT,
        seconds=SECONDS["group"],
        warm_up=SECONDS["warm-up"],
        people=subject.people(),
    )
    return {**traffic_metrics(figures), "deliveries": figures.rate * (GROUP - 1)}


async def reads(subject: Subject) -> Metrics:
    """Lists and pages of history at a fixed rate, beside writes at a fixed rate."""
    reader, people = Reader(READS), subject.people()
    figures = await scenarios.latency(
        subject.target,
        subject.progress,
        rate=READ_WRITES,
        seconds=SECONDS["reads"],
        warm_up=SECONDS["warm-up"],
        connect=lambda: connect_crowd(subject.target, CROWD, people),
        beside=reader.read,
    )
    lists, pages = reader.figures()
    return {
        "list p50": lists.p50,
        "list p99": lists.p99,
        "page p50": pages.p50,
        "page p99": pages.p99,
        "failed": reader.failed,
        **traffic_metrics(figures),
    }


async def idle(subject: Subject) -> Metrics:
    """Many idle connections on one edge."""
    figures = await scenarios.connections(subject.target, subject.progress, count=IDLE)
    return {
        "seconds": figures.seconds,
        "kilobytes": figures.kilobytes_each,
        "dropped": figures.dropped,
        "generator": figures.usage.generator_share,
        "others": figures.usage.others,
    }


async def storm(subject: Subject) -> Metrics:
    """Clients of an edge that dies move to another one, or wait for its return where it is alone."""
    fleet = subject.fleet

    async def kill() -> None:
        await fleet.kill(fleet.edges[0])
        if len(fleet.edges) == 1:
            await fleet.restart(fleet.edges[0])

    return {"seconds": await reconnect(subject.target, subject.progress, kill=kill, count=STORM)}


async def curve(subject: Subject, rate: float) -> Metrics:
    """Open loop at a rate that stays the same while edges are added."""
    figures = await scenarios.latency(
        subject.target,
        subject.progress,
        rate=rate,
        seconds=SECONDS["curve"],
        warm_up=SECONDS["warm-up"],
        people=subject.people(),
    )
    return {**traffic_metrics(figures), "asked": rate}


async def with_workers(subject: Subject) -> Metrics:
    """Closed loop at 400 in flight while persistence workers are added."""
    figures = await scenarios.throughput(
        subject.target,
        subject.progress,
        in_flight=400,
        seconds=SECONDS["persistence"],
        warm_up=SECONDS["warm-up"],
        people=subject.people(),
    )
    return traffic_metrics(figures)


def traffic_metrics(figures: TrafficFigures) -> Metrics:
    """Metrics of a run with messages. Latencies in ms, `cpu …` in CPU seconds per 1,000 messages, shares 0 to 1.

    `wrong` counts what breaks a promise; `late` counts pushes that came too late or never.
    """
    by_kind: defaultdict[str, float] = defaultdict(float)
    for name, seconds in figures.cpu_per_thousand.items():
        by_kind[name.rpartition("-")[0] or name] += seconds
    generator = by_kind.pop(GENERATOR, 0.0)
    late = figures.verdict.count(UNDELIVERED)
    return {
        "rate": figures.rate,
        "ack p50": figures.ack.p50,
        "ack p99": figures.ack.p99,
        "delivery p50": figures.delivery.p50,
        "delivery p99": figures.delivery.p99,
        "cpu": sum(by_kind.values()),
        **{f"cpu {kind}": seconds for kind, seconds in by_kind.items()},
        "cpu generator": generator,
        "generator": figures.usage.generator_share,
        "busy": figures.usage.machine,
        "others": figures.usage.others,
        "wrong": len(figures.verdict.complaints) - late,
        "late": late,
    }
