"""When a service has recovered from a fault. No I/O."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.bench.histories import SentMessage

#: Seconds that an ack may take on a busy machine and still count as normal.
NORMAL_AT_LEAST = 1.0
#: How many times the 99th percentile before the fault still counts as normal.
NORMAL_TIMES = 3.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One visit of a new user: connect, `session_ready`, list, send, and reach another user."""

    began_at: float
    ended_at: float
    ok: bool


def normal_latency(baseline: Iterable[SentMessage]) -> float:
    """The latency, in seconds, up to which an ack counts as normal, from the messages sent before the fault."""
    latencies = sorted(sent.acked_at - sent.due_at for sent in baseline if sent.acked_at)
    slowest = latencies[math.ceil(len(latencies) * 0.99) - 1] if latencies else 0.0
    return max(NORMAL_AT_LEAST, NORMAL_TIMES * slowest)


def recovered_at(
    messages: Sequence[SentMessage], probes: Sequence[Probe], *, ended: float, now: float, normal: float
) -> float | None:
    """The first moment, at or after the fault's end, from which every ack is normal and every probe succeeds.

    A late message delays it until its ack, a failed or slow probe until its end. None while something is overdue.
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
