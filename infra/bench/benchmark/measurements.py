"""The measurements: each takes a running system and returns metrics by name. `SECONDS` has their lengths."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from infra.bench.checker import UNDELIVERED
from infra.bench.load import scenarios
from infra.bench.load.conversations import connect_everyone
from infra.bench.load.figures import TrafficFigures
from infra.bench.load.reads import Reader
from infra.bench.load.reconnects import reconnect
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.usage import GENERATOR, Meter
from infra.local.supervisor import Process

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
#: Connections of `idle`, and clients that lose their edge in `edge_crash`.
IDLE_CONNECTIONS, RECONNECTING = 4000, 2000
#: Members of the group, and its messages in flight.
GROUP, GROUP_IN_FLIGHT = 50, 16
#: Messages and reads a second of `reads`, and its people: each of 10 talks with each of 10 others.
READ_WRITES, READS, READ_PEOPLE = 60.0, 60.0, 10
#: Messages a second on the curve over edges: one that all systems can carry with 8 edges, one that batches.
CURVE_RATE, BUSY_CURVE_RATE = 60.0, 400.0
#: A system is idle when all its processes together take less than this share of a core over so many seconds; and the
#: seconds after which a measurement starts anyway.
IDLE_SHARE, IDLE_WINDOW, IDLE_LIMIT = 0.2, 0.3, 30.0

Metrics = dict[str, float]


class ProcessControl(Protocol):
    """Starts and ends processes of a running system."""

    edges: list[Process]

    async def add_edge(self) -> Process:
        """Start one more edge."""

    async def kill(self, process: Process) -> None:
        """End a process without warning."""

    async def restart(self, process: Process) -> None:
        """Start it again."""


@dataclass
class RunningSystem:
    """One start of a system, and what earlier measurements on it found."""

    system: SystemUnderTest
    processes: ProcessControl
    #: Gets the share of the current measurement that is over, 0 to 1.
    progress: scenarios.Progress
    #: Highest messages a second so far; `share` takes percents of it.
    saturation: float = 0.0
    #: Measurements so far; the number makes user ids unique.
    taken: int = field(default=0)

    def user_prefix(self) -> str:
        """A prefix for user ids that no other measurement on this start has used."""
        self.taken += 1
        return f"m{self.taken}"


async def wait_until_idle(running: RunningSystem) -> None:
    """Wait `IDLE_LIMIT` seconds at most until the system has no work left: a backlog would spoil a measurement."""
    deadline = time.monotonic() + IDLE_LIMIT
    while time.monotonic() < deadline:
        meter = Meter(running.system.pids)
        await asyncio.sleep(IDLE_WINDOW)
        cpu = meter.stop().cpu
        if sum(seconds for name, seconds in cpu.items() if name != GENERATOR) < IDLE_SHARE * IDLE_WINDOW:
            return


async def throughput(running: RunningSystem, in_flight: int) -> Metrics:
    """Closed loop over 100 pairs."""
    name = f"{in_flight} in flight"
    figures = await scenarios.throughput(
        running.system,
        running.progress,
        in_flight=in_flight,
        seconds=SECONDS[name],
        warm_up=SECONDS["warm-up"],
        user_prefix=running.user_prefix(),
    )
    running.saturation = max(running.saturation, figures.rate)
    return traffic_metrics(figures)


async def latency(running: RunningSystem, name: str, rate: float) -> Metrics:
    """Open loop over 100 pairs."""
    figures = await scenarios.latency(
        running.system,
        running.progress,
        rate=rate,
        seconds=SECONDS[name],
        warm_up=SECONDS["warm-up"],
        user_prefix=running.user_prefix(),
    )
    return {**traffic_metrics(figures), "offered": rate}


async def share(running: RunningSystem, percent: int) -> Metrics:
    """Open loop at a share of the system's own saturation."""
    return await latency(running, f"{percent} %", running.saturation * percent / 100)


async def group(running: RunningSystem) -> Metrics:
    """Closed loop in one group; a message is delivered when the last member has it."""
    figures = await scenarios.throughput(
        running.system,
        running.progress,
        pairs=1,
        size=GROUP,
        in_flight=GROUP_IN_FLIGHT,
        seconds=SECONDS["group"],
        warm_up=SECONDS["warm-up"],
        user_prefix=running.user_prefix(),
    )
    return {**traffic_metrics(figures), "deliveries": figures.rate * (GROUP - 1)}


async def reads(running: RunningSystem) -> Metrics:
    """Reads of lists and history pages at a fixed rate, while messages are sent at a fixed rate."""
    reader, user_prefix = Reader(READS), running.user_prefix()
    figures = await scenarios.latency(
        running.system,
        running.progress,
        rate=READ_WRITES,
        seconds=SECONDS["reads"],
        warm_up=SECONDS["warm-up"],
        connect=lambda: connect_everyone(running.system, READ_PEOPLE, user_prefix),
        background=reader.read,
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


async def idle(running: RunningSystem) -> Metrics:
    """Many idle connections on one edge."""
    figures = await scenarios.connections(running.system, running.progress, count=IDLE_CONNECTIONS)
    return {
        "seconds": figures.seconds,
        "kilobytes": figures.kilobytes_each,
        "dropped": figures.dropped,
        "generator": figures.usage.generator_share,
        "others": figures.usage.others,
    }


async def edge_crash(running: RunningSystem) -> Metrics:
    """Seconds until the clients of a killed edge are ready on another one, or on the same one if it is the only one."""
    processes = running.processes

    async def kill() -> None:
        await processes.kill(processes.edges[0])
        if len(processes.edges) == 1:
            await processes.restart(processes.edges[0])

    return {"seconds": await reconnect(running.system, running.progress, kill=kill, count=RECONNECTING)}


async def curve(running: RunningSystem, rate: float) -> Metrics:
    """Open loop at a rate that stays the same while edges are added."""
    figures = await scenarios.latency(
        running.system,
        running.progress,
        rate=rate,
        seconds=SECONDS["curve"],
        warm_up=SECONDS["warm-up"],
        user_prefix=running.user_prefix(),
    )
    return {**traffic_metrics(figures), "offered": rate}


async def with_workers(running: RunningSystem) -> Metrics:
    """Closed loop at 400 in flight while persistence workers are added."""
    figures = await scenarios.throughput(
        running.system,
        running.progress,
        in_flight=400,
        seconds=SECONDS["persistence"],
        warm_up=SECONDS["warm-up"],
        user_prefix=running.user_prefix(),
    )
    return traffic_metrics(figures)


def traffic_metrics(figures: TrafficFigures) -> Metrics:
    """Metrics of a scenario with messages. Latencies in ms, `cpu …` in CPU seconds per 1,000 messages, shares 0 to 1.

    `undelivered` counts pushes that came too late or never, `complaints` all other complaints of the checker.
    """
    by_kind: defaultdict[str, float] = defaultdict(float)
    for name, seconds in figures.cpu_per_thousand.items():
        by_kind[name.rpartition("-")[0] or name] += seconds
    generator = by_kind.pop(GENERATOR, 0.0)
    undelivered = figures.verdict.count(UNDELIVERED)
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
        "complaints": len(figures.verdict.complaints) - undelivered,
        "undelivered": undelivered,
    }
