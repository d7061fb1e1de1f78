"""`python -m tests.faults` (make faults): break each part of Warren under load, one after the other, and judge it.

Each fault gets a fresh Warren, and services of its own where one node of each is not enough. The exit code is 1 when a
message was lost or anything was wrong, or when service did not recover in time.
"""

import os
import platform
import resource
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from infra.local.errors import LocalServiceError
from tests.faults import environment, fault_report
from tests.faults.context import Fault
from tests.faults.environment import Environment
from tests.faults.fault_run import Outcome, Pace, Progress, fresh_warren, run_fault
from tests.faults.registry import FAULTS


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Faults to run; all of them if none is named.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of load for each fault, at least.", min=1)] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 1,
    list_them: Annotated[bool, typer.Option("--list", help="List the faults and exit.")] = False,
    write: Annotated[bool, typer.Option(help="Write the table into docs/reliability.md.")] = False,
) -> None:
    """Break each part of Warren under load, one after the other, and compare what clients, store and server say."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=fault_report.WIDTH)
    if list_them:
        _list(console)
        return
    if unknown := set(names or ()) - set(FAULTS):
        raise typer.BadParameter(f"no such fault: {', '.join(sorted(unknown))}; see --list")
    faults = [FAULTS[name] for name in names or FAULTS]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        outcomes = uvloop.run(_run_all(console, faults, seconds, seed))
    except LocalServiceError as error:
        console.print(f"The faults could not be run: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    fault_report.show(console, outcomes)
    if write:
        options = [*(names or ()), f"--seconds {seconds:g}", f"--seed {seed}"]
        fault_report.write(outcomes, f"make faults ARGS='{' '.join(options)}'", _machine())
    if len(outcomes) < len(faults) or not all(outcome.good for outcome in outcomes):
        raise typer.Exit(1)


async def _run_all(console: Console, faults: list[Fault], seconds: float, seed: int) -> list[Outcome]:
    outcomes = []
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with ProgressBar(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("services: starting", total=len(faults))
        async with environment.private_directory() as where, environment.single_nodes(where) as shared:
            for fault in faults:

                def progress(stage: str, fault: Fault = fault) -> None:
                    bar.update(task, description=f"{fault.name}: {stage}")

                try:
                    outcomes.append(await _run_one(fault, shared, where, seconds, seed, progress))
                    console.print(_line(outcomes[-1]), highlight=False)
                except Exception as error:  # The other faults still run.
                    sentence = f"{fault.name} could not be finished: {type(error).__name__}: {error}"
                    console.print(sentence, style="red", markup=False)
                bar.advance(task)
    return outcomes


async def _run_one(
    fault: Fault, shared: Environment, where: Path, seconds: float, seed: int, progress: Progress
) -> Outcome:
    """Run a fault in a fresh Warren, on the shared nodes or on others of its own."""
    progress("starting")
    async with (
        _environment_of(fault, shared, where / fault.name) as used,
        fresh_warren(used, f"fault-{fault.name}", fault.edges, fault.workers) as warren,
    ):
        return await run_fault(fault, warren, pace=Pace(load=seconds), seed=seed, progress=progress)


def _environment_of(fault: Fault, shared: Environment, where: Path) -> AbstractAsyncContextManager[Environment]:
    match fault.environment:
        case "single nodes":
            return nullcontext(shared)
        case "broker cluster":
            return environment.broker_cluster(where, shared)
        case "replica set":
            return environment.replica_set(where, shared)
        case "broker behind proxy":
            return environment.broker_behind_proxy(shared)
        case "member behind proxy":
            return environment.member_behind_proxy(where, shared)


def _line(outcome: Outcome) -> str:
    complaints = len(outcome.verdict.complaints)
    word = "[green]good[/]" if outcome.good else f"[red]{complaints} complaints[/]"
    after = outcome.recovered_after
    recovered = "never recovered" if after is None else f"recovered after {after:.1f} s"
    symptoms = fault_report.symptoms(outcome)
    return f"{outcome.fault.name}: {word}, {outcome.verdict.sent:,} sent, {recovered}, symptoms {symptoms}"


def _list(console: Console) -> None:
    table = Table("name", "fault", "environment")
    for fault in FAULTS.values():
        table.add_row(fault.name, fault.description, fault.environment)
    console.print(table)


def _machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), load generator included"


if __name__ == "__main__":
    typer.run(main)
