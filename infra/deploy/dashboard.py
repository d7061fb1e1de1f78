"""`python -m infra.deploy.dashboard` (or `make docs`): writes Grafana's one page on Warren from infra/deploy/panels.py.

With `--check` it writes nothing, and ends with 1 when the file is stale.
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
#: Found by infra/deploy/grafana/provisioning/datasources/prometheus.yml under this name.
SOURCE = DataSourceRef(type_val="prometheus", uid="warren-prometheus")

#: Grid units (24 across): a number, and a chart of a row of three.
STAT, CHART, STAT_HEIGHT, CHART_HEIGHT = 3, 8, 4, 8

GREEN, YELLOW, RED = "green", "yellow", "red"


def text() -> str:
    """The page as Grafana reads it: the same bytes from the same code."""
    page = (
        dashboard.Dashboard("Warren")
        .uid("warren")
        .description("Is it healthy, how full is it, what is slow, for whom? Alerts link docs/runbook.md.")
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
        .description(number.asks)
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
        .description(chart.says)
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
    """Write the file, or compare; returns the exit code."""
    fresh = text()
    if FILE.exists() and FILE.read_text() == fresh:
        return 0
    name = "infra/deploy/grafana/dashboards/warren.json"
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f"{name} is stale: run `make docs`.\n")
        return 1
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(fresh)
    sys.stdout.write(f"Wrote {name}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
