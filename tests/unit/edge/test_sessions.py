"""SessionRegistry: users are reported as they come and go, whatever order timers, replies and outages take."""

import asyncio
import random
import time

import pytest
from prometheus_client import REGISTRY

from contracts.acks import LeaseRenewed
from contracts.codec import encode_ok
from contracts.frames import Reply
from contracts.reports import LeaseRenew, SessionClose, SessionsDrop
from edge.auth import Identity
from edge.relay import Relay
from edge.sessions import MISSED_RENEWALS, SessionRegistry
from edge.sockets import Socket, Sockets
from infra.settings import EdgeSettings
from tests.support.waiting import eventually
from tests.unit.edge.fake_presence import FakePresence
from tests.unit.edge.fakes import FakeEngine, FakePublisher, settle


class Cast:
    """The sockets of an edge, its registry, and the presence workers that it reports to."""

    def __init__(self, **settings: object) -> None:
        self.presence = FakePresence()
        self.sockets = Sockets(rate=0, burst=0)
        self.settings = EdgeSettings.model_validate({"jwt_secret": "x" * 32, "session_grace": 0, **settings})
        self.sessions = SessionRegistry("e", self.presence.relay, self.sockets, self.settings)
        self._sids = 0

    def add(self, user_id: str) -> Socket:
        """Add a socket, which the registry does not know yet."""
        self._sids += 1
        identity = Identity(user_id, user_id, None, time.time() + 600)
        socket = Socket(f"s{self._sids}", FakeEngine(), identity)  # type: ignore[arg-type]
        self.sockets.add(socket)
        return socket

    def connect(self, user_id: str) -> Socket:
        """Add a socket, and tell the registry."""
        socket = self.add(user_id)
        self.sessions.connected(socket)
        return socket

    def disconnect(self, socket: Socket) -> None:
        """Remove a socket, and tell the registry."""
        self.sockets.remove(socket.sid)
        self.sessions.disconnected(self.sockets.users[socket.user_id])


def is_ready(socket: Socket) -> bool:
    """Whether a socket got `session_ready`."""
    engine: object = socket.engine
    assert isinstance(engine, FakeEngine)
    return any("session_ready" in text for text in engine.sent)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat everything after a millisecond."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.001)


async def test_an_edge_tells_that_presence_workers_have_not_answered_yet_or_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an edge that asks for its lease
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    publisher = FakePublisher()
    relay = Relay(publisher, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]
    settings = EdgeSettings.model_validate({"jwt_secret": "x" * 32})
    sessions = SessionRegistry("e", relay, Sockets(rate=0, burst=0), settings)

    def reason() -> str | None:
        return sessions.not_ready_reason

    async def answered() -> None:
        sessions.renew()
        await settle()
        await publisher.confirm()
        request = publisher.bundles[-1][0].request
        relay.resolve(Reply(request=request, ack=encode_ok(LeaseRenewed(known=True, epoch=0))))

    assert reason() == "the presence workers have not answered yet"
    assert REGISTRY.get_sample_value("warren_edge_leased") == 0

    # When they answer, then it can serve, until some answers are missing
    await answered()
    assert reason() is None
    now[0] += MISSED_RENEWALS * settings.lease_interval
    assert reason() is None
    assert REGISTRY.get_sample_value("warren_edge_leased") == 1
    now[0] += 1
    assert reason() == "the presence workers have not answered for 16 s"
    assert REGISTRY.get_sample_value("warren_edge_leased") == 0

    # And again once they answer again, unless nothing could reach it
    await answered()
    assert reason() is None
    sessions.mark_all_unregistered()
    assert reason() == "the presence workers have not answered yet"


# --- Coming and going -------------------------------------------------------------------------------------


async def test_a_user_who_returns_while_the_grace_ends_is_open_in_the_directory() -> None:
    # Given a user who is open, and whose last socket closes
    cast = Cast()
    first = cast.connect("ada")
    await settle()
    assert is_ready(first)
    cast.disconnect(first)

    # When a new socket arrives, and the grace ends before the socket is registered. The timer runs in this iteration of
    # the event loop, after this task; the call in the next one.
    await asyncio.sleep(0)
    second = cast.add("ada")
    asyncio.get_running_loop().call_soon(cast.sessions.connected, second)
    await settle()

    # Then the directory has the user as long as the socket has its `session_ready`
    assert is_ready(second)
    assert cast.presence.open_users == {"ada"}

    # And the user is reported as gone after that
    cast.disconnect(second)
    await settle()
    assert cast.presence.open_users == set()


async def test_a_reply_to_an_earlier_registration_does_not_make_a_user_ready() -> None:
    # Given a user who came and went before the registration was answered
    cast = Cast()
    cast.presence.silent.add("ada")
    first = cast.connect("ada")
    await settle()
    cast.disconnect(first)
    await settle()
    earlier, cast.presence._waiting = cast.presence._waiting, []

    # When the user returns, and the first registration is answered
    second = cast.connect("ada")
    await settle()
    for reply in earlier:
        cast.presence.relay.resolve(reply)
    await settle()

    # Then the socket waits for the reply to its own
    assert not is_ready(second)
    cast.presence.answer()
    await settle()
    assert is_ready(second)
    assert cast.presence.open_users == {"ada"}


async def test_a_socket_that_closes_before_its_user_is_registered_leaves_nothing_behind() -> None:
    cast = Cast()
    cast.disconnect(cast.add("ada"))
    await settle()
    assert cast.sockets.users == {}
    assert cast.presence.reports == []


# --- Outages ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pauses")
async def test_everyone_who_left_during_an_outage_is_reported_however_long_it_lasts() -> None:
    # Given 400 users who leave while the broker refuses reports
    cast = Cast()
    sockets = [cast.connect(f"u{number}") for number in range(400)]
    await eventually(lambda: len(cast.presence.open_users) == 400, within=5, sentence="all are open")
    cast.presence.refused_names.add("session.close")
    tasks = len(asyncio.all_tasks())
    for socket in sockets:
        cast.disconnect(socket)

    # When every one of them was refused ten times and more
    await eventually(lambda: cast.presence.refused >= 4_000, within=20, sentence="all are tried again")
    assert len(asyncio.all_tasks()) < tasks + 20, "there is a task per user"
    await settle()
    cast.presence.refused_names.clear()

    # Then all are reported in the end, and those who are here stay
    cast.connect("u0")
    await eventually(lambda: cast.presence.open_users == {"u0"}, within=5, sentence="all but one are closed")


@pytest.mark.usefixtures("no_pauses")
async def test_sessions_of_an_earlier_queue_are_dropped_however_long_the_broker_refuses_that() -> None:
    # Given a user who is open, and leaves while nothing can be reported
    cast = Cast()
    cast.sessions.register_all_again("new queue")
    ada = cast.connect("ada")
    await settle()
    cast.presence.refused_names |= {"session.close", "sessions.drop"}
    cast.presence.reports.clear()
    cast.disconnect(ada)
    await settle()

    # When the edge has a new queue, and the broker refuses what it says of the old one
    cast.sessions.register_all_again("new queue")
    await eventually(lambda: bool(cast.presence.reported(LeaseRenew)), within=5, sentence="the lease is renewed")
    await settle()
    assert cast.presence.open_users == {"ada"}

    # Then it is repeated until the broker takes it
    cast.presence.refused_names.clear()
    await eventually(lambda: not cast.presence.open_users, within=5, sentence="the old session is dropped")


@pytest.mark.usefixtures("no_pauses")
async def test_reports_that_wait_are_bounded_however_many_users_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an edge that keeps ten reports, and a hundred users who leave while the broker refuses those
    monkeypatch.setattr("edge.sessions.MAX_GONE", 10)
    cast = Cast()
    sockets = [cast.connect(f"u{number}") for number in range(101)]
    await eventually(lambda: len(cast.presence.open_users) == 101, within=5, sentence="all are open")
    cast.presence.refused_names |= {"session.close", "sessions.drop"}
    for socket in sockets[:100]:
        cast.disconnect(socket)
        await settle()
        assert len(cast.sessions._gone) <= 12

    # Then all of them are closed after the outage: the one who stays is registered again, and earlier epochs dropped
    cast.presence.refused_names.clear()
    await eventually(lambda: cast.presence.open_users == {"u100"}, within=5, sentence="one is open")


async def test_an_edge_that_stops_reports_all_users_as_gone_within_its_limit() -> None:
    # Given an edge with three users
    cast = Cast()
    for number in range(3):
        cast.connect(f"u{number}")
    await settle()

    # When it stops, then all are reported as gone
    await cast.sessions.report_all_closed(5_000, within=5)
    assert cast.presence.open_users == set()

    # And a report that nobody answers holds it up no longer than its limit
    cast.connect("ada")
    await settle()
    cast.presence.silent.add("ada")
    began = time.monotonic()
    await cast.sessions.report_all_closed(5_000, within=0.05)
    assert time.monotonic() - began < 2


@pytest.mark.usefixtures("no_pauses")
async def test_one_user_whose_registration_fails_does_not_keep_others_from_theirs() -> None:
    # Given 1,200 users of an edge with a new queue, one of whom cannot be registered any more
    cast = Cast()
    cast.sessions.register_all_again("new queue")
    sockets = [cast.connect(f"u{number}") for number in range(1_200)]
    await eventually(lambda: len(cast.presence.open_users) == 1_200, within=5, sentence="all are open")
    cast.presence.reports.clear()
    cast.presence.failing.add("u3")
    cast.sessions.register_all_again("new queue")

    # Then all others are registered, the sessions of the old queue are dropped, and the lease is renewed
    await eventually(lambda: bool(cast.presence.reported(SessionsDrop)), within=5, sentence="old sessions are dropped")
    await eventually(lambda: bool(cast.presence.reported(LeaseRenew)), within=5, sentence="the lease is renewed")
    assert cast.presence.open_users == {socket.user_id for socket in sockets} - {"u3"}
    assert not cast.presence.reported(SessionClose)

    # And that user's registration is repeated until it succeeds
    cast.presence.failing.clear()
    await eventually(lambda: "u3" in cast.presence.open_users, within=5, sentence="the user is open too")


# --- Restarts with the same edge id -----------------------------------------------------------------------


async def test_an_edge_whose_clock_went_back_continues_above_the_epoch_that_the_directory_has() -> None:
    # Given a directory in which an earlier process has an epoch of an hour from now
    cast = Cast(edge_id="e")
    later = int(time.time() * 1000) + 3_600_000
    cast.presence.newest_epoch = later

    # When a user connects to the edge with the same id
    cast.sessions.register_all_again("new queue")
    await settle()
    ada = cast.connect("ada")
    await eventually(lambda: cast.presence.open_users == {"ada"}, within=5, sentence="the user is open")

    # Then the user is registered above it, and the sessions up to it are dropped
    assert is_ready(ada)
    assert max(report.epoch for report in cast.presence.reported(SessionsDrop)) >= later


async def test_an_edge_with_a_fixed_id_drops_the_sessions_of_an_earlier_process() -> None:
    cast, other = Cast(edge_id="e"), Cast()
    for each in (cast, other):
        each.sessions.register_all_again("new queue")
    await settle()
    assert cast.presence.reported(SessionsDrop)
    assert not other.presence.reported(SessionsDrop), "a generated id has no earlier process"


def test_two_processes_with_the_same_edge_id_number_their_requests_differently() -> None:
    # A reply to the earlier process may arrive at the later one, and must not answer anybody there.
    first, second = (FakePresence().relay.next_request() for _ in range(2))
    assert first != second
