"""The gateway: who may connect, what becomes of each event, and that each is acked once."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused

from contracts.acks import Nothing, SessionOpened
from contracts.codec import encode_ok
from contracts.commands import SendMessage, StartConversation
from contracts.frames import Reply
from contracts.models import User
from contracts.reports import SessionClose, SessionOpen
from edge.auth import TokenVerifier
from edge.gateway import TOO_MANY_CONNECTIONS, Gateway
from edge.lanes import Lanes
from edge.relay import Relay
from edge.sessions import SessionRegistry
from edge.sockets import Sockets
from infra.settings import EdgeSettings
from tests.support.forged_tokens import claims, forge
from tests.support.waiting import eventually
from tests.unit.edge.fakes import FakeEngine, FakePublisher, settle

SECRET = "a secret of at least 32 bytes, really"
MESSAGE = {"conversation_id": "c1", "client_message_id": "m1", "body": "hello"}


def token(user_id: str = "ada", **changes: Any) -> str:
    return forge({"alg": "HS256"}, claims(user_id, **changes), SECRET.encode())


class Edge:
    """A gateway with all that stands behind it, up to the broker and the connections."""

    def __init__(self, **settings: object) -> None:
        self.settings = EdgeSettings.model_validate({"jwt_secret": SECRET, "session_grace": 0.01, **settings})
        self.publisher = FakePublisher()
        self.relay = Relay(self.publisher, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]
        self.sockets = Sockets(rate=self.settings.rate_limit, burst=self.settings.rate_burst)
        self.sessions = SessionRegistry("edge-1", self.relay, self.sockets, self.settings)
        self.gateway = Gateway(
            "edge-1",
            self.settings,
            tokens=TokenVerifier(self.settings),
            sockets=self.sockets,
            sessions=self.sessions,
            relay=self.relay,
            lanes=Lanes(self.relay),
        )
        self._sweeping = asyncio.create_task(self.relay.run())

    async def connect(self, sid: str = "s1", auth: object = None, **changes: Any) -> FakeEngine:
        """Connect a socket of ada's, or with other auth. Raises ConnectionRefused."""
        engine = FakeEngine()
        auth = {"token": token(**changes)} if auth is None else auth
        await self.gateway.connect(sid, engine, auth)  # type: ignore[arg-type]
        await settle()
        return engine

    async def refusal(self, sid: str = "s9", auth: object = None, **changes: Any) -> dict[str, Any]:
        """The data of the `connect_error` that a connection gets."""
        with pytest.raises(ConnectionRefused) as refused:
            await self.connect(sid, auth, **changes)
        error: dict[str, Any] = refused.value.error_args
        assert error["message"] == error["data"]["code"], "err.message is the code"
        data: dict[str, Any] = error["data"]
        return data

    def sent(self, kind: type) -> list[Any]:
        """The commands of a kind that were published, in order."""
        return [command for bundle in self.publisher.bundles for command in bundle if isinstance(command, kind)]

    async def stop(self) -> None:
        self._sweeping.cancel()
        await asyncio.wait([self._sweeping])


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[Edge]:
    edge = Edge()
    yield edge
    await edge.stop()


@pytest_asyncio.fixture
async def small_edge() -> AsyncIterator[Edge]:
    """An edge with little room and low limits."""
    edge = Edge(max_connections_per_user=1, max_connections=2, rate_limit=1, rate_burst=3, max_in_flight=2)
    yield edge
    await edge.stop()


def connects(outcome: str) -> float:
    return REGISTRY.get_sample_value("warren_edge_connects_total", {"outcome": outcome}) or 0.0


# --- Connections ------------------------------------------------------------------------------------------


async def test_a_socket_is_told_that_it_is_ready_once_its_user_is_registered(edge: Edge) -> None:
    # Given a socket with a good token, then its user is reported to the presence workers
    before = connects("ok")
    engine = await edge.connect(name="Ada")
    (report,) = edge.sent(SessionOpen)
    assert (report.edge_id, report.user_id, report.user_name) == ("edge-1", "ada", "Ada")
    assert connects("ok") == before + 1
    assert engine.sent == []

    # When they have answered, then the socket is told
    opened = SessionOpened(user=User(id="ada", name="Ada", picture=None))
    edge.relay.resolve(Reply(request=report.request, ack=encode_ok(opened)))
    await settle()
    (ready,) = engine.sent
    assert ready.startswith('42["session_ready",{"user":{"id":"ada","name":"Ada","picture":null},"edge_id":"edge-1"')


@pytest.mark.parametrize(
    "auth", [7, "token", [], {}, {"token": None}, {"token": 7}, {"Token": "x"}, {"token": "a.b.c"}]
)
async def test_auth_without_a_good_token_is_refused(edge: Edge, auth: object) -> None:
    data = await edge.refusal(auth=auth)
    assert (data["code"], data["retryable"]) == ("unauthorized", False)
    assert data["message"]
    assert edge.sockets.by_sid == {}


async def test_an_expired_token_is_refused_and_counted_as_such(edge: Edge) -> None:
    before = connects("token_expired")
    assert (await edge.refusal(exp=int(time.time()) - 60))["code"] == "token_expired"
    assert connects("token_expired") == before + 1


async def test_a_user_has_room_for_so_many_sockets_and_an_edge_for_so_many(small_edge: Edge) -> None:
    # Given an edge with room for one socket a user, and for two in all
    await small_edge.connect("s1")

    # Then a second one of the user is refused for now, and a third one of anybody
    data = await small_edge.refusal()
    assert (data["code"], data["retryable"]) == ("too_many_connections", True)
    await small_edge.connect("s2", user_id="bob")
    assert (await small_edge.refusal(user_id="cy"))["code"] == "too_many_connections"

    # And there is room again when one has closed
    small_edge.gateway.disconnect("s1", "transport close")
    await small_edge.connect("s3", user_id="cy")
    assert set(small_edge.sockets.by_sid) == {"s2", "s3"}


async def test_an_edge_that_drains_takes_no_new_socket_and_serves_those_it_has(edge: Edge) -> None:
    engine = await edge.connect()
    edge.gateway.draining = True
    assert (await edge.refusal(user_id="bob"))["code"] == "too_many_connections"
    edge.gateway.event("s1", 1, "no_such_event", [])
    assert engine.ack(1)["error"]["code"] == "unknown_event"


def test_a_socket_that_is_refused_before_its_token_gets_the_same_connect_error() -> None:
    assert TOO_MANY_CONNECTIONS.startswith('44{"message": "too_many_connections", "data": {"code": "too_many_connec')


async def test_a_user_whose_last_socket_closed_is_reported_as_gone_after_the_grace(edge: Edge) -> None:
    # Given a user with two sockets
    for sid in ("s1", "s2"):
        await edge.connect(sid)
    opened = encode_ok(SessionOpened(user=User(id="ada", name="ada", picture=None)))
    edge.relay.resolve(Reply(request=edge.sent(SessionOpen)[0].request, ack=opened))

    # When one closes, then nothing is said; when the other does, then it is, once
    edge.gateway.disconnect("s1", "transport close")
    await asyncio.sleep(2 * edge.settings.session_grace)
    assert edge.sent(SessionClose) == []
    for _ in range(2):  # the library may say it twice
        edge.gateway.disconnect("s2", "transport close")
    await eventually(lambda: edge.sent(SessionClose), sentence="the user is reported as gone")
    (report,) = edge.sent(SessionClose)
    assert report.user_id == "ada"
    edge.relay.resolve(Reply(request=report.request, ack=encode_ok(Nothing())))
    assert edge.sockets.users == {}


async def test_a_socket_is_disconnected_for_good_when_its_token_expires(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a socket whose token ends within the second
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("edge.gateway.time.time", lambda: now + 600)
        engine = await edge.connect(exp=int(now) + 600)

    # Then it gets Socket.IO's own disconnect, after which no client comes back by itself
    await eventually(lambda: engine.sent, sentence="the socket is disconnected")
    assert engine.sent == ["41"]
    assert engine.closing


async def test_a_token_of_many_days_needs_no_timer_longer_than_a_day(edge: Edge) -> None:
    await edge.connect(exp=int(time.time()) + 10_000_000)
    timer = edge.sockets.by_sid["s1"].expiry
    assert timer is not None
    assert timer.when() - asyncio.get_running_loop().time() <= 86_400


# --- Events that are relayed ------------------------------------------------------------------------------


async def test_an_event_leaves_as_a_command_of_the_one_who_sent_it(edge: Edge) -> None:
    # Given a socket, and an event that it wants an ack for
    engine = await edge.connect()
    edge.gateway.event("s1", 7, "send_message", [MESSAGE])
    await settle()

    # Then the command says who sent it, by the token, and by which socket
    (command,) = edge.sent(SendMessage)
    assert (command.edge_id, command.user_id, command.sid) == ("edge-1", "ada", "s1")
    assert command.payload.model_dump() == MESSAGE
    assert abs(command.at - time.time() * 1000) < 5_000

    # And the worker's reply becomes the ack, as it is
    edge.relay.resolve(Reply(request=command.request, ack='{"ok":true,"data":{"as":"it is"}}'))
    assert engine.sent == ['437[{"ok":true,"data":{"as":"it is"}}]']


async def test_an_event_without_an_ack_id_is_relayed_and_not_acked(edge: Edge) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", None, "send_message", [MESSAGE])
    edge.gateway.event("s1", None, "no_such_event", [])
    await settle()
    (command,) = edge.sent(SendMessage)
    edge.relay.resolve(Reply(request=command.request, ack='{"ok":true}'))
    assert engine.sent == []
    assert edge.sockets.by_sid["s1"].in_flight == 0


async def test_each_start_has_a_nonce_that_nobody_can_guess(edge: Edge) -> None:
    await edge.connect()
    for _ in range(2):
        edge.gateway.event("s1", 1, "start_conversation", [{"participant_ids": ["bob"]}])
        await settle()
    first, second = edge.sent(StartConversation)
    assert len(first.nonce) == 32
    assert first.nonce != second.nonce


async def test_messages_to_one_conversation_wait_for_each_other(edge: Edge) -> None:
    await edge.connect()
    for number in range(3):
        edge.gateway.event("s1", number, "send_message", [{**MESSAGE, "client_message_id": f"m{number}"}])
    await settle()
    (first,) = edge.sent(SendMessage)
    edge.relay.resolve(Reply(request=first.request, ack='{"ok":true}'))
    await settle()
    assert [command.payload.client_message_id for command in edge.sent(SendMessage)] == ["m0", "m1", "m2"]


async def test_an_event_that_needs_nothing_may_come_without_a_payload(edge: Edge) -> None:
    await edge.connect()
    edge.gateway.event("s1", 1, "list_conversations", [])
    await settle()
    assert len(edge.publisher.bundles) == 2, "the report of the session, and the command"


async def test_typing_is_acked_as_accepted_when_nobody_answers(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.gateway.TYPING_TIMEOUT", 0.01)
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "typing", [{"conversation_id": "c1", "typing": True}])
    await eventually(lambda: engine.sent, sentence="typing is acked")
    assert engine.ack(1) == {"ok": True, "data": {}}


async def test_an_ack_for_a_socket_that_is_gone_harms_nobody(edge: Edge) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "send_message", [MESSAGE])
    await settle()
    edge.gateway.disconnect("s1", "transport close")
    (command,) = edge.sent(SendMessage)
    edge.relay.resolve(Reply(request=command.request, ack='{"ok":true}'))
    assert len(engine.sent) == 1, "the connection drops it"


# --- Events that are refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no_such_event", "", "connect", "disconnect", "new_message", None, 7, ["typing"], {}])
async def test_what_is_no_event_is_an_unknown_event(edge: Edge, name: object) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", 1, name, [{}])
    assert engine.ack(1)["error"]["code"] == "unknown_event"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([{**MESSAGE, "body": " "}], "body"),
        ([{**MESSAGE, "sender_id": "bob"}], "sender_id"),
        ([{}], "conversation_id"),
        ([None], "payload"),
        (["text"], "payload"),
        ([MESSAGE, MESSAGE], "payload"),
    ],
)
async def test_a_payload_that_does_not_match_is_refused_by_the_name_of_its_field(
    edge: Edge, arguments: list[object], field: str
) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "send_message", arguments)
    error = engine.ack(1)["error"]
    assert error["code"] == "invalid_payload"
    assert field in [detail["field"] for detail in error["details"]]
    assert edge.sent(SendMessage) == []


async def test_an_event_of_a_socket_that_is_not_there_is_dropped(edge: Edge) -> None:
    edge.gateway.event("nobody", 1, "send_message", [MESSAGE])
    edge.gateway.too_large("nobody", 1)
    await settle()
    assert edge.publisher.bundles == []


async def test_events_beyond_the_rate_are_refused_whatever_they_are(small_edge: Edge) -> None:
    # Given a user who may send three events at once
    engine = await small_edge.connect()

    # When more come, good or bad, then those beyond are refused and told when to come back
    small_edge.gateway.event("s1", 1, "no_such_event", [])
    small_edge.gateway.event("s1", 2, "send_message", [{}])
    small_edge.gateway.too_large("s1", 3)
    small_edge.gateway.too_large("s1", 4)
    small_edge.gateway.event("s1", 5, "no_such_event", [])
    codes = [engine.ack(number)["error"]["code"] for number in range(1, 6)]
    assert codes == ["unknown_event", "invalid_payload", "too_large", "rate_limited", "rate_limited"]
    assert 0 < engine.ack(5)["error"]["retry_after_ms"] <= 1_001


async def test_so_many_events_may_wait_for_their_ack(small_edge: Edge) -> None:
    # Given a socket with as many unanswered events as it may have
    engine = await small_edge.connect()
    for number in (1, 2, 3):
        small_edge.gateway.event("s1", number, "send_message", [{**MESSAGE, "client_message_id": f"m{number}"}])

    # Then the next one is refused at once, and those before are not
    error = engine.ack(3)["error"]
    assert (error["code"], error["retry_after_ms"]) == ("rate_limited", 1_000)
    assert len(engine.sent) == 1


async def test_an_event_after_the_token_has_expired_is_refused(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await edge.connect()
    later = time.time() + 3_600
    monkeypatch.setattr("edge.gateway.time.time", lambda: later)
    edge.gateway.event("s1", 1, "send_message", [MESSAGE])
    assert engine.ack(1)["error"]["code"] == "token_expired"


async def test_a_bug_of_ours_is_acked_as_internal_with_the_id_under_which_it_is_in_the_log(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an edge that has a bug
    engine = await edge.connect()
    edge.publisher.link = None  # type: ignore[assignment]

    # When an event meets it, then its sender can tell us which one it was
    edge.gateway.event("s1", 1, "list_conversations", [])
    error = engine.ack(1)["error"]
    assert (error["code"], error["retryable"]) == ("internal", True)
    assert error["details"][0]["id"] in caplog.text
    assert "hello" not in caplog.text


async def test_events_are_refused_while_the_broker_is_away(edge: Edge) -> None:
    engine = await edge.connect()
    edge.publisher.link.channel = None
    edge.gateway.event("s1", 1, "send_message", [MESSAGE])
    error = engine.ack(1)["error"]
    assert (error["code"], error["retryable"]) == ("unavailable", True)


# --- refresh_token ----------------------------------------------------------------------------------------


async def test_a_new_token_of_the_same_user_moves_the_expiry(edge: Edge) -> None:
    engine = await edge.connect()
    later = int(time.time()) + 7_200
    edge.gateway.event("s1", 1, "refresh_token", [{"token": token(exp=later)}])
    ack = engine.ack(1)
    assert ack["ok"] is True
    assert ack["data"]["expires_at"].endswith("Z")
    assert edge.sockets.by_sid["s1"].identity.expires_at == later
    assert len(edge.publisher.bundles) == 1, "no worker is asked"


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (lambda: token("bob", exp=int(time.time()) + 7_200), "unauthorized"),
        (lambda: "nonsense", "unauthorized"),
        (lambda: token(exp=int(time.time()) - 60), "token_expired"),
        (lambda: token(exp=int(time.time()) + 10), "invalid_payload"),
        (lambda: "", "invalid_payload"),
    ],
    ids=["another user's", "nonsense", "expired", "sooner", "empty"],
)
async def test_any_other_token_is_refused_and_changes_nothing(edge: Edge, other: Any, code: str) -> None:
    engine = await edge.connect()
    before = edge.sockets.by_sid["s1"].identity
    edge.gateway.event("s1", 1, "refresh_token", [{"token": other()}])
    assert engine.ack(1)["error"]["code"] == code
    assert edge.sockets.by_sid["s1"].identity == before
