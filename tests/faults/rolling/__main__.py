"""`python -m tests.faults.rolling` (make rolling): restart a cluster part by part under load, then drain a backlog.

The exit code is 1 when anything was lost, duplicated or wrong.
"""

import os
import signal
from typing import Annotated, Literal

import typer
import uvloop
from rich.console import Console

from infra.local.cluster import Cluster, running_cluster
from infra.local.errors import LocalServiceError
from infra.local.foreground import STOP_SIGNALS
from infra.local.paths import STACK
from tests.faults.fault_report import COMPLAINTS_SHOWN, WIDTH
from tests.faults.rolling import backlog, restarts
from tests.faults.rolling.backlog import Rate
from tests.faults.rolling.deployment import deploy
from tests.faults.rolling.restarts import Result


def main(
    only: Annotated[Literal["restarts", "backlog"] | None, typer.Option(help="Run one of the two parts.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 1,
) -> None:
    """Restart each part of a cluster under load, one by one, then let more and more workers drain a backlog."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    console.print("Starting a cluster; that takes a minute, and the whole run five.")
    try:
        with running_cluster(STACK) as cluster:
            good = uvloop.run(_run(console, cluster, only, seed))
    except (LocalServiceError, TimeoutError, AssertionError) as error:
        console.print(f"The run could not be finished: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    if not good:
        raise typer.Exit(1)


async def _run(console: Console, cluster: Cluster, only: str | None, seed: int) -> bool:
    results: list[Result] = []
    rates: list[Rate] = []
    async with deploy(cluster, seed) as deployment:
        if only != "backlog":
            async for result in restarts.restart_all(deployment):
                results.append(result)
                console.print(restarts.line(result), style="dim", highlight=False)
        if only != "restarts":
            async for rate in backlog.drain(deployment):
                rates.append(rate)
                console.print(backlog.line(rate), style="dim", highlight=False)
    if results:
        console.print(restarts.table(results))
    for result in results:
        for kind, sentence in result.complaints[:COMPLAINTS_SHOWN]:
            console.print(f"  {result.name}: [red]{kind}:[/] {sentence}", highlight=False)
    if rates:
        console.print(backlog.table(rates))
        console.print(f"Warren and its services share {os.cpu_count()} cores.", style="dim")
    return not any(result.complaints for result in results)


if __name__ == "__main__":
    typer.run(main)
