"""What the benchmark says of its samples: medians, ratios, targets, tables and charts."""

import io
import json
import typing
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from infra.bench.benchmark import charts, report, schedule
from infra.bench.benchmark.measurements import traffic_metrics
from infra.bench.benchmark.results import Results, Spread
from infra.bench.benchmark.targets import NODE, PYTHON, TARGETS, WARREN, Target, plain, ratio
from infra.bench.checker import LOST, UNDELIVERED, Verdict
from infra.bench.load.figures import Quantiles, TrafficFigures
from infra.bench.load.usage import Usage

ROOT = Path(__file__).resolve().parents[5]
PAGE = ROOT / "docs" / "benchmarks" / "README.md"
RESULTS = PAGE.with_name("results.json")


def three_rounds() -> Results:
    """Rates of two systems, the best round of neither being the last."""
    results = Results()
    for warren, node in ((1300.0, 500.0), (1500.0, 650.0), (1200.0, 400.0)):
        results.add(WARREN, "400 in flight", {"rate": warren, "wrong": 0.0})
        results.add(NODE, "400 in flight", {"rate": node})
    return results


def full() -> Results:
    """A sample of everything that the plan measures, with every metric that anything asks for."""
    results = Results()
    metrics = ("rate", "ack p50", "ack p99", "delivery p50", "delivery p99", "cpu", "cpu edge", "kilobytes", "seconds")
    for job in schedule.JOBS:
        for number, measurement in enumerate(job.measurements):
            results.add(
                job.system, measurement.name, {**dict.fromkeys(metrics, number + 1.5), "wrong": 0.0, "late": 0.0}
            )
    return results


def printed(results: Results) -> str:
    console = Console(width=170, file=io.StringIO())
    report.show(console, results)
    return typing.cast("io.StringIO", console.file).getvalue()


# --- Medians ----------------------------------------------------------------------------------------------


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, lowest=1.0, highest=3.0)
    assert Spread.of([4.0, 1.0]).median == 2.5


def test_results_keep_systems_measurements_and_metrics_apart() -> None:
    results = three_rounds()
    assert results.spread(WARREN, "400 in flight", "rate") == Spread(1300.0, 1200.0, 1500.0)
    assert results.median(NODE, "400 in flight", "rate") == 500.0
    assert results.spread(WARREN, "400 in flight", "cpu") is None
    assert results.spread(PYTHON, "400 in flight", "rate") is None


def test_what_is_written_can_be_read_back() -> None:
    results = three_rounds()
    results.add(WARREN, "idle", {"kilobytes": 30.0})
    again = Results.from_json(results.as_json())
    assert again.as_json() == results.as_json()
    assert again.values(WARREN, "400 in flight", "rate") == [1300.0, 1500.0, 1200.0]


# --- Targets ----------------------------------------------------------------------------------------------


def test_a_ratio_needs_both_its_sides() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None


@pytest.mark.parametrize(("limit", "at_least", "met"), [(2.6, True, True), (2.7, True, False), (2.5, False, False)])
def test_a_target_is_judged_by_medians(limit: float, at_least: bool, met: bool) -> None:
    over_node = next(target for target in TARGETS if target.name.endswith("over (b)"))
    target = Target("ratio", over_node.value, limit, at_least)
    assert target.value(three_rounds()) == 2.6
    assert target.is_met(three_rounds()) is met


def test_a_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert Target("latency", plain("200/s", "delivery p50"), 12.0, at_least=False).is_met(three_rounds()) is None


def test_one_lost_message_in_any_round_misses_the_target() -> None:
    results = three_rounds()
    lost = TARGETS[-1]
    assert lost.is_met(results) is True
    results.add(WARREN, "50 %", {"wrong": 1.0})
    assert lost.is_met(results) is False


def test_the_plan_measures_what_the_targets_ask_for() -> None:
    assert [target.name for target in TARGETS if target.value(full()) is None] == []


# --- Plan -------------------------------------------------------------------------------------------------


def test_rounds_alternate_and_long_parts_are_measured_once() -> None:
    first, second, third = schedule.rounds(3, schedule.PARTS, schedule.STARTS)
    assert [job.part for job in second if job.part in schedule.ONCE] == []
    assert [(job.part, job.system) for job in second] == [(job.part, job.system) for job in reversed(third)]
    assert Counter(job.part for job in first)["idle"] > 0


def test_a_part_of_the_plan_can_be_run() -> None:
    (jobs,) = schedule.rounds(1, ["main"], [WARREN, NODE])
    assert [(job.part, job.system) for job in jobs] == [("main", WARREN), ("main", NODE)]


def test_the_plan_ends_in_under_half_an_hour() -> None:
    jobs = [job for jobs in schedule.rounds(schedule.ROUNDS, schedule.PARTS, schedule.STARTS) for job in jobs]
    assert sum(job.seconds for job in jobs) < 28 * 60


# --- Metrics ----------------------------------------------------------------------------------------------


def test_processes_of_a_kind_are_added_up_and_the_generator_is_none_of_the_system() -> None:
    cpu = {"edge-1": 1.0, "edge-2": 2.0, "mongod": 3.0, "generator": 0.5}
    quantiles = Quantiles(1.0, 2.0, 3.0, 4.0)
    complaints = [(LOST, "one is lost"), (UNDELIVERED, "one is late"), (UNDELIVERED, "another is late")]
    verdict = Verdict(sent=500, acked=500, retried=0, stored=499, delivered=498, complaints=complaints)
    usage = Usage(seconds=5.0, cpu=cpu, machine=0.9)
    figures = TrafficFigures("", 100.0, 500, quantiles, quantiles, usage, Counter(), 0, True, verdict)
    metrics = traffic_metrics(figures)
    assert (metrics["cpu"], metrics["cpu edge"], metrics["cpu mongod"]) == (12.0, 6.0, 6.0)
    assert metrics["generator"] == 0.1
    assert (metrics["wrong"], metrics["late"]) == (1, 2)


# --- Table and charts -------------------------------------------------------------------------------------


def test_the_table_shows_medians_with_their_range_and_the_targets() -> None:
    text = printed(three_rounds())
    assert "1,300 (1,200 to 1,500)" in text
    assert "2.60 ×" in text
    assert "not measured" in text


def test_a_rate_that_was_not_held_is_starred_and_said() -> None:
    results = Results()
    results.add(PYTHON, "200/s", {"rate": 120.0, "asked": 200.0})
    results.add(NODE, "200/s", {"rate": 199.0, "asked": 200.0})
    text = printed(results)
    assert "120*" in text
    assert "did not hold 200/s: 120 of 200/s arrived" in text
    assert "199*" not in text


def test_charts_are_drawn_alike_each_time_without_date_or_script(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    files = charts.draw(full(), tmp_path)
    assert [file.name for file in files] == ["throughput.svg", "latency.svg", "cpu.svg", "edges.svg"]
    for file, again in zip(files, charts.draw(full(), tmp_path / "again"), strict=True):
        text = file.read_text()
        assert text == again.read_text()
        assert "<script" not in text
        assert "Generated" not in text


def test_the_page_shows_the_figures_that_are_kept() -> None:
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


def test_a_chart_without_figures_is_not_drawn(tmp_path: Path) -> None:
    assert charts.draw(Results(), tmp_path) == []
