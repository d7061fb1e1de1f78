"""What is started and measured, in which order: jobs, each one start of a system with measurements on it."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from infra.bench.benchmark import steps
from infra.bench.benchmark.goals import ALONE, ECHO, NODE, PATCHED, PYTHON, WARREN
from infra.bench.benchmark.steps import SECONDS, Fleet, Metrics, Subject
from infra.bench.load.target import Target
from infra.bench.load.warren import warren
from infra.bench.peers import running
from infra.local.stack import Stack

#: Rounds of everything but what is measured once.
ROUNDS = 3
#: Expected seconds that every start, and every measurement beside its own length, takes; for the progress bar.
START, BESIDE = 6.0, 2.0
#: Expected seconds of what has no length in `SECONDS`.
OPEN_END = {"idle": 22.0, "edge dies": 12.0}
#: Edges on the cost curve, and persistence workers.
EDGES = (1, 2, 4, 8)
WORKERS = (1, 2, 4)

Start = Callable[[], AbstractAsyncContextManager[tuple[Target, Fleet]]]

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
    PYTHON: running.python_cluster,
    PATCHED: partial(running.python_cluster, patched=True),
    NODE: running.node_cluster,
    ALONE: running.python_alone,
    ECHO: running.echo,
}
#: One edge, to which others are added.
SINGLE: dict[str, Start] = {WARREN: partial(warren, 1), PYTHON: partial(running.python_cluster, 1)}


@dataclass(frozen=True)
class Step:
    """One measurement: its name in the results, how long it takes, what it does before and then measures."""

    name: str
    seconds: float
    measure: Callable[[Subject], Awaitable[Metrics]]
    prepare: Callable[[Subject], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Job:
    """One start of a system, and what is measured on it."""

    part: str
    system: str
    start: Start
    steps: Sequence[Step]

    @property
    def seconds(self) -> float:
        """How long it is expected to take."""
        return START + sum(step.seconds for step in self.steps)


def _step(name: str, length: str, measure: Callable[[Subject], Awaitable[Metrics]]) -> Step:
    return Step(name, SECONDS["warm-up"] + SECONDS[length] + BESIDE, measure)


_THROUGHPUT = (
    _step("100 in flight", "100 in flight", partial(steps.throughput, in_flight=100)),
    _step("400 in flight", "400 in flight", partial(steps.throughput, in_flight=400)),
)
#: Last, as not every system can hold it, and what it then leaves behind would burden what follows.
_FIXED_RATE = (_step("200/s", "200/s", partial(steps.latency, name="200/s", rate=200.0)),)
MAIN = (
    *_THROUGHPUT,
    _step("50 %", "50 %", partial(steps.share, percent=50)),
    _step("80 %", "80 %", partial(steps.share, percent=80)),
    _step("group", "group", steps.group),
    _step("reads", "reads", steps.reads),
    *_FIXED_RATE,
)
#: For systems that only put the others into proportion.
SHORT = (*_THROUGHPUT, *_FIXED_RATE)


async def _grow(subject: Subject, edges: int) -> None:
    while len(subject.fleet.edges) < edges:
        await subject.fleet.add_edge()
    subject.target = replace(subject.target, edge_urls=tuple(edge.url for edge in subject.fleet.edges))


async def _hire(subject: Subject, workers: int) -> None:
    stack = cast("Stack", subject.fleet)
    while len(stack.workers["persistence"]) < workers:
        await stack.add_worker("persistence")


def _curve(rates: dict[str, float]) -> Iterator[Step]:
    for edges in EDGES:
        for suffix, rate in rates.items():
            name = f"{edges} edge{'s' * (edges > 1)}{suffix}"
            measured = _step(name, "curve", partial(steps.curve, rate=rate))
            yield replace(measured, prepare=partial(_grow, edges=edges))


def _workers() -> Iterator[Step]:
    for workers in WORKERS:
        measured = _step(f"{workers} persistence", "persistence", steps.with_workers)
        yield replace(measured, prepare=partial(_hire, workers=workers))


def _jobs() -> Iterator[Job]:
    """What one round does; `idle` and `storm` are for the first round only."""
    for system in (WARREN, PYTHON, NODE, ALONE):
        yield Job("main", system, STARTS[system], MAIN)
    for system in (PATCHED, ECHO):
        yield Job("main", system, STARTS[system], SHORT)
    common, busy = {"": steps.CURVE_RATE}, {", busy": steps.BUSY_CURVE_RATE}
    yield Job("curve", WARREN, SINGLE[WARREN], tuple(_curve({**common, **busy})))
    yield Job("curve", PYTHON, SINGLE[PYTHON], tuple(_curve(common)))
    yield Job("workers", WARREN, STARTS[WARREN], tuple(_workers()))
    for system in (WARREN, PYTHON, NODE, ECHO):
        yield Job("idle", system, STARTS[system], (Step("idle", OPEN_END["idle"], steps.idle),))
    for system in (WARREN, PYTHON, NODE, ALONE):
        yield Job("storm", system, STARTS[system], (Step("edge dies", OPEN_END["edge dies"], steps.storm),))


JOBS = tuple(_jobs())
PARTS = tuple(dict.fromkeys(job.part for job in JOBS))
#: Measured in the first round only: they differ little from time to time, and take long.
ONCE = {"idle", "storm"}


def rounds(count: int, parts: Collection[str], systems: Collection[str]) -> list[list[Job]]:
    """The jobs of each round. Every other round goes the other way round, so that nobody is always the first."""
    wanted = [job for job in JOBS if job.part in parts and job.system in systems]
    repeated = [job for job in wanted if job.part not in ONCE]
    return [wanted, *(repeated[:: -1 if number % 2 else 1] for number in range(1, count))]
