"""`python -m infra.bench.scaling_document` (or `make docs`): writes docs/scaling.md's tables and charts."""

import re
import sys
from pathlib import Path

from infra.bench.svg_charts import COMMON, pygal, svg
from infra.cli.sizing import Demand, plan, rows, spent

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, CHARTS = DOCS / "scaling.md", DOCS / "scaling"
#: The place of a table in the page; the mark names its number of users.
TABLE = re.compile(r"(<!-- sizing (\d+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: Messages a second on the charts' axes.
RATES = (10, 30, 100, 300, 1_000, 3_000, 10_000)
#: Messages a second up to the limit of one persistence worker.
ONE_WORKER_RATES = (20, 50, 100, 200, 500, 1_000, 2_000, 2_700)
#: Pixels below the legend, which pygal cuts off otherwise.
LEGEND_MARGIN = {"margin_bottom": 36}


def generated() -> dict[Path, str]:
    """Every file with its text: the same figures give the same bytes."""
    page = TABLE.sub(lambda found: found[1] + table(int(found[2])) + found[3], PAGE.read_text())
    return {
        PAGE: page,
        CHARTS / "message.svg": svg(message(), "message"),
        CHARTS / "cores.svg": svg(cores(), "cores"),
    }


def demand(users: int) -> Demand:
    """The page's assumption: a tenth is connected, and each of those sends a message a minute."""
    return Demand(users / 10, users / 600)


def table(users: int) -> str:
    """What a number of users needs."""
    lines = ["| part | needed | for |", "|---|---|---|"]
    lines += [f"| {part} | {needed} | {why} |" for part, needed, why in rows(demand(users))]
    return "\n".join(lines) + "\n"


def message() -> pygal.Graph:
    """What a message costs, by how many there are."""
    chart = pygal.StackedBar(
        title="CPU milliseconds a message, by messages a second",
        x_labels=[f"{rate:,}" for rate in ONE_WORKER_RATES],
        height=360,
        **COMMON | LEGEND_MARGIN,
    )
    costs = [spent(rate) for rate in ONE_WORKER_RATES]
    for part in costs[0]:
        chart.add(part, [round(cost[part], 2) for cost in costs])
    return chart


def cores() -> pygal.Graph:
    """What to provide, by how many messages there are; each of sixty people connected sends one a minute."""
    chart = pygal.Line(
        title="Cores to provide, by messages a second in one cell (both logarithmic)",
        x_labels=[f"{rate:,}" for rate in RATES],
        logarithmic=True,
        y_labels=[0.1, 1, 10, 100],
        dots_size=4,
        stroke_style={"width": 2.5},
        height=380,
        **COMMON | LEGEND_MARGIN,
    )
    plans = [plan(Demand(60 * rate, rate)) for rate in RATES]
    chart.add("edges", [one.edges for one in plans])
    chart.add("persistence", [one.persistence for one in plans])
    chart.add("unread", [one.unread for one in plans])
    chart.add("MongoDB", [round(one.mongodb_cores, 2) for one in plans])
    chart.add("RabbitMQ", [round(one.rabbitmq_cores, 2) for one in plans])
    return chart


def main() -> None:
    """Write the files that differ from what is generated."""
    CHARTS.mkdir(exist_ok=True)
    for file, text in generated().items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            sys.stdout.write(f"Wrote {file.relative_to(DOCS.parent)}.\n")


if __name__ == "__main__":
    main()
