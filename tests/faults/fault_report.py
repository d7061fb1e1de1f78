"""The table of outcomes: for a terminal, and for docs/reliability.md."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.bench.checker import KINDS, UNDELIVERED
from tests.faults.fault_run import Outcome

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
#: Complaints that are printed of one run.
COMPLAINTS_SHOWN = 12

#: Kinds of complaint that have a column. Clients are judged by what they show, not by each push that they got.
COMPLAINT_COLUMNS = tuple(kind for kind in KINDS if kind != UNDELIVERED)
HEADINGS = (
    "fault",
    "sent",
    "acked",
    "retried",
    "stored",
    *COMPLAINT_COLUMNS,
    "longest wait",
    "recovered after",
    "symptoms",
)
#: Characters of a line where there is no terminal to ask.
WIDTH = 170


def show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the table, the notes of each run, and the complaints."""
    table = Table(title="Warren under every fault", title_justify="left")
    for heading in HEADINGS:
        name = heading == "fault"
        table.add_column(heading, justify="left" if name else "right", no_wrap=name)
    for outcome in outcomes:
        first, *cells = _cells(outcome)
        counted = [f"[bold red]{cell}" if cell != "0" else "[green]0" for cell in cells[4:-3]]
        table.add_row(first, *cells[:4], *counted, *cells[-3:])
    console.print(table)
    for outcome in outcomes:
        console.print(f"{outcome.fault.name}: {'; '.join(outcome.notes)}.", style="dim", highlight=False)
        for kind, sentence in outcome.verdict.complaints[:COMPLAINTS_SHOWN]:
            console.print(f"  [red]{kind}:[/] {sentence}", highlight=False)
        if outcome.missing_symptoms:
            console.print(f"  [red]Missing symptoms:[/] {'; '.join(outcome.missing_symptoms)}", highlight=False)
        if outcome.recovered_after is None:
            console.print("  [red]Service did not recover in time.")


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


def symptoms(outcome: Outcome) -> str:
    """Whether metrics and logs named the fault."""
    return "missing" if outcome.missing_symptoms else "seen"


def _cells(outcome: Outcome) -> list[str]:
    verdict = outcome.verdict
    numbers = (verdict.sent, verdict.acked, verdict.retried, verdict.stored)
    recovered = "never" if outcome.recovered_after is None else f"{outcome.recovered_after:.1f} s"
    return [
        outcome.fault.name,
        *(f"{number:,}" for number in numbers),
        *(f"{verdict.count(kind):,}" for kind in COMPLAINT_COLUMNS),
        f"{outcome.longest_wait:.1f} s",
        recovered,
        symptoms(outcome),
    ]
