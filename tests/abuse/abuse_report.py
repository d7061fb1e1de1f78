"""The table of attacks: for a terminal, and for docs/security.md."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.abuse.abuse_run import Outcome
from tests.abuse.sizes import MEGABYTE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- abuse: begin -->", "<!-- abuse: end -->"
HEADINGS = (
    "attack",
    "what is sent",
    "attacker's end",
    "ack p99, same edge",
    "ack p99, other edge",
    "longest wait",
    "memory",
    "complaints",
)
#: Characters of a line where there is no terminal to ask.
WIDTH = 190


def show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the table and the complaints."""
    table = Table(title="Bystanders of each attack, calm and under attack", title_justify="left")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < 3 else "right")
    for outcome in outcomes:
        *cells, complaints = cells_of(outcome)
        table.add_row(*cells, f"[bold red]{complaints}" if outcome.complaints else "[green]0")
    console.print(table)
    for outcome in outcomes:
        for complaint in outcome.complaints:
            console.print(f"[red]{outcome.name}:[/] {complaint}", highlight=False)


def write(outcomes: Sequence[Outcome], command: str, machine: str) -> None:
    """Put the table into docs/security.md, with the command that made it."""
    rows = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, *map(cells_of, outcomes))]
    lines = [rows[0], "|---|---|---|" + "---:|" * (len(HEADINGS) - 3), *rows[1:]]
    before, rest = DOCUMENT.read_text().split(BEGIN)
    _, after = rest.split(END)
    made = f"Made by `{command}` on {machine}."
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", "", made, "", *lines, "", f"{END}{after}"]))


def cells_of(outcome: Outcome) -> tuple[str, ...]:
    """One line of the table."""
    calm, attacked = outcome.calm, outcome.attacked
    p99 = [f"{before:.0f} → {under:.0f} ms" for before, under in zip(calm.p99, attacked.p99, strict=True)]
    waits = f"{calm.longest:.0f} → {attacked.longest:.0f} ms ({attacked.longest_kind})"
    return (
        outcome.name,
        outcome.attack.sends,
        _end(outcome),
        *p99,
        waits,
        f"{outcome.memory[0] / MEGABYTE:+.1f} MiB ({outcome.memory[1].partition('-')[0]})",
        str(len(outcome.complaints)),
    )


def _end(outcome: Outcome) -> str:
    end = outcome.end
    hows = ", ".join(f"{count:,} {how}" for how, count in end.hows.items() if count)
    if outcome.attack.allowed:
        return f"{hows} of {end.connections:,} (allowed)"
    return f"{hows} of {end.connections:,}, at the latest after {end.slowest:.1f} s"
