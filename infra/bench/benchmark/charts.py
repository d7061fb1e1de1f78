"""The benchmark's charts, as SVG files in docs/benchmarks."""

from collections.abc import Sequence
from pathlib import Path

from infra.bench.benchmark.report import KINDS
from infra.bench.benchmark.results import Results
from infra.bench.benchmark.schedule import EDGES
from infra.bench.benchmark.targets import ALONE, ECHO, NODE, PATCHED, PYTHON, WARREN
from infra.bench.svg_charts import COMMON, pygal, svg

#: Names short enough for an axis.
LABELS = {
    WARREN: "Warren",
    PYTHON: "python-socketio × 2",
    PATCHED: "the same, patched",
    NODE: "Node × 2, Redis",
    ALONE: "python-socketio × 1",
    ECHO: "bare echo",
}
CHATS = (WARREN, PYTHON, PATCHED, NODE, ALONE)


def draw(results: Results, folder: Path) -> list[Path]:
    """Write every chart for which there are results; return the files."""
    charts = {
        "throughput": throughput(results),
        "latency": latency(results),
        "cpu": cpu(results),
        "edges": edges(results),
    }
    files = []
    for name, chart in charts.items():
        if chart is not None:
            file = folder / f"{name}.svg"
            file.write_text(svg(chart, name))
            files.append(file)
    return files


def throughput(results: Results) -> pygal.Graph | None:
    """Messages a second, stored, acked and delivered."""
    systems = _measured(results, CHATS, "400 in flight")
    chart = _bars("Messages a second, stored, acked and delivered (median of three rounds)", systems)
    for name in ("100 in flight", "400 in flight"):
        chart.add(name, [_rounded(results.median(system, name, "rate"), 0) for system in systems])
    return chart if systems else None


def latency(results: Results) -> pygal.Graph | None:
    """From sending to delivery at 200 messages a second."""
    systems = _measured(results, CHATS, "200/s")
    chart = _bars(
        "Milliseconds from sending to delivery at 200 messages a second (logarithmic)", systems, logarithmic=True
    )
    for name in ("p50", "p99"):
        chart.add(name, [_rounded(results.median(system, "200/s", f"delivery {name}"), 1) for system in systems])
    return chart if systems else None


def cpu(results: Results) -> pygal.Graph | None:
    """CPU time of a message, by process."""
    systems = _measured(results, CHATS, "400 in flight")
    chart = _bars("CPU milliseconds a message at saturation, by process", systems, kind=pygal.HorizontalStackedBar)
    for kind in KINDS:
        spent = [results.median(system, "400 in flight", f"cpu {kind}") for system in systems]
        if any(value is not None and value >= 0.005 for value in spent):
            chart.add(kind, [_rounded(value, 2) for value in spent])
    return chart if systems else None


def edges(results: Results) -> pygal.Graph | None:
    """CPU time of a message, by number of edges."""
    if not _measured(results, (WARREN,), "1 edge"):
        return None
    chart = pygal.Line(
        title="CPU milliseconds a delivered message, by number of edges",
        x_labels=[str(count) for count in EDGES],
        dots_size=4,
        stroke_style={"width": 2.5},
        height=360,
        range=None,
        include_x_axis=True,
        **COMMON,
    )
    for name, system, suffix in (
        ("Warren, 60/s", WARREN, ""),
        ("Warren, 400/s", WARREN, ", busy"),
        ("python-socketio, 60/s", PYTHON, ""),
    ):
        names = [f"{count} edge{'s' * (count > 1)}{suffix}" for count in EDGES]
        chart.add(name, [_rounded(results.median(system, each, "cpu"), 2) for each in names])
    return chart


def _bars(
    title: str, systems: Sequence[str], *, kind: type[pygal.Graph] = pygal.HorizontalBar, logarithmic: bool = False
) -> pygal.Graph:
    """Horizontal bars, a group for each system."""
    return kind(
        title=title,
        x_labels=[LABELS[system] for system in systems],
        print_values=kind is pygal.HorizontalBar,
        print_values_position="top",
        logarithmic=logarithmic,
        height=120 + 62 * len(systems),
        **COMMON,
    )


def _measured(results: Results, systems: Sequence[str], measurement: str) -> list[str]:
    """The systems that have a measurement, last first: a horizontal chart begins at the bottom."""
    return [system for system in reversed(systems) if results.spread(system, measurement, "rate") is not None]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
