"""`python -m infra.deploy.dashboard` (or `make docs`): writes Warren's Grafana dashboard from infra/deploy/panels.py.

With `--check` it writes nothing, and exits with 1 when the file is out of date.
"""

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, Threshold, ThresholdsMode

from infra.deploy.panels import ROWS, Chart, Number, Query

FILE = Path(__file__).parent / "grafana" / "dashboards" / "warren.json"
#: The data source that infra/deploy/grafana/provisioning/datasources/prometheus.yml defines.
SOURCE = DataSourceRef(type_val="prometheus", uid="warren-prometheus")

#: Widths and heights of numbers and charts in grid units; the dashboard is 24 units wide.
STAT, CHART, STAT_HEIGHT, CHART_HEIGHT = 3, 8, 4, 8

GREEN, YELLOW, RED = "green", "yellow", "red"


def text() -> str:
    """The dashboard's JSON. The same code always gives the same bytes."""
    page = (
        dashboard.Dashboard("Warren")
        .uid("warren")
        .description("Health, load, latency, and which users are affected. Alerts link to docs/runbook.md.")
        .tags(["warren"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for row in ROWS:
        page = page.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            page = page.with_panel(_number(panel) if isinstance(panel, Number) else _chart(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(page.build()) + "\n"


def _number(number: Number) -> stat.Panel:
    low, high = sorted(number.bad)
    lowest, highest = (RED, GREEN) if number.falling else (GREEN, RED)
    steps = [Threshold(None, lowest), Threshold(low, YELLOW), Threshold(high, highest)]
    if low == high:
        del steps[1]
    return (
        stat.Panel()
        .title(number.title)
        .description(number.description)
        .datasource(SOURCE)
        .unit(number.unit)
        .no_value(number.none)
        .with_target(_target(number.query, "A").instant())
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .span(STAT)
        .height(STAT_HEIGHT)
    )


def _chart(chart: Chart) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(chart.title)
        .description(chart.description)
        .datasource(SOURCE)
        .unit(chart.unit)
        .min(0)
        .fill_opacity(8)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .span(CHART)
        .height(CHART_HEIGHT)
    )
    for number, query in enumerate(chart.queries):
        panel = panel.with_target(_target(query, chr(ord("A") + number)))
    if chart.limit is not None:
        steps = [Threshold(None, GREEN), Threshold(chart.limit, RED)]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return panel


def _target(query: Query, ref_id: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(SOURCE).expr(query.expr).legend_format(query.legend).ref_id(ref_id)


def main() -> int:
    """Write or compare the file. Returns the exit code."""
    fresh = text()
    if FILE.exists() and FILE.read_text() == fresh:
        return 0
    name = "infra/deploy/grafana/dashboards/warren.json"
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f"{name} is out of date: run `make docs`.\n")
        return 1
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(fresh)
    sys.stdout.write(f"Wrote {name}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
