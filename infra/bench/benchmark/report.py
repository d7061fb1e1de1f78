"""The report: medians by system, and the targets; for the terminal and for docs/benchmarks/README.md."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from infra.bench.benchmark.results import Results, Spread
from infra.bench.benchmark.schedule import EDGES, TITLES, WORKERS
from infra.bench.benchmark.targets import TARGETS

#: Marks in docs/benchmarks/README.md, around the figures of the latest whole run.
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"
#: Above this share of one core the generator may be what limits a run.
GENERATOR_BUSY = 0.85
#: A system sustains an open loop's rate if at least this share of it is acked and delivered.
SUSTAINED = 0.95


class Row(NamedTuple):
    """A line of the table: a metric of a measurement, and its number format."""

    title: str
    measurement: str
    metric: str
    form: str = ",.0f"


def _latencies(measurement: str) -> list[Row]:
    names = ("ack p50", "ack p99", "delivery p50", "delivery p99")
    return [
        Row("messages/s", measurement, "rate"),
        *(Row(f"{name}, ms", measurement, name, ",.1f") for name in names),
        Row("CPU s per 1,000", measurement, "cpu", ".2f"),
    ]


KINDS = ("edge", "persistence", "unread", "presence", "history", "rabbitmq", "redis", "mongod")

SECTIONS: dict[str, Sequence[Row]] = {
    "closed loop, 100 in flight": _latencies("100 in flight"),
    "closed loop, 400 in flight": _latencies("400 in flight"),
    "CPU s per 1,000 by process, 400 in flight": [Row(kind, "400 in flight", f"cpu {kind}", ".2f") for kind in KINDS],
    "open loop, 200/s": _latencies("200/s"),
    "open loop, 50 % of own saturation": _latencies("50 %"),
    "open loop, 80 % of own saturation": _latencies("80 %"),
    "a group of 50, 16 in flight": [
        Row("messages/s", "group", "rate"),
        Row("deliveries/s", "group", "deliveries"),
        Row("last delivery p50, ms", "group", "delivery p50", ",.1f"),
        Row("last delivery p99, ms", "group", "delivery p99", ",.1f"),
    ],
    "60 reads/s and 60 messages/s": [
        Row(f"{name}, ms", "reads", name, ",.1f") for name in ("list p50", "list p99", "page p50", "page p99")
    ],
    "4,000 idle connections (once)": [
        Row("KB each", "idle", "kilobytes", ".1f"),
        Row("all ready after, s", "idle", "seconds", ".1f"),
    ],
    "crash of an edge with 2,000 clients (once)": [Row("all ready again after, s", "edge crash", "seconds", ".1f")],
    "CPU s per 1,000 delivered, 60/s": [
        Row(name, name, "cpu", ".2f") for name in (f"{count} edge{'s' * (count > 1)}" for count in EDGES)
    ],
    "CPU s per 1,000 delivered, 400/s": [
        Row(name, name, "cpu", ".2f") for name in (f"{count} edge{'s' * (count > 1)}, busy" for count in EDGES)
    ],
    "messages/s by persistence workers": [Row(f"{count}", f"{count} persistence", "rate") for count in WORKERS],
}


def show(console: Console, results: Results) -> None:
    """Print the medians, the targets, and remarks on figures that need one."""
    systems = measured_systems(results)
    table = Table(title="Medians (lowest to highest)", title_justify="left")
    table.add_column(no_wrap=True)
    for system in systems:
        table.add_column(TITLES[system], justify="right")
    for title, lines in sections(results):
        table.add_section()
        table.add_row(f"[bold]{title}")
        for name, cells in lines:
            table.add_row(name, *cells)
    console.print(table)
    console.print(_targets(results))
    for remark in remarks(results):
        console.print(remark, markup=False)


def measured_systems(results: Results) -> list[str]:
    """The systems that have a column, in order."""
    return [system for system in TITLES if system in results.systems()]


def sections(results: Results) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Each section's title, and its lines: a name, and a cell for each system. Lines without figures are left out."""
    systems = measured_systems(results)
    for title, rows in SECTIONS.items():
        lines = [(row.title, [cell(results, system, row) for system in systems]) for row in rows]
        if filled := [(name, cells) for name, cells in lines if any(cells)]:
            yield title, filled
    over_all = [
        ("generator, highest share of a core", "generator", _share),
        ("other work, highest share of all cores", "others", _share),
        ("lost, duplicated, out of order, gaps", "complaints", _count),
        ("pushes over 5 s late, or lost", "undelivered", _count),
    ]
    yield (
        "all measurements",
        [(name, [form(all_values(results, system, metric)) for system in systems]) for name, metric, form in over_all],
    )


def cell(results: Results, system: str, row: Row) -> str:
    """One median, with its range where there were several rounds, and a star where a rate was not sustained."""
    spread = results.spread(system, row.measurement, row.metric)
    if spread is None:
        return ""
    star = "*" if row.metric == "rate" and not sustains(results, system, row.measurement) else ""
    return f"{spread.median:{row.form}}{star}{_range(spread, row.form)}"


def sustains(results: Results, system: str, measurement: str) -> bool:
    """Whether a system sustained the rate that an open loop offered; true for a closed loop."""
    offered, rate = results.median(system, measurement, "offered"), results.median(system, measurement, "rate")
    return offered is None or rate is None or rate >= SUSTAINED * offered


def all_values(results: Results, system: str, metric: str) -> list[float]:
    """All values of a metric, from all measurements."""
    return [value for name in results.measurements(system) for value in results.values(system, name, metric)]


def _range(spread: Spread, form: str) -> str:
    if spread.lowest == spread.highest:
        return ""
    return f" ({spread.lowest:{form}} to {spread.highest:{form}})"


def _share(values: list[float]) -> str:
    return f"{max(values):.0%}" if values else ""


def _count(values: list[float]) -> str:
    return f"{sum(values):,.0f}" if values else ""


def target_rows(results: Results) -> list[tuple[str, str, str, str]]:
    """Each target: its name, its limit, the measured value, and whether it is met."""
    rows = []
    for target in TARGETS:
        value, met = target.value(results), target.is_met(results)
        limit = f"{'≥' if target.at_least else '≤'} {target.limit:g} {target.unit}".strip()
        measured = "" if value is None else f"{value:,.2f} {target.unit}".strip()
        rows.append((target.name, limit, measured, "not measured" if met is None else "met" if met else "missed"))
    return rows


def _targets(results: Results) -> Table:
    colours = {"met": "green", "missed": "bold red", "not measured": "dim"}
    table = Table(title="Targets: Warren's medians divided by the peers'", title_justify="left")
    for name in ("what", "target", "measured", ""):
        table.add_column(name, justify="right" if name in ("target", "measured") else "left")
    for *cells, verdict in target_rows(results):
        table.add_row(*cells, f"[{colours[verdict]}]{verdict}")
    return table


def remarks(results: Results) -> Iterator[str]:
    """Sentences about single figures: rates that were not sustained, measurements in which the generator was busy."""
    for system in measured_systems(results):
        for name in results.measurements(system):
            offered, rate = results.median(system, name, "offered"), results.median(system, name, "rate")
            if offered is not None and rate is not None and not sustains(results, system, name):
                yield f"* {TITLES[system]} did not sustain {name}: {rate:,.0f} of {offered:,.0f}/s were delivered."
            busy = max(results.values(system, name, "generator"), default=0.0)
            if busy > GENERATOR_BUSY:
                yield f"{TITLES[system]}, {name}: the generator took {busy:.0%} of a core and may be the bottleneck."


# --- In docs/benchmarks/README.md -------------------------------------------------------------------------


def write(results: Results, page: Path) -> None:
    """Put the figures between the marks."""
    page.write_text(with_figures(page.read_text(), results))


def with_figures(text: str, results: Results) -> str:
    """A page's text with these figures instead of those between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    figures = "\n".join(_lines(results))
    return f"{before}{BEGIN}\n{figures}\n\n{END}{after}"


def _lines(results: Results) -> Iterator[str]:
    yield "| Warren's medians divided by the peers' | target | measured | |"
    yield "|---|---:|---:|---|"
    for row in target_rows(results):
        yield f"| {' | '.join(row)} |"
    systems = measured_systems(results)
    yield ""
    yield f"| median (lowest to highest) | {' | '.join(TITLES[system] for system in systems)} |"
    yield f"|---|{'---:|' * len(systems)}"
    for title, lines in sections(results):
        yield f"| **{title}** |{' |' * len(systems)}"
        for name, cells in lines:
            yield f"| {name} | {' | '.join(cells)} |"
    if sentences := list(remarks(results)):
        yield ""
        yield from (f"- {remark.removeprefix('* ')}" for remark in sentences)
