"""The report: tables on a terminal, and the figures in docs/benchmarks/README.md."""

import io
import json
import typing
from pathlib import Path

from rich.console import Console

from infra.bench.benchmark import report
from infra.bench.benchmark.results import Results
from infra.bench.benchmark.targets import NODE, PYTHON
from tests.unit.infra.bench.benchmark.samples import full, three_rounds

ROOT = Path(__file__).resolve().parents[5]
PAGE = ROOT / "docs" / "benchmarks" / "README.md"
RESULTS = PAGE.with_name("results.json")


def printed(results: Results) -> str:
    console = Console(width=170, file=io.StringIO())
    report.show(console, results)
    return typing.cast("io.StringIO", console.file).getvalue()


def test_the_table_shows_medians_with_their_range_and_the_targets() -> None:
    text = printed(three_rounds())
    assert "1,300 (1,200 to 1,500)" in text
    assert "2.60 ×" in text
    assert "not measured" in text


def test_a_rate_that_was_not_sustained_has_a_star_and_a_remark() -> None:
    results = Results()
    results.add(PYTHON, "200/s", {"rate": 120.0, "offered": 200.0})
    results.add(NODE, "200/s", {"rate": 199.0, "offered": 200.0})
    text = printed(results)
    assert "120*" in text
    assert "did not sustain 200/s: 120 of 200/s were delivered" in text
    assert "199*" not in text


def test_the_page_shows_the_kept_figures() -> None:
    results = Results.from_json(json.loads(RESULTS.read_text())["results"]) if RESULTS.exists() else None
    text = PAGE.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    if results is not None:
        assert report.with_figures(text, results) == text, (
            "`make bench ARGS=--redraw` writes what docs/benchmarks keeps"
        )


def test_figures_replace_those_before_and_nothing_else() -> None:
    text = f"Before.\n{report.BEGIN}\nold\n\n{report.END}\nAfter.\n"
    once = report.with_figures(text, full())
    assert once.startswith("Before.\n")
    assert once.endswith("\nAfter.\n")
    assert "old" not in once
    assert report.with_figures(once, full()) == once
