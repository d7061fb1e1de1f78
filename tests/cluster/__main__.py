"""`python -m tests.cluster` (make rolling): a cluster, restarted piece by piece under load, and then drained.

The exit code is 1 when anything was lost, doubled, or wrong.
"""

import os
import signal
from typing import Annotated, Literal

import typer
import uvloop
from rich.console import Console

from infra.local.cluster import Cluster, running_cluster
from infra.local.errors import LocalServiceError
from infra.local.run import STOP_SIGNALS
from infra.local.services import STACK
from tests.cluster import drain, rolling
from tests.cluster.drain import Rate
from tests.cluster.ground import warren_on
from tests.cluster.rolling import Result
from tests.faults import report


def main(
    only: Annotated[Literal["rolling", "drain"] | None, typer.Option(help="One of the two parts.")] = None,
    seed: Annotated[int, typer.Option(help="What is random follows from this number.")] = 1,
) -> None:
    """Restart everything one by one under load, then let more and more workers drain a backlog."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=report.WIDTH)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    console.print("Starting a cluster; this takes a minute, and the whole of it ten.")
    try:
        with running_cluster(STACK) as cluster:
            good = uvloop.run(_run(console, cluster, only, seed))
    except (LocalServiceError, TimeoutError, AssertionError) as error:
        console.print(f"It could not be finished: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    if not good:
        raise typer.Exit(1)


async def _run(console: Console, cluster: Cluster, only: str | None, seed: int) -> bool:
    results: list[Result] = []
    rates: list[Rate] = []
    async with warren_on(cluster, seed) as whole:
        if only != "drain":
            async for result in rolling.roll(whole):
                results.append(result)
                console.print(rolling.line(result), style="dim", highlight=False)
        if only != "rolling":
            async for rate in drain.drain(whole):
                rates.append(rate)
                console.print(drain.line(rate), style="dim", highlight=False)
    if results:
        console.print(rolling.table(results))
    for result in results:
        for kind, sentence in result.complaints[: report.SHOWN]:
            console.print(f"  {result.name}: [red]{kind}:[/] {sentence}", highlight=False)
    if rates:
        console.print(drain.table(rates))
        console.print(f"All of it shares {os.cpu_count()} cores, services included.", style="dim")
    return not any(result.complaints for result in results)


if __name__ == "__main__":
    typer.run(main)
