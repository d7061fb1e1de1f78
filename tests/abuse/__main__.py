"""`python -m tests.abuse` (make abuse): attack a running Warren in every way, with bystanders who must not notice.

The exit code is 1 when a bystander was slowed down, when an attacker was neither answered nor closed in time, or when
anything was left behind.
"""

import os
import platform
import resource
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from infra.local.errors import LocalServiceError
from infra.local.stack import Stack
from infra.local.tenant import temporary_tenant
from tests.abuse import abuse_report
from tests.abuse.abuse_run import NO_DRAINING, WHOLE, Outcome, add_people, run_attack
from tests.abuse.attacks import ATTACKS


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Attacks to run; all of them if none is named.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the attacks and exit.")] = False,
    write: Annotated[bool, typer.Option(help="Write the table into docs/security.md.")] = False,
) -> None:
    """Attack a running Warren in every way, and measure what bystanders notice."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=abuse_report.WIDTH)
    if list_them:
        _list(console)
        return
    if unknown := set(names or ()) - set(ATTACKS):
        raise typer.BadParameter(f"no such attack: {', '.join(sorted(unknown))}; see --list")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        outcomes = uvloop.run(_run_all(console, list(names or ATTACKS)))
    except LocalServiceError as error:
        console.print(f"The attacks could not be run: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    abuse_report.show(console, outcomes)
    if write:
        abuse_report.write(
            outcomes, " ".join(["python -m tests.abuse --write", *(f"'{name}'" for name in names or ())]), _machine()
        )
    if any(outcome.complaints for outcome in outcomes):
        raise typer.Exit(1)


async def _run_all(console: Console, names: list[str]) -> list[Outcome]:
    outcomes = []
    async with temporary_tenant("abuse") as run, Stack(run, env=NO_DRAINING, name="abuse") as stack:
        await add_people(stack, WHOLE)
        for name in names:
            # Memory that an earlier attack has left to its allocator would hide how much this one takes.
            await stack.restart(stack.edges[0])
            outcomes.append(await run_attack(stack, name, ATTACKS[name], WHOLE))
            cells = abuse_report.cells_of(outcomes[-1])
            console.print(f"{name}: {'; '.join(cells[2:])}", highlight=False)
    return outcomes


def _list(console: Console) -> None:
    table = Table("attack", "what is sent")
    for name, attack in ATTACKS.items():
        table.add_row(name, attack.sends)
    console.print(table)


def _machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), attacker included"


if __name__ == "__main__":
    typer.run(main)
