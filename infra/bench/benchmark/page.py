"""The figures on the page: docs/benchmarks/README.md keeps them between two marks, written by a whole run."""

from collections.abc import Iterator
from pathlib import Path

from infra.bench.benchmark.plan import TITLES
from infra.bench.benchmark.results import Results
from infra.bench.benchmark.table import goal_rows, measured_systems, remarks, sections

BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"


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
    yield "| Warren's medians over the others' | target | measured | |"
    yield "|---|---:|---:|---|"
    for row in goal_rows(results):
        yield f"| {' | '.join(row)} |"
    systems = measured_systems(results)
    yield ""
    yield f"| median (lowest to highest) | {' | '.join(TITLES[system] for system in systems)} |"
    yield f"|---|{'---:|' * len(systems)}"
    for title, lines in sections(results):
        yield f"| **{title}** |{' |' * len(systems)}"
        for name, cells in lines:
            yield f"| {name} | {' | '.join(cells)} |"
    if said := list(remarks(results)):
        yield ""
        yield from (f"- {remark.removeprefix('* ')}" for remark in said)
