"""Sockets by sid and by user, one rate limit for each user, and a socket that does not read."""

from prometheus_client import REGISTRY

from edge.auth import Identity
from edge.sockets import Socket, Sockets
from tests.unit.edge.fakes import FakeEngine


def socket(sid: str, user_id: str = "ada", engine: FakeEngine | None = None) -> Socket:
    identity = Identity(user_id, user_id.title(), None, 0.0)
    return Socket(sid, engine or FakeEngine(), identity)  # type: ignore[arg-type]


def sids(sockets: Sockets, user_id: str) -> list[str]:
    return [each.sid for each in sockets.of(user_id)]


def counts() -> tuple[float | None, float | None]:
    return REGISTRY.get_sample_value("warren_edge_sockets"), REGISTRY.get_sample_value("warren_edge_users")


def test_a_user_has_all_of_their_sockets_and_no_others() -> None:
    sockets = Sockets(rate=1, burst=1)
    for sid, user_id in (("s1", "ada"), ("s2", "bob"), ("s3", "ada")):
        sockets.add(socket(sid, user_id))
    assert sids(sockets, "ada") == ["s1", "s3"]
    assert sids(sockets, "bob") == ["s2"]
    assert sids(sockets, "nobody") == []
    assert counts() == (3, 2)


def test_a_user_stays_until_they_are_removed_and_is_not_while_they_have_a_socket() -> None:
    # Given a user whose last socket has closed
    sockets = Sockets(rate=1, burst=1)
    sockets.add(socket("s1"))
    removed = sockets.remove("s1")
    assert removed is not None
    assert removed.sid == "s1"

    # Then they are still there, with what they have sent, until somebody removes them
    assert sids(sockets, "ada") == []
    assert set(sockets.users) == {"ada"}
    sockets.add(socket("s2"))
    sockets.remove_user("ada")
    assert sids(sockets, "ada") == ["s2"]
    sockets.remove("s2")
    sockets.remove_user("ada")
    assert sockets.users == {}
    assert counts() == (0, 0)


def test_what_is_not_there_is_removed_without_complaint() -> None:
    sockets = Sockets(rate=1, burst=1)
    assert sockets.remove("nothing") is None
    sockets.remove_user("nobody")


def test_the_rate_is_a_users_and_outlives_a_reconnect() -> None:
    sockets = Sockets(rate=0.001, burst=2)
    first = sockets.add(socket("s1"))
    assert first.bucket.take() == 0
    assert sockets.add(socket("s2")).bucket.take() == 0
    for sid in ("s1", "s2"):
        sockets.remove(sid)
    assert sockets.add(socket("s3")).bucket.take() > 0
    assert sockets.add(socket("s4", "bob")).bucket.take() == 0


def test_a_socket_whose_buffer_is_full_is_evicted_and_counted() -> None:
    before = REGISTRY.get_sample_value("warren_edge_slow_sockets_total") or 0.0
    engine = FakeEngine()
    slow = socket("s1", engine=engine)
    slow.send("first")
    engine.has_room = False
    slow.send("second")
    assert engine.sent == ["first"]
    assert engine.evicted
    assert REGISTRY.get_sample_value("warren_edge_slow_sockets_total") == before + 1
