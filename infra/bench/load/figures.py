"""Figures of one scenario, as plain values: for the table, for JSON, and for the benchmark."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.bench.checker import LOAD_KINDS, UNDELIVERED, Verdict
from infra.bench.histories import SentMessage
from infra.bench.load.usage import Usage

#: Complaints of one scenario that are written to JSON as sentences; all are counted.
COMPLAINTS_KEPT = 100


@dataclass(frozen=True)
class Quantiles:
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    highest: float


@dataclass(frozen=True)
class TrafficFigures:
    """One scenario that sent messages. Figures are of the measured stretch; the verdict is on the whole scenario."""

    title: str
    #: Acked and delivered messages a second; the verdict says whether they are stored.
    rate: float
    #: Messages that were acked and delivered in the measured stretch.
    done: int
    #: First try to ok ack, and first try to arrival at the other socket.
    ack: Quantiles
    delivery: Quantiles
    usage: Usage
    errors: Counter[str]
    reconnects: int
    #: Whether a message that was not pushed in time counts as undelivered.
    expects_pushes: bool
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Whether the checker had nothing to complain about."""
        return not self.verdict.complaints

    def complaints(self, kind: str) -> int | None:
        """How many complaints of a kind there are; None where the kind was not judged."""
        return None if kind == UNDELIVERED and not self.expects_pushes else self.verdict.count(kind)

    @property
    def cpu_per_thousand(self) -> dict[str, float]:
        """CPU seconds that each process spent on 1,000 messages."""
        return {name: 1000 * seconds / max(self.done, 1) for name, seconds in self.usage.cpu.items()}


@dataclass(frozen=True)
class ConnectionFigures:
    """Many idle connections on one edge."""

    title: str
    connections: int
    #: From the first connect to the last `session_ready`.
    seconds: float
    #: Growth of the edge's RSS per connection, KB (1,024 bytes).
    kilobytes_each: float
    usage: Usage
    #: Sockets that were closed again while idle.
    dropped: int

    @property
    def passed(self) -> bool:
        """Whether all connections stayed open."""
        return self.dropped == 0


Figures = TrafficFigures | ConnectionFigures


def quantiles(seconds: Sequence[float]) -> Quantiles:
    """Nearest-rank quantiles, in milliseconds, of durations in seconds; all 0 where there are none."""
    ordered = sorted(seconds) or [0.0]

    def at(share: float) -> float:
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    return Quantiles(at(0.5), at(0.9), at(0.99), 1000 * ordered[-1])


def measured(sent: Sequence[SentMessage], start: float, end: float) -> tuple[int, Quantiles, Quantiles]:
    """How many messages were acked and delivered between `start` and `end`, and their ack and delivery latency."""
    done = [
        message
        for message in sent
        if message.acked_at and message.delivered_at and start <= max(message.acked_at, message.delivered_at) < end
    ]
    return (
        len(done),
        quantiles([message.acked_at - message.due_at for message in done]),
        quantiles([message.delivered_at - message.due_at for message in done]),
    )


def as_json(figures: Figures) -> dict[str, Any]:
    """Figures as JSON values. Latencies are in milliseconds, CPU in seconds per 1,000 messages, shares from 0 to 1."""
    common = {
        "title": figures.title,
        "passed": figures.passed,
        "generator_share_of_core": figures.usage.generator_share,
        "machine_share": figures.usage.machine,
    }
    if isinstance(figures, ConnectionFigures):
        return common | {
            "connections": figures.connections,
            "seconds_until_ready": figures.seconds,
            "kilobytes_each": figures.kilobytes_each,
            "dropped": figures.dropped,
        }
    verdict = figures.verdict
    return common | {
        "messages_per_second": figures.rate,
        "messages_measured": figures.done,
        "ack_ms": asdict(figures.ack),
        "delivery_ms": asdict(figures.delivery),
        "cpu_seconds_per_thousand": figures.cpu_per_thousand,
        "failed_tries": dict(figures.errors),
        "reconnects": figures.reconnects,
        "check": {
            **{name: getattr(verdict, name) for name in ("sent", "acked", "stored", "delivered", "retried")},
            **{kind.replace(" ", "_"): figures.complaints(kind) for kind in LOAD_KINDS},
            "complaints": [f"{kind}: {sentence}" for kind, sentence in verdict.complaints[:COMPLAINTS_KEPT]],
        },
    }
