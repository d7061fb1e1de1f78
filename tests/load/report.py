"""Figures as tables for people."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from tests.load.figures import ConnectionFigures, Figures, Quantiles, TrafficFigures
from tests.load.usage import GENERATOR, Usage

#: Above this share of one core the generator may be what limits the run.
GENERATOR_BUSY = 0.85


def show(console: Console, figures: Sequence[Figures]) -> None:
    """Print all figures: rates and latencies, CPU by process, connections, and the checker's word."""
    traffic = [each for each in figures if isinstance(each, TrafficFigures)]
    idle = [each for each in figures if isinstance(each, ConnectionFigures)]
    if traffic:
        console.print(_speed(traffic), _cpu(traffic), _verdicts(traffic))
        for each in traffic:
            if each.errors or each.reconnects:
                counts = ", ".join(f"{count} × {code}" for code, count in each.errors.most_common())
                console.print(f"{each.title}: {each.reconnects} reconnects; answers that made clients retry: {counts}")
    if idle:
        console.print(_connections(idle))
    for run in figures:
        if run.usage.generator_share > GENERATOR_BUSY:
            share = run.usage.generator_share
            console.print(f"[red]{run.title}: the generator took {share:.0%} of a core and may be the bottleneck.")


def _speed(figures: Sequence[TrafficFigures]) -> Table:
    table = Table("run", title="Stored, acked and delivered", title_justify="left")
    for heading in ("messages/s", "delivery ms p50 / p90 / p99", "ack ms p50 / p90 / p99", "generator", "machine"):
        table.add_column(heading, justify="right")
    for each in figures:
        table.add_row(each.title, f"{each.rate:,.0f}", _times(each.delivery), _times(each.ack), *_shares(each.usage))
    return table


def _cpu(figures: Sequence[TrafficFigures]) -> Table:
    table = Table("process", title="CPU seconds per 1,000 messages", title_justify="left")
    for each in figures:
        table.add_column(each.title, justify="right")
    names = list(dict.fromkeys(name for each in figures for name in each.cpu_per_thousand))
    for name in names:
        spent = [each.cpu_per_thousand.get(name) for each in figures]
        table.add_row(name, *("replaced" if value is None else f"{value:.3f}" for value in spent))
    table.add_section()
    totals = [sum(value for name, value in each.cpu_per_thousand.items() if name != GENERATOR) for each in figures]
    table.add_row("all but generator", *(f"{total:.3f}" for total in totals))
    return table


def _verdicts(figures: Sequence[TrafficFigures]) -> Table:
    table = Table("whole run", title="Checker", title_justify="left")
    for each in figures:
        table.add_column(each.title, justify="right")
    for name in ("sent", "acked", "stored", "delivered", "retried", "refused"):
        table.add_row(name, *(f"{getattr(each.verdict, name):,}" for each in figures))
    table.add_section()
    for name in asdict(figures[0].verdict.faults):
        counts = [getattr(each.verdict.faults, name) for each in figures]
        table.add_row(name, *(f"[red]{count:,}" if count else "[green]0" for count in counts))
    return table


def _connections(figures: Sequence[ConnectionFigures]) -> Table:
    table = Table("run", title="Idle connections on one edge", title_justify="left")
    for heading in ("up after s", "connections/s", "KB each", "dropped", "generator", "machine"):
        table.add_column(heading, justify="right")
    for each in figures:
        table.add_row(
            each.title,
            f"{each.seconds:.1f}",
            f"{each.connections / each.seconds:,.0f}",
            f"{each.kilobytes_each:.1f}",
            f"[red]{each.dropped:,}" if each.dropped else "0",
            *_shares(each.usage),
        )
    return table


def _times(times: Quantiles) -> str:
    return f"{times.p50:.1f} / {times.p90:.1f} / {times.p99:.1f}"


def _shares(usage: Usage) -> tuple[str, str]:
    """The generator's share of one core, and how busy all cores were."""
    return f"{usage.generator_share:.0%} of a core", f"{usage.machine:.0%} busy"
