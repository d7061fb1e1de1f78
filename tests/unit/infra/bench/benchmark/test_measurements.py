"""The metrics of a measurement, from the figures of a scenario."""

from collections import Counter

from infra.bench.benchmark.measurements import traffic_metrics
from infra.bench.checker import LOST, UNDELIVERED, Verdict
from infra.bench.load.figures import Quantiles, TrafficFigures
from infra.bench.load.usage import Usage


def test_processes_of_a_kind_are_summed_without_the_generator() -> None:
    cpu = {"edge-1": 1.0, "edge-2": 2.0, "mongod": 3.0, "generator": 0.5}
    quantiles = Quantiles(1.0, 2.0, 3.0, 4.0)
    complaints = [(LOST, "one is lost"), (UNDELIVERED, "one is late"), (UNDELIVERED, "another is late")]
    verdict = Verdict(sent=500, acked=500, retried=0, stored=499, delivered=498, complaints=complaints)
    usage = Usage(seconds=5.0, cpu=cpu, machine=0.9)
    figures = TrafficFigures("", 100.0, 500, quantiles, quantiles, usage, Counter(), 0, True, verdict)
    metrics = traffic_metrics(figures)
    assert (metrics["cpu"], metrics["cpu edge"], metrics["cpu mongod"]) == (12.0, 6.0, 6.0)
    assert metrics["generator"] == 0.1
    assert (metrics["complaints"], metrics["undelivered"]) == (1, 2)
