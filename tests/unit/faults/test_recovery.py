"""When a service counts as recovered."""

from infra.bench.histories import SentMessage
from tests.faults.recovery import NORMAL_AT_LEAST, Probe, normal_latency, recovered_at


def sent(due_at: float, acked_at: float) -> SentMessage:
    return SentMessage("chat", "ada", "m", due_at=due_at, acked_at=acked_at)


def moment(messages: list[SentMessage], probes: list[Probe] | None = None) -> float | None:
    return recovered_at(messages, probes or [], ended=10.0, now=20.0, normal=1.0)


def test_recovered_at_once_where_no_client_noticed() -> None:
    assert moment([sent(5.0, 5.1), sent(12.0, 12.5)], [Probe(11.0, 11.2, ok=True)]) == 10.0


def test_the_last_late_ack_counts() -> None:
    assert moment([sent(8.0, 13.0), sent(9.0, 14.5), sent(15.0, 15.1)]) == 14.5


def test_not_recovered_while_an_ack_is_overdue() -> None:
    assert moment([sent(12.0, 12.1), sent(18.0, 0.0)]) is None


def test_a_message_in_flight_is_not_overdue() -> None:
    assert moment([sent(19.5, 0.0)]) == 10.0


def test_a_failed_probe_counts() -> None:
    assert moment([], [Probe(11.0, 16.0, ok=False), Probe(16.5, 17.0, ok=True)]) == 16.0


def test_a_slow_probe_counts() -> None:
    assert moment([], [Probe(11.0, 14.0, ok=True)]) == 14.0


def test_not_recovered_while_probes_fail() -> None:
    assert moment([], [Probe(11.0, 12.0, ok=True), Probe(15.0, 19.0, ok=False)]) is None


def test_normal_is_the_latency_before_the_fault_with_a_margin() -> None:
    assert normal_latency([]) == NORMAL_AT_LEAST
    assert normal_latency([sent(0.0, 0.1)] * 50) == NORMAL_AT_LEAST
    assert normal_latency([sent(1.0, 1.7)] * 50) > 2.0
