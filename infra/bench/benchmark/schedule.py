"""The schedule of the benchmark: jobs in order, each one start of a system with measurements on it."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from infra.bench.benchmark import measurements
from infra.bench.benchmark.measurements import SECONDS, Metrics, ProcessControl, RunningSystem
from infra.bench.benchmark.targets import ALONE, ECHO, NODE, PATCHED, PYTHON, WARREN
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.warren import warren
from infra.bench.peers import systems
from infra.local.stack import Stack

#: Rounds of a whole run; `ONCE` is measured in the first only.
ROUNDS = 3
#: Expected seconds of a start, and of a measurement beyond its measured stretch and warm-up; for the progress bar.
START, OVERHEAD = 6.0, 2.0
#: Expected seconds of the measurements that end when all clients are ready.
UNTIL_READY = {"idle": 22.0, "edge crash": 12.0}
#: Edges on the cost curve, and persistence workers.
EDGES = (1, 2, 4, 8)
WORKERS = (1, 2, 4)

Start = Callable[[], AbstractAsyncContextManager[tuple[SystemUnderTest, ProcessControl]]]

#: Systems in the order of the table, with their names there.
TITLES = {
    WARREN: "Warren",
    PYTHON: "(a) python-socketio × 2",
    PATCHED: "(a′) the same, patched",
    NODE: "(b) Node × 2, Redis",
    ALONE: "(c) python-socketio × 1",
    ECHO: "bare echo",
}
STARTS: dict[str, Start] = {
    WARREN: warren,
    PYTHON: systems.python_cluster,
    PATCHED: partial(systems.python_cluster, patched=True),
    NODE: systems.node_cluster,
    ALONE: systems.python_alone,
    ECHO: systems.echo,
}
#: One edge, to which others are added.
SINGLE: dict[str, Start] = {WARREN: partial(warren, 1), PYTHON: partial(systems.python_cluster, 1)}


@dataclass(frozen=True)
class Measurement:
    """One measurement: its name in the results, its expected seconds, and what it runs before and while measuring."""

    name: str
    seconds: float
    measure: Callable[[RunningSystem], Awaitable[Metrics]]
    prepare: Callable[[RunningSystem], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Job:
    """One start of a system, and what is measured on it."""

    part: str
    system: str
    start: Start
    measurements: Sequence[Measurement]

    @property
    def seconds(self) -> float:
        """Expected seconds."""
        return START + sum(measurement.seconds for measurement in self.measurements)


def _measurement(name: str, length: str, measure: Callable[[RunningSystem], Awaitable[Metrics]]) -> Measurement:
    return Measurement(name, SECONDS["warm-up"] + SECONDS[length] + OVERHEAD, measure)


_THROUGHPUT = (
    _measurement("100 in flight", "100 in flight", partial(measurements.throughput, in_flight=100)),
    _measurement("400 in flight", "400 in flight", partial(measurements.throughput, in_flight=400)),
)
#: Comes last: a system that cannot sustain the rate has a backlog afterwards.
_FIXED_RATE = (_measurement("200/s", "200/s", partial(measurements.latency, name="200/s", rate=200.0)),)
MAIN = (
    *_THROUGHPUT,
    _measurement("50 %", "50 %", partial(measurements.share, percent=50)),
    _measurement("80 %", "80 %", partial(measurements.share, percent=80)),
    _measurement("group", "group", measurements.group),
    _measurement("reads", "reads", measurements.reads),
    *_FIXED_RATE,
)
#: For systems that are there for comparison only.
SHORT = (*_THROUGHPUT, *_FIXED_RATE)


async def _add_edges(running: RunningSystem, edges: int) -> None:
    while len(running.processes.edges) < edges:
        await running.processes.add_edge()
    running.system = replace(running.system, edge_urls=tuple(edge.url for edge in running.processes.edges))


async def _add_workers(running: RunningSystem, workers: int) -> None:
    stack = cast("Stack", running.processes)
    while len(stack.workers["persistence"]) < workers:
        await stack.add_worker("persistence")


def _curve(rates: dict[str, float]) -> Iterator[Measurement]:
    for edges in EDGES:
        for suffix, rate in rates.items():
            name = f"{edges} edge{'s' * (edges > 1)}{suffix}"
            measured = _measurement(name, "curve", partial(measurements.curve, rate=rate))
            yield replace(measured, prepare=partial(_add_edges, edges=edges))


def _workers() -> Iterator[Measurement]:
    for workers in WORKERS:
        measured = _measurement(f"{workers} persistence", "persistence", measurements.with_workers)
        yield replace(measured, prepare=partial(_add_workers, workers=workers))


def _jobs() -> Iterator[Job]:
    """The jobs of the first round, in order."""
    for system in (WARREN, PYTHON, NODE, ALONE):
        yield Job("main", system, STARTS[system], MAIN)
    for system in (PATCHED, ECHO):
        yield Job("main", system, STARTS[system], SHORT)
    common, busy = {"": measurements.CURVE_RATE}, {", busy": measurements.BUSY_CURVE_RATE}
    yield Job("curve", WARREN, SINGLE[WARREN], tuple(_curve({**common, **busy})))
    yield Job("curve", PYTHON, SINGLE[PYTHON], tuple(_curve(common)))
    yield Job("workers", WARREN, STARTS[WARREN], tuple(_workers()))
    for system in (WARREN, PYTHON, NODE, ECHO):
        yield Job("idle", system, STARTS[system], (Measurement("idle", UNTIL_READY["idle"], measurements.idle),))
    for system in (WARREN, PYTHON, NODE, ALONE):
        yield Job(
            "reconnects",
            system,
            STARTS[system],
            (Measurement("edge crash", UNTIL_READY["edge crash"], measurements.edge_crash),),
        )


JOBS = tuple(_jobs())
PARTS = tuple(dict.fromkeys(job.part for job in JOBS))
#: Parts that are measured in the first round only: their figures vary little, and they take long.
ONCE = {"idle", "reconnects"}


def rounds(count: int, parts: Collection[str], systems: Collection[str]) -> list[list[Job]]:
    """The jobs of each round. Every other round is in reverse order, so that no system is always the first."""
    wanted = [job for job in JOBS if job.part in parts and job.system in systems]
    repeated = [job for job in wanted if job.part not in ONCE]
    return [wanted, *(repeated[:: -1 if number % 2 else 1] for number in range(1, count))]
