"""The gateway's connections: who may connect, how many, and when a socket ends."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from contracts.acks import Nothing, SessionOpened
from contracts.codec import encode_ok
from contracts.frames import Reply
from contracts.models import User
from contracts.reports import SessionClose, SessionOpen
from edge.gateway import TOO_MANY_CONNECTIONS
from tests.support.waiting import eventually
from tests.unit.edge.fakes import settle
from tests.unit.edge.gateway_alone import GatewayAlone


def connects(outcome: str) -> float:
    return REGISTRY.get_sample_value("warren_edge_connects_total", {"outcome": outcome}) or 0.0


async def test_a_socket_is_told_that_it_is_ready_once_its_user_is_registered(edge: GatewayAlone) -> None:
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
async def test_auth_without_a_good_token_is_refused(edge: GatewayAlone, auth: object) -> None:
    data = await edge.refusal(auth=auth)
    assert (data["code"], data["retryable"]) == ("unauthorized", False)
    assert data["message"]
    assert edge.sockets.by_sid == {}


async def test_an_expired_token_is_refused_and_counted_as_such(edge: GatewayAlone) -> None:
    before = connects("token_expired")
    assert (await edge.refusal(exp=int(time.time()) - 60))["code"] == "token_expired"
    assert connects("token_expired") == before + 1


async def test_a_user_has_room_for_so_many_sockets_and_an_edge_for_so_many(small_edge: GatewayAlone) -> None:
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


async def test_an_edge_that_drains_takes_no_new_socket_and_serves_those_it_has(edge: GatewayAlone) -> None:
    engine = await edge.connect()
    edge.gateway.draining = True
    assert (await edge.refusal(user_id="bob"))["code"] == "too_many_connections"
    edge.gateway.event("s1", 1, "no_such_event", [])
    assert engine.ack(1)["error"]["code"] == "unknown_event"


def test_a_socket_that_is_refused_before_its_token_gets_the_same_connect_error() -> None:
    assert TOO_MANY_CONNECTIONS.startswith('44{"message": "too_many_connections", "data": {"code": "too_many_connec')


async def test_a_user_whose_last_socket_closed_is_reported_as_gone_after_the_grace(edge: GatewayAlone) -> None:
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
    edge: GatewayAlone, monkeypatch: pytest.MonkeyPatch
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


async def test_a_token_of_many_days_needs_no_timer_longer_than_a_day(edge: GatewayAlone) -> None:
    await edge.connect(exp=int(time.time()) + 10_000_000)
    timer = edge.sockets.by_sid["s1"].expiry
    assert timer is not None
    assert timer.when() - asyncio.get_running_loop().time() <= 86_400
