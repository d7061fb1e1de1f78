"""Charts as SVG files: the same figures give the same bytes, and they read well on light and on dark pages."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pygal
from pygal.style import Style

from infra.bench.benchmark.report import KINDS
from infra.bench.benchmark.results import Results
from infra.bench.benchmark.schedule import EDGES
from infra.bench.benchmark.targets import ALONE, ECHO, NODE, PATCHED, PYTHON, WARREN

# For plug-ins that nobody here has, the library puts a finder into Python's imports that Python 3.11 warns of.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

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
#: Grey that can be read on white and on black.
GREY = "#808890"
#: Told apart by those who see colours differently too (Okabe and Ito), on white and on black.
COLORS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800")
FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground=GREY,
    foreground_strong=GREY,
    foreground_subtle=GREY,
    value_colors=(GREY,) * len(COLORS),
    colors=COLORS,
    opacity="1",
    opacity_hover="1",
    guide_stroke_color=GREY + "40",
    major_guide_stroke_color=GREY + "60",
    font_family=FONT,
    title_font_family=FONT,
    label_font_family=FONT,
    major_label_font_family=FONT,
    value_font_family=FONT,
    legend_font_family=FONT,
    title_font_size=17,
    label_font_size=13,
    major_label_font_size=13,
    value_font_size=12,
    legend_font_size=13,
)
#: The library dates its files and adds a script; neither has a place in a picture that is kept.
_NOISE = re.compile(r"<!--.*?-->|<script.*?</script>", re.DOTALL)


def draw(results: Results, folder: Path) -> list[Path]:
    """Write every chart that the results suffice for; return the files."""
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


def svg(chart: pygal.Graph, name: str) -> str:
    """A chart as the text of a file."""
    chart.uuid = name
    drawn: str = _NOISE.sub("", chart.render(is_unicode=True))
    return drawn + "\n"


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
    """Where the processor time of a message goes."""
    systems = _measured(results, CHATS, "400 in flight")
    chart = _bars("CPU milliseconds a message at saturation, by process", systems, kind=pygal.HorizontalStackedBar)
    for kind in KINDS:
        spent = [results.median(system, "400 in flight", f"cpu {kind}") for system in systems]
        if any(value is not None and value >= 0.005 for value in spent):
            chart.add(kind, [_rounded(value, 2) for value in spent])
    return chart if systems else None


def edges(results: Results) -> pygal.Graph | None:
    """What a message costs as edges are added."""
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


COMMON = {
    "style": STYLE,
    "js": [],
    "width": 860,
    "legend_at_bottom": True,
    "legend_at_bottom_columns": 6,
    "margin": 12,
}


def _bars(
    title: str, systems: Sequence[str], *, kind: type[pygal.Graph] = pygal.HorizontalBar, logarithmic: bool = False
) -> pygal.Graph:
    """Lying bars, a group for each system, the first on top."""
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
    """Systems that a measurement was made of; a lying chart begins at the bottom, so the first comes last."""
    return [system for system in reversed(systems) if results.spread(system, measurement, "rate") is not None]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
