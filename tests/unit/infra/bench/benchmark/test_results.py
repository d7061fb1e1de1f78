"""Results: medians with both ends, by system, measurement and metric, and what is kept of them."""

from infra.bench.benchmark.results import Results, Spread
from infra.bench.benchmark.targets import NODE, PYTHON, WARREN
from tests.unit.infra.bench.benchmark.samples import three_rounds


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
