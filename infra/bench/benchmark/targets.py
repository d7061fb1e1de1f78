"""The targets: limits on medians of one run, mostly ratios, and whether they are met. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass

from infra.bench.benchmark.results import Results

#: Keys of the systems in results.
WARREN, PYTHON, NODE, ALONE, ECHO, PATCHED = "warren", "python", "node", "alone", "echo", "patched"


@dataclass(frozen=True)
class Target:
    """A limit on a figure; `value` gives None where a part of the figure was not measured."""

    name: str
    value: Callable[[Results], float | None]
    limit: float
    #: Whether the value must be at least the limit, or at most.
    at_least: bool
    unit: str = "×"

    def is_met(self, results: Results) -> bool | None:
        """Whether the limit is kept; None where the figure was not measured."""
        value = self.value(results)
        if value is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit


def ratio(one: float | None, other: float | None) -> float | None:
    """One divided by the other; None where either is missing or the other is 0."""
    return None if one is None or not other else one / other


def against(peer: str, measurement: str, metric: str) -> Callable[[Results], float | None]:
    """Warren's median divided by a peer's."""
    return lambda results: ratio(results.median(WARREN, measurement, metric), results.median(peer, measurement, metric))


def within(one: str, other: str, metric: str) -> Callable[[Results], float | None]:
    """The median of one measurement of Warren divided by that of another."""
    return lambda results: ratio(results.median(WARREN, one, metric), results.median(WARREN, other, metric))


def plain(measurement: str, metric: str) -> Callable[[Results], float | None]:
    """Warren's median itself."""
    return lambda results: results.median(WARREN, measurement, metric)


def complaints(results: Results) -> float | None:
    """Complaints of the checker about Warren in all rounds, late pushes left out; None where nothing was measured."""
    found = [
        value
        for measurement in results.measurements(WARREN)
        for value in results.values(WARREN, measurement, "complaints")
    ]
    return sum(found) if found else None


TARGETS = (
    Target("saturation, 400 in flight, over (a)", against(PYTHON, "400 in flight", "rate"), 6.0, at_least=True),
    Target("saturation, 400 in flight, over (b)", against(NODE, "400 in flight", "rate"), 2.5, at_least=True),
    Target("saturation, 400 in flight, over (c)", against(ALONE, "400 in flight", "rate"), 4.0, at_least=True),
    Target("delivery p50 at 200/s, over (a)", against(PYTHON, "200/s", "delivery p50"), 1.0, at_least=False),
    Target("delivery p50 at 200/s, over (b)", against(NODE, "200/s", "delivery p50"), 1.5, at_least=False),
    Target("delivery p50 at 200/s", plain("200/s", "delivery p50"), 12.0, at_least=False, unit="ms"),
    Target("delivery p99 at 80 % of own, over (a)", against(PYTHON, "80 %", "delivery p99"), 1.0, at_least=False),
    Target("delivery p99 at 80 % of own, over (b)", against(NODE, "80 %", "delivery p99"), 1.0, at_least=False),
    Target("CPU per message at 60/s, 8 edges over 1", within("8 edges", "1 edge", "cpu"), 1.15, at_least=False),
    Target(
        "CPU per message at 400/s, 8 edges over 1", within("8 edges, busy", "1 edge, busy", "cpu"), 1.15, at_least=False
    ),
    Target("edges' CPU per message over bare echo", against(ECHO, "400 in flight", "cpu edge"), 2.0, at_least=False),
    Target("memory per idle connection over bare echo", against(ECHO, "idle", "kilobytes"), 1.10, at_least=False),
    Target("throughput, 4 persistence over 1", within("4 persistence", "1 persistence", "rate"), 1.0, at_least=True),
    Target("lost, duplicated, out of order, gaps, in all rounds", complaints, 0.0, at_least=False, unit=""),
)
