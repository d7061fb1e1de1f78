"""When service counts as whole again."""

from infra.bench.history import SentMessage
from tests.faults.recovery import NORMAL_AT_LEAST, Probe, normal_latency, whole_since


def sent(due_at: float, acked_at: float) -> SentMessage:
    return SentMessage("chat", "ada", "m", due_at=due_at, acked_at=acked_at)


def since(sendings: list[SentMessage], probes: list[Probe] | None = None) -> float | None:
    return whole_since(sendings, probes or [], ended=10.0, now=20.0, normal=1.0)


def test_whole_at_once_where_nobody_noticed() -> None:
    assert since([sent(5.0, 5.1), sent(12.0, 12.5)], [Probe(11.0, 11.2, ok=True)]) == 10.0


def test_the_last_late_ack_counts() -> None:
    assert since([sent(8.0, 13.0), sent(9.0, 14.5), sent(15.0, 15.1)]) == 14.5


def test_not_whole_while_something_is_overdue() -> None:
    assert since([sent(12.0, 12.1), sent(18.0, 0.0)]) is None


def test_what_is_on_its_way_is_no_trouble() -> None:
    assert since([sent(19.5, 0.0)]) == 10.0


def test_a_newcomer_who_was_turned_away_counts() -> None:
    assert since([], [Probe(11.0, 16.0, ok=False), Probe(16.5, 17.0, ok=True)]) == 16.0


def test_a_newcomer_who_waited_long_counts() -> None:
    assert since([], [Probe(11.0, 14.0, ok=True)]) == 14.0


def test_not_whole_while_newcomers_are_turned_away() -> None:
    assert since([], [Probe(11.0, 12.0, ok=True), Probe(15.0, 19.0, ok=False)]) is None


def test_normal_is_what_it_was_before_with_room() -> None:
    assert normal_latency([]) == NORMAL_AT_LEAST
    assert normal_latency([sent(0.0, 0.1)] * 50) == NORMAL_AT_LEAST
    assert normal_latency([sent(1.0, 1.7)] * 50) > 2.0
