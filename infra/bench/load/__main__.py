"""`python -m infra.bench.load`: start a Warren of its own, put load on it, check what it stored, print the figures.

Without a command it runs throughput at 100 and 400 in flight, latency at 200/s and 4,000 connections. The exit code
is 1 when the checker found a fault.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, cast

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from infra.bench.load import scenarios, table
from infra.bench.load.client import CallFailed
from infra.bench.load.figures import ConnectionFigures, Figures
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.warren import warren
from infra.local.errors import LocalServiceError
from infra.local.stack import WORKER_KINDS, Stack, WorkerKind
from infra.local.tenant import local_services

#: Seconds into the measured stretch at which a worker is killed, and until it is started again.
KILL_AFTER, RESTART_AFTER = 5.0, 5.0
#: An edge's reply limit in `kill`, shorter than the outage: clients see time-outs and have to send again.
KILL_SETTINGS = {"WARREN_REPLY_TIMEOUT": "2"}

Run = Callable[[SystemUnderTest, Stack, scenarios.Progress], Awaitable[Figures]]

app = typer.Typer(help=__doc__, invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False)

Pairs = Annotated[int, typer.Option(help="Pairs of users; each user has one socket, the two on different edges.")]
Seconds = Annotated[float, typer.Option(help="Length of the measured stretch, after 3 s of warm-up.")]
SeenEvery = Annotated[int, typer.Option(help="Recipients send message_seen for every N-th message; 0 = never.")]
Edges = Annotated[int, typer.Option(help="Edges to start.")]
Persistence = Annotated[int, typer.Option(help="Persistence workers to start.")]


@app.callback()
def everything(context: typer.Context) -> None:
    """Run what `make load` runs, unless a command is given."""
    if context.invoked_subcommand is None:
        _execute(
            {
                "throughput, 100 in flight": _throughput(in_flight=100),
                "throughput, 400 in flight": _throughput(in_flight=400),
                "latency at 200/s": _latency(),
                "4,000 connections": _connections(4000),
            }
        )


@app.command()
def throughput(
    in_flight: Annotated[list[int], typer.Option(help="Messages in flight in all; may be given several times.")] = [  # noqa: B006
        100,
        400,
    ],
    pairs: Pairs = 100,
    seconds: Seconds = 15.0,
    seen_every: SeenEvery = 0,
    edges: Edges = 2,
    persistence: Persistence = 1,
) -> None:
    """Closed loop: always the same number of messages in flight."""
    runs = {f"throughput, {count} in flight": _throughput(count, pairs, seconds, seen_every) for count in in_flight}
    _execute(runs, edges=edges, persistence=persistence)


@app.command()
def latency(
    rate: Annotated[float, typer.Option(help="Messages a second in all.")] = 200.0,
    pairs: Pairs = 100,
    seconds: Seconds = 15.0,
    seen_every: SeenEvery = 0,
    edges: Edges = 2,
) -> None:
    """Open loop: a fixed rate, whatever the answers do."""
    _execute({f"latency at {rate:.0f}/s": _latency(rate, pairs, seconds, seen_every)}, edges=edges)


@app.command()
def connections(count: Annotated[int, typer.Option(help="Connections, each of its own user.")] = 4000) -> None:
    """Many idle connections on one edge: time until all are ready, and memory for each."""
    _execute({f"{count:,} connections": _connections(count)})


@app.command()
def kill(
    worker: Annotated[list[str] | None, typer.Option(help="Kind to kill; all four in turn when left out.")] = None,
    in_flight: Annotated[int, typer.Option(help="Messages in flight in all.")] = 100,
    pairs: Pairs = 100,
    seconds: Seconds = 20.0,
) -> None:
    """Closed loop with retries, while a worker gets SIGKILL after 5 s and is started again 5 s later."""
    kinds = worker or list(WORKER_KINDS)
    if unknown := set(kinds) - set(WORKER_KINDS):
        raise typer.BadParameter(f"no such worker: {', '.join(unknown)}; there are {', '.join(WORKER_KINDS)}")
    runs = {f"kill -9 {kind}": _kill(cast("WorkerKind", kind), in_flight, pairs, seconds) for kind in kinds}
    _execute(runs, env=KILL_SETTINGS)


def _throughput(in_flight: int, pairs: int = 100, seconds: float = 15.0, seen_every: int = 0) -> Run:
    return lambda system, _, progress: scenarios.throughput(
        system, progress, pairs=pairs, in_flight=in_flight, seconds=seconds, seen_every=seen_every
    )


def _latency(rate: float = 200.0, pairs: int = 100, seconds: float = 15.0, seen_every: int = 0) -> Run:
    return lambda system, _, progress: scenarios.latency(
        system, progress, pairs=pairs, rate=rate, seconds=seconds, seen_every=seen_every
    )


def _connections(count: int) -> Run:
    return lambda system, _, progress: scenarios.connections(system, progress, count=count)


def _kill(kind: WorkerKind, in_flight: int, pairs: int, seconds: float) -> Run:
    async def run(system: SystemUnderTest, stack: Stack, progress: scenarios.Progress) -> Figures:
        async def kill_and_restart() -> None:
            await asyncio.sleep(KILL_AFTER)
            victim = stack.workers[kind][0]
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


def _execute(
    runs: dict[str, Run], *, edges: int = 2, persistence: int = 1, env: Mapping[str, str] | None = None
) -> None:
    """Run each on a Warren of its own, print what came out, and exit with 1 when anything was wrong."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    console = Console()
    try:
        figures = uvloop.run(_run_all(console, runs, lambda: warren(edges, persistence, env)))
    except (LocalServiceError, CallFailed, OSError, TimeoutError) as error:
        console.print(f"The run could not be finished: {type(error).__name__}: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    table.show(console, figures)
    if not all(map(_is_healthy, figures)):
        raise typer.Exit(1)


async def _run_all(
    console: Console,
    runs: dict[str, Run],
    fresh: Callable[[], AbstractAsyncContextManager[tuple[SystemUnderTest, Stack]]],
) -> list[Figures]:
    figures = []
    bar = Progress(TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn(), console=console)
    async with local_services():
        with bar:
            for title, run in runs.items():
                task = bar.add_task(f"{title}: starting", total=1.0)
                async with fresh() as (system, stack):
                    bar.update(task, description=title)
                    figures.append(await run(system, stack, partial(_advance, bar, task)))
                bar.update(task, completed=1.0)
    return figures


def _advance(bar: Progress, task: TaskID, share: float) -> None:
    bar.update(task, completed=share)


def _is_healthy(figures: Figures) -> bool:
    if isinstance(figures, ConnectionFigures):
        return figures.dropped == 0
    return not figures.verdict.complaints


if __name__ == "__main__":
    app()
