"""Results that several tests of the benchmark look at."""

from infra.bench.benchmark import schedule
from infra.bench.benchmark.results import Results
from infra.bench.benchmark.targets import NODE, WARREN


def three_rounds() -> Results:
    """Rates of two systems, the best round of neither being the last."""
    results = Results()
    for warren, node in ((1300.0, 500.0), (1500.0, 650.0), (1200.0, 400.0)):
        results.add(WARREN, "400 in flight", {"rate": warren, "complaints": 0.0})
        results.add(NODE, "400 in flight", {"rate": node})
    return results


def full() -> Results:
    """A sample of every measurement in the schedule, with every metric that a target or a table needs."""
    results = Results()
    metrics = ("rate", "ack p50", "ack p99", "delivery p50", "delivery p99", "cpu", "cpu edge", "kilobytes", "seconds")
    for job in schedule.JOBS:
        for number, measurement in enumerate(job.measurements):
            results.add(
                job.system,
                measurement.name,
                {**dict.fromkeys(metrics, number + 1.5), "complaints": 0.0, "undelivered": 0.0},
            )
    return results
