"""The results of a run: figures by system, measurement and metric, one for each round. No I/O."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self


class Spread(NamedTuple):
    """The median of some rounds, and the lowest and highest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of at least one value."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Sample:
    """The metrics of one measurement of one system in one round."""

    system: str
    measurement: str
    metrics: Mapping[str, float]


class Results:
    """Samples of a whole run, in the order taken."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.samples = list(samples)

    def add(self, system: str, measurement: str, metrics: Mapping[str, float]) -> None:
        """Add one sample."""
        self.samples.append(Sample(system, measurement, dict(metrics)))

    def values(self, system: str, measurement: str, metric: str) -> list[float]:
        """One value for each round that measured it."""
        return [
            sample.metrics[metric]
            for sample in self.samples
            if (sample.system, sample.measurement) == (system, measurement) and metric in sample.metrics
        ]

    def spread(self, system: str, measurement: str, metric: str) -> Spread | None:
        """The spread over all rounds; None when it was never measured."""
        values = self.values(system, measurement, metric)
        return Spread.of(values) if values else None

    def median(self, system: str, measurement: str, metric: str) -> float | None:
        """The median over all rounds; None when it was never measured."""
        spread = self.spread(system, measurement, metric)
        return spread.median if spread else None

    def measurements(self, system: str) -> list[str]:
        """The names of a system's measurements, in the order of their first samples."""
        return list(dict.fromkeys(sample.measurement for sample in self.samples if sample.system == system))

    def metrics(self, system: str, measurement: str) -> list[str]:
        """The metrics of a measurement, in the order of their first samples."""
        names: Iterator[str] = (
            name
            for sample in self.samples
            if (sample.system, sample.measurement) == (system, measurement)
            for name in sample.metrics
        )
        return list(dict.fromkeys(names))

    def systems(self) -> list[str]:
        """The systems that have samples, in the order of their first ones."""
        return list(dict.fromkeys(sample.system for sample in self.samples))

    def as_json(self) -> dict[str, Any]:
        """Medians with lowest, highest and all values, by system, measurement and metric; rounded to 4 digits."""
        return {
            system: {
                measurement: {
                    metric: _spread_as_json(self.values(system, measurement, metric))
                    for metric in self.metrics(system, measurement)
                }
                for measurement in self.measurements(system)
            }
            for system in self.systems()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `as_json` returned, so that charts can be drawn again without a run."""
        results = cls()
        for system, measurements in document.items():
            for measurement, metrics in measurements.items():
                rounds = max(len(metric["values"]) for metric in metrics.values())
                for number in range(rounds):
                    found = {
                        name: each["values"][number] for name, each in metrics.items() if number < len(each["values"])
                    }
                    results.add(system, measurement, found)
        return results


def _spread_as_json(values: list[float]) -> dict[str, Any]:
    spread = Spread.of(values)
    named = {"median": spread.median, "min": spread.lowest, "max": spread.highest}
    return {**{name: _rounded(value) for name, value in named.items()}, "values": [_rounded(value) for value in values]}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
