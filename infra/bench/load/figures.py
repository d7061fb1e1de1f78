"""Figures of one run, as plain values: for the table, and for whoever compares runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from infra.bench.checker import Verdict
from infra.bench.history import SentMessage
from infra.bench.load.usage import Usage


@dataclass(frozen=True)
class Quantiles:
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    highest: float


@dataclass(frozen=True)
class TrafficFigures:
    """One run that sent messages. Figures are of the measured stretch; the verdict is on the whole run."""

    title: str
    #: Acked and delivered messages a second. That they are stored is the verdict's to say.
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


Figures = TrafficFigures | ConnectionFigures


def quantiles(seconds: Sequence[float]) -> Quantiles:
    """Nearest-rank quantiles of durations; all 0 when there are none."""
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
