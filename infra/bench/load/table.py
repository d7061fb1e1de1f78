"""The table of a load run: a column for each scenario."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from infra.bench.checker import LOAD_KINDS
from infra.bench.load.figures import ConnectionFigures, Figures, TrafficFigures
from infra.bench.load.usage import GENERATOR

#: Above this share of one core the generator may be what limits the run.
GENERATOR_BUSY = 0.85
#: Complaints that are printed of one scenario.
COMPLAINTS_SHOWN = 12


def show(console: Console, figures: Sequence[Figures]) -> None:
    """Print all figures: rates and latencies, CPU by process, connections, and the checker's verdict."""
    if not figures:
        return
    table = Table(title="Warren under load", title_justify="left")
    table.add_column(no_wrap=True)
    for each in figures:
        table.add_column(each.title, justify="right")
    rows = _Rows(table, figures)
    if any(isinstance(each, TrafficFigures) for each in figures):
        _speed(rows)
        if any(set(each.cpu_per_thousand) - {GENERATOR} for each in rows.traffic):
            _cpu(rows)
        _checked(rows)
    if any(isinstance(each, ConnectionFigures) for each in figures):
        _connections(rows)
    rows.heading("machine")
    rows.add("generator, of a core", lambda each: f"{each.usage.generator_share:.0%}")
    rows.add("all cores busy", lambda each: f"{each.usage.machine:.0%}")
    rows.add("by other processes", lambda each: f"{each.usage.others:.0%}")
    console.print(table)
    _remarks(console, figures)


class _Rows:
    """Fills a table row by row; a run that a row does not concern gets an empty cell."""

    def __init__(self, table: Table, figures: Sequence[Figures]) -> None:
        self._table = table
        self._figures = figures
        self.traffic = [each for each in figures if isinstance(each, TrafficFigures)]

    def heading(self, text: str) -> None:
        self._table.add_section()
        self._table.add_row(f"[bold]{text}")

    def add(self, name: str, cell: Callable[[Figures], str]) -> None:
        self._table.add_row(name, *map(cell, self._figures))

    def of_traffic(self, name: str, cell: Callable[[TrafficFigures], str]) -> None:
        self.add(name, lambda each: cell(each) if isinstance(each, TrafficFigures) else "")

    def of_connections(self, name: str, cell: Callable[[ConnectionFigures], str]) -> None:
        self.add(name, lambda each: cell(each) if isinstance(each, ConnectionFigures) else "")


def _speed(rows: _Rows) -> None:
    rows.heading("acked and delivered")
    rows.of_traffic("messages/s", lambda each: f"[bold]{each.rate:,.0f}")
    rows.of_traffic("delivery p50, ms", lambda each: f"{each.delivery.p50:.1f}")
    rows.of_traffic("delivery p90", lambda each: f"{each.delivery.p90:.1f}")
    rows.of_traffic("delivery p99", lambda each: f"{each.delivery.p99:.1f}")
    rows.of_traffic("ack p50, ms", lambda each: f"{each.ack.p50:.1f}")
    rows.of_traffic("ack p90", lambda each: f"{each.ack.p90:.1f}")
    rows.of_traffic("ack p99", lambda each: f"{each.ack.p99:.1f}")


def _cpu(rows: _Rows) -> None:
    rows.heading("CPU s per 1,000")
    for name in dict.fromkeys(name for each in rows.traffic for name in each.cpu_per_thousand):
        rows.of_traffic(name, lambda each, name=name: _seconds(each.cpu_per_thousand.get(name)))  # type: ignore[misc]
    rows.of_traffic("all but generator", lambda each: _seconds(_system(each)))


def _checked(rows: _Rows) -> None:
    rows.heading("check of the whole run")
    for name in ("sent", "acked", "stored", "delivered", "retried"):
        rows.of_traffic(name, lambda each, name=name: f"{getattr(each.verdict, name):,}")  # type: ignore[misc]
    for kind in LOAD_KINDS:
        rows.of_traffic(kind, lambda each, kind=kind: _fault(each.complaints(kind)))  # type: ignore[misc]


def _connections(rows: _Rows) -> None:
    rows.heading("idle, on one edge")
    rows.of_connections("all ready after, s", lambda each: f"{each.seconds:.1f}")
    rows.of_connections("RSS each, KB", lambda each: f"{each.kilobytes_each:.1f}")
    rows.of_connections("dropped", lambda each: _fault(each.dropped))


def _system(figures: TrafficFigures) -> float:
    return sum(seconds for name, seconds in figures.cpu_per_thousand.items() if name != GENERATOR)


def _seconds(value: float | None) -> str:
    return "replaced" if value is None else f"{value:.3f}"


def _fault(count: int | None) -> str:
    if count is None:
        return "not judged"
    return f"[bold red]{count:,}" if count else "[green]0"


def _remarks(console: Console, figures: Sequence[Figures]) -> None:
    for each in figures:
        if isinstance(each, TrafficFigures):
            if not each.expects_pushes:
                console.print(f"{each.title}: pushes were not judged, as a part or a connection was down.")
            if each.errors or each.reconnects:
                counts = ", ".join(f"{count} × {code}" for code, count in each.errors.most_common())
                console.print(f"{each.title}: {each.reconnects} reconnects; tries that failed: {counts or 'none'}.")
            for kind, sentence in each.verdict.complaints[:COMPLAINTS_SHOWN]:
                console.print(f"[red]{each.title}: {kind}:[/] {sentence}", highlight=False)
        if each.usage.generator_share > GENERATOR_BUSY:
            share = each.usage.generator_share
            console.print(f"[red]{each.title}: the generator took {share:.0%} of a core and may be the bottleneck.")
