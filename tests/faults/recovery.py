"""When was service whole again? No I/O."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.bench.history import SentMessage

#: Seconds that something may take on a busy machine and still count as normal.
NORMAL_AT_LEAST = 1.0
#: How many times the slowest of a hundred in calm still counts as normal.
NORMAL_TIMES = 3.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One newcomer's whole visit: connect, be told `session_ready`, list, send, and be heard by another."""

    began_at: float
    ended_at: float
    ok: bool


def normal_latency(calm: Iterable[SentMessage]) -> float:
    """The latency, in seconds, up to which an ack counts as normal, from those that came before the fault."""
    latencies = sorted(sent.acked_at - sent.due_at for sent in calm if sent.acked_at)
    slowest = latencies[math.ceil(len(latencies) * 0.99) - 1] if latencies else 0.0
    return max(NORMAL_AT_LEAST, NORMAL_TIMES * slowest)


def whole_since(
    messages: Sequence[SentMessage], probes: Sequence[Probe], *, ended: float, now: float, normal: float
) -> float | None:
    """The first moment from the fault's end on from which all is acked at normal latency and probes get through.

    A late message holds it back until its ack, a failed or slow probe until its end. None while something is overdue.
    """
    moment = ended
    for sent in messages:
        if not sent.acked_at:
            if now - sent.due_at > normal:
                return None
        elif sent.acked_at - sent.due_at > normal:
            moment = max(moment, sent.acked_at)
    for probe in probes:
        if not probe.ok or probe.ended_at - probe.began_at > 2 * normal:
            moment = max(moment, probe.ended_at)
    if probes and not probes[-1].ok:
        return None
    return moment
