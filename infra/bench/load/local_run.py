"""Puts load on a Warren of this machine that is started for it: a fresh one, on private services, for each scenario."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import cast

from rich.console import Console

from infra.bench.load import scenarios
from infra.bench.load.figures import Figures
from infra.bench.load.progress import advance, progress_bar
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.warren import warren
from infra.local.stack import Stack, WorkerKind
from infra.local.tenant import local_services

#: Seconds into the measured stretch at which a worker is killed, and until it is started again.
KILL_AFTER, RESTART_AFTER = 5.0, 5.0
#: An edge's reply limit in `kill`, shorter than the outage: clients see time-outs and have to send again.
KILL_SETTINGS = {"WARREN_REPLY_TIMEOUT": "2"}

#: One scenario on a running Warren.
Scenario = Callable[[SystemUnderTest, Stack, scenarios.Progress], Awaitable[Figures]]


def throughput(in_flight: int, pairs: int = 100, seconds: float = 15.0, seen_every: int = 0) -> Scenario:
    """Closed loop, see `scenarios.throughput`."""
    return lambda system, _, progress: scenarios.throughput(
        system, progress, pairs=pairs, in_flight=in_flight, seconds=seconds, seen_every=seen_every
    )


def latency(rate: float = 200.0, pairs: int = 100, seconds: float = 15.0, seen_every: int = 0) -> Scenario:
    """Open loop, see `scenarios.latency`."""
    return lambda system, _, progress: scenarios.latency(
        system, progress, pairs=pairs, rate=rate, seconds=seconds, seen_every=seen_every
    )


def connections(count: int) -> Scenario:
    """Idle connections, see `scenarios.connections`."""
    return lambda system, _, progress: scenarios.connections(system, progress, count=count)


def kill(kind: str, in_flight: int, pairs: int, seconds: float) -> Scenario:
    """Closed loop in which the first worker of a kind, is killed and started again."""

    async def run(system: SystemUnderTest, stack: Stack, progress: scenarios.Progress) -> Figures:
        async def kill_and_restart() -> None:
            await asyncio.sleep(KILL_AFTER)
            victim = stack.workers[cast("WorkerKind", kind)][0]
            await stack.kill(victim)
            await asyncio.sleep(RESTART_AFTER)
            await stack.restart(victim)

        return await scenarios.throughput(
            system,
            progress,
            title=f"{kind} killed",
            pairs=pairs,
            in_flight=in_flight,
            seconds=seconds,
            disrupt=kill_and_restart,
        )

    return run


#: What runs when no scenario is named.
ALL: dict[str, Scenario] = {
    "throughput, 100 in flight": throughput(in_flight=100),
    "throughput, 400 in flight": throughput(in_flight=400),
    "latency at 200/s": latency(),
    "4,000 connections": connections(4000),
}


async def run_locally(
    console: Console,
    chosen: Mapping[str, Scenario],
    *,
    edges: int = 2,
    persistence: int = 1,
    env: Mapping[str, str] | None = None,
) -> list[Figures]:
    """Run each scenario, by title, on a fresh Warren with so many edges and persistence workers; show the progress.

    `env` goes to all of its processes. Raises LocalServiceError, ConnectFailed, CallFailed, StoreUnavailable or
    TimeoutError.
    """
    figures = []
    bar = progress_bar(console)
    async with local_services():
        with bar:
            for title, scenario in chosen.items():
                task = bar.add_task(f"{title}: starting", total=1.0)
                async with warren(edges, persistence, env) as (system, stack):
                    bar.update(task, description=title)
                    figures.append(await scenario(system, stack, partial(advance, bar, task)))
                bar.update(task, completed=1.0)
    return figures
