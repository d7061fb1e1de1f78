"""The table: for people at a terminal, and for docs/reliability.md."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.bench.checker import KINDS, UNDELIVERED
from tests.faults.run import Outcome

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
#: Complaints that are shown of one run.
SHOWN = 12

#: Kinds of complaint that have a column: clients are judged by what they show, not by the pushes that they got.
COLUMNS = tuple(kind for kind in KINDS if kind != UNDELIVERED)
HEADINGS = ("fault", "sent", "acked", "retried", "stored", *COLUMNS, "longest wait", "whole after", "shown")
#: Characters of a line where there is no terminal to ask.
WIDTH = 150


def show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the table, what each run has to say, and what was wrong."""
    table = Table(title="Warren through every fault", title_justify="left")
    for heading in HEADINGS:
        name = heading == "fault"
        table.add_column(heading, justify="left" if name else "right", no_wrap=name)
    for outcome in outcomes:
        first, *cells = _cells(outcome)
        counted = [f"[bold red]{cell}" if cell != "0" else "[green]0" for cell in cells[4:-3]]
        table.add_row(first, *cells[:4], *counted, *cells[-3:])
    console.print(table)
    for outcome in outcomes:
        console.print(f"{outcome.fault.name}: {'; '.join(outcome.remarks)}.", style="dim", highlight=False)
        for kind, sentence in outcome.verdict.complaints[:SHOWN]:
            console.print(f"  [red]{kind}:[/] {sentence}", highlight=False)
        if outcome.not_shown:
            console.print(f"  [red]Not shown:[/] {'; '.join(outcome.not_shown)}", highlight=False)
        if outcome.whole_after is None:
            console.print("  [red]Service was not whole again in time.")


def write(outcomes: Sequence[Outcome], command: str, machine: str) -> None:
    """Put the table into docs/reliability.md, with the command that made it."""
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|---|" + "---:|" * (len(HEADINGS) - 1),
        *("| " + " | ".join(_cells(outcome)) + " |" for outcome in outcomes),
    ]
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    made = f"Made by `{command}` on {machine}."
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", "", made, "", *lines, "", f"{END}{after}"]))


def shown(outcome: Outcome) -> str:
    """Whether metrics and logs told what happened."""
    return "no" if outcome.not_shown else "yes"


def _cells(outcome: Outcome) -> list[str]:
    verdict = outcome.verdict
    numbers = (verdict.sent, verdict.acked, verdict.retried, verdict.stored)
    whole = "never" if outcome.whole_after is None else f"{outcome.whole_after:.1f} s"
    counted = [f"{verdict.count(kind):,}" for kind in COLUMNS]
    return [
        outcome.fault.name,
        *(f"{number:,}" for number in numbers),
        *counted,
        f"{outcome.longest_wait:.1f} s",
        whole,
        shown(outcome),
    ]
