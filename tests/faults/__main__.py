"""`python -m tests.faults`: break every part of Warren under load, one after the other, and check what was left.

Each fault gets a fresh Warren on services of its own. The exit code is 1 when anything was lost, wrong, or not whole
again in time.
"""

import os
import platform
import resource
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.local.errors import LocalServiceError
from tests.faults import ground, report
from tests.faults.faults import FAULTS, Fault
from tests.faults.ground import Ground
from tests.faults.run import Outcome, Say, run_fault


def main(
    only: Annotated[list[str] | None, typer.Option(help="A fault's name; may be given several times.")] = None,
    seconds: Annotated[float, typer.Option(help="Least seconds of load for each fault.", min=1)] = 60.0,
    seed: Annotated[int, typer.Option(help="What is random follows from this number.")] = 1,
    list_them: Annotated[bool, typer.Option("--list", help="Name the faults and end.")] = False,
    write: Annotated[bool, typer.Option(help="Put the table into docs/reliability.md.")] = False,
) -> None:
    """Break every part of Warren under load, one after the other, and check what was left."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=report.WIDTH)
    if list_them:
        _list(console)
        return
    if unknown := set(only or ()) - set(FAULTS):
        raise typer.BadParameter(f"no such fault: {', '.join(sorted(unknown))}; see --list")
    faults = [FAULTS[name] for name in only or FAULTS]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        outcomes = uvloop.run(_run_all(console, faults, seconds, seed))
    except LocalServiceError as error:
        console.print(f"The faults could not be run: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    report.show(console, outcomes)
    if write:
        options = "".join(f" --only {name}" for name in only or ()) + f" --seconds {seconds:g} --seed {seed}"
        report.write(outcomes, f"python -m tests.faults{options} --write", _machine())
    if len(outcomes) < len(faults) or not all(outcome.good for outcome in outcomes):
        raise typer.Exit(1)


async def _run_all(console: Console, faults: list[Fault], seconds: float, seed: int) -> list[Outcome]:
    outcomes = []
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    async with AsyncExitStack() as kept:
        where = await kept.enter_async_context(ground.directory())
        common: Ground | None = None
        with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
            task = bar.add_task("services: starting", total=len(faults))
            for fault in faults:

                def say(what: str, fault: Fault = fault) -> None:
                    bar.update(task, description=f"{fault.name}: {what}")

                if fault.ground == "single" and common is None:
                    common = await kept.enter_async_context(ground.single(where))
                try:
                    outcomes.append(await _run_on_ground(fault, common, where, seconds, seed, say))
                    console.print(_line(outcomes[-1]), highlight=False)
                except Exception as error:  # whatever it was, the others still run
                    sentence = f"{fault.name} could not be finished: {type(error).__name__}: {error}"
                    console.print(sentence, style="red", markup=False)
                bar.advance(task)
    return outcomes


async def _run_on_ground(
    fault: Fault, common: Ground | None, where: Path, seconds: float, seed: int, say: Say
) -> Outcome:
    match fault.ground:
        case "cluster":
            say("starting a cluster")
            async with ground.cluster(where / fault.name) as own:
                return await run_fault(fault, own, seconds=seconds, seed=seed, say=say)
        case "replica set":
            say("starting a replica set")
            async with ground.replica_set(where / fault.name) as own:
                return await run_fault(fault, own, seconds=seconds, seed=seed, say=say)
        case "single":
            assert common is not None
            return await run_fault(fault, common, seconds=seconds, seed=seed, say=say)


def _line(outcome: Outcome) -> str:
    wrong = len(outcome.verdict.complaints)
    whole = "never whole again" if outcome.whole_after is None else f"whole after {outcome.whole_after:.1f} s"
    word = "[green]good[/]" if outcome.good else f"[red]{wrong} complaints[/]"
    return f"{outcome.fault.name}: {word}, {outcome.verdict.sent:,} sent, {whole}, shown: {report.shown(outcome)}"


def _list(console: Console) -> None:
    table = Table("name", "what is done", "on")
    for fault in FAULTS.values():
        table.add_row(fault.name, fault.what, fault.ground)
    console.print(table)


def _machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), load generator included"


if __name__ == "__main__":
    typer.run(main)
