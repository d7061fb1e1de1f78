"""SessionRegistry: an edge knows whether anybody would register its users."""

import time

import pytest
from prometheus_client import REGISTRY

from contracts.acks import LeaseRenewed
from contracts.codec import encode_ok
from contracts.frames import Reply
from edge.relay import Relay
from edge.sessions import MISSED_RENEWALS, SessionRegistry
from edge.sockets import Sockets
from infra.settings import EdgeSettings
from tests.unit.edge.fakes import FakePublisher, settle


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
        relay.resolve(Reply(request=request, ack=encode_ok(LeaseRenewed(known=True))))

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
