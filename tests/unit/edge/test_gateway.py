"""The gateway's events: what becomes of each, and that each is acked once."""

import time
from typing import Any

import pytest

from contracts.commands import SendMessage, StartConversation
from contracts.frames import Reply
from tests.support.waiting import eventually
from tests.unit.edge.fakes import settle
from tests.unit.edge.gateway_alone import MESSAGE, GatewayAlone, token

# --- Events that are relayed ------------------------------------------------------------------------------


async def test_an_event_leaves_as_a_command_of_the_one_who_sent_it(edge: GatewayAlone) -> None:
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


async def test_an_event_without_an_ack_id_is_relayed_and_not_acked(edge: GatewayAlone) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", None, "send_message", [MESSAGE])
    edge.gateway.event("s1", None, "no_such_event", [])
    await settle()
    (command,) = edge.sent(SendMessage)
    edge.relay.resolve(Reply(request=command.request, ack='{"ok":true}'))
    assert engine.sent == []
    assert edge.sockets.by_sid["s1"].in_flight == 0


async def test_each_start_has_a_nonce_that_nobody_can_guess(edge: GatewayAlone) -> None:
    await edge.connect()
    for _ in range(2):
        edge.gateway.event("s1", 1, "start_conversation", [{"participant_ids": ["bob"]}])
        await settle()
    first, second = edge.sent(StartConversation)
    assert len(first.nonce) == 32
    assert first.nonce != second.nonce


async def test_messages_to_one_conversation_wait_for_each_other(edge: GatewayAlone) -> None:
    await edge.connect()
    for number in range(3):
        edge.gateway.event("s1", number, "send_message", [{**MESSAGE, "client_message_id": f"m{number}"}])
    await settle()
    (first,) = edge.sent(SendMessage)
    edge.relay.resolve(Reply(request=first.request, ack='{"ok":true}'))
    await settle()
    assert [command.payload.client_message_id for command in edge.sent(SendMessage)] == ["m0", "m1", "m2"]


async def test_an_event_that_needs_nothing_may_come_without_a_payload(edge: GatewayAlone) -> None:
    await edge.connect()
    edge.gateway.event("s1", 1, "list_conversations", [])
    await settle()
    assert len(edge.publisher.bundles) == 2, "the report of the session, and the command"


async def test_typing_is_acked_as_accepted_when_nobody_answers(
    edge: GatewayAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.gateway.TYPING_TIMEOUT", 0.01)
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "typing", [{"conversation_id": "c1", "typing": True}])
    await eventually(lambda: engine.sent, sentence="typing is acked")
    assert engine.ack(1) == {"ok": True, "data": {}}


async def test_an_ack_for_a_socket_that_is_gone_harms_nobody(edge: GatewayAlone) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "send_message", [MESSAGE])
    await settle()
    edge.gateway.disconnect("s1", "transport close")
    (command,) = edge.sent(SendMessage)
    edge.relay.resolve(Reply(request=command.request, ack='{"ok":true}'))
    assert len(engine.sent) == 1, "the connection drops it"


# --- Events that are refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no_such_event", "", "connect", "disconnect", "new_message", None, 7, ["typing"], {}])
async def test_what_is_no_event_is_an_unknown_event(edge: GatewayAlone, name: object) -> None:
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
    edge: GatewayAlone, arguments: list[object], field: str
) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "send_message", arguments)
    error = engine.ack(1)["error"]
    assert error["code"] == "invalid_payload"
    assert field in [detail["field"] for detail in error["details"]]
    assert edge.sent(SendMessage) == []


async def test_an_event_of_a_socket_that_is_not_there_is_dropped(edge: GatewayAlone) -> None:
    edge.gateway.event("nobody", 1, "send_message", [MESSAGE])
    edge.gateway.too_large("nobody", 1)
    await settle()
    assert edge.publisher.bundles == []


async def test_a_user_who_goes_on_beyond_the_rate_is_cut_off() -> None:
    gateway = GatewayAlone(rate_limit=1, rate_burst=2, frame_rate=2, frame_burst=4)
    sockets = [await gateway.connect(sid) for sid in ("s1", "s2", "s3")]
    for sid in ["s1", "s2"] * 3:
        gateway.gateway.event(sid, 1, "nothing", [])
    # Two of six are within the rate, and four are answered all the same
    assert [engine.evicted for engine in sockets] == ["", "", ""]
    gateway.gateway.event("s2", 1, "nothing", [])
    assert [engine.evicted for engine in sockets] == ["", "its user sends too many events", ""]
    await gateway.stop()


async def test_events_beyond_the_rate_are_refused_whatever_they_are(small_edge: GatewayAlone) -> None:
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


async def test_so_many_events_may_wait_for_their_ack(small_edge: GatewayAlone) -> None:
    # Given a socket with as many unanswered events as it may have
    engine = await small_edge.connect()
    for number in (1, 2, 3):
        small_edge.gateway.event("s1", number, "send_message", [{**MESSAGE, "client_message_id": f"m{number}"}])

    # Then the next one is refused at once, and those before are not
    error = engine.ack(3)["error"]
    assert (error["code"], error["retry_after_ms"]) == ("rate_limited", 1_000)
    assert len(engine.sent) == 1


async def test_an_event_after_the_token_has_expired_is_refused(
    edge: GatewayAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await edge.connect()
    later = time.time() + 3_600
    monkeypatch.setattr("edge.gateway.time.time", lambda: later)
    edge.gateway.event("s1", 1, "send_message", [MESSAGE])
    assert engine.ack(1)["error"]["code"] == "token_expired"


async def test_a_bug_of_ours_is_acked_as_internal_with_the_id_under_which_it_is_in_the_log(
    edge: GatewayAlone, caplog: pytest.LogCaptureFixture
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


async def test_events_are_refused_while_the_broker_is_away(edge: GatewayAlone) -> None:
    engine = await edge.connect()
    edge.publisher.link.channel = None
    edge.gateway.event("s1", 1, "send_message", [MESSAGE])
    error = engine.ack(1)["error"]
    assert (error["code"], error["retryable"]) == ("unavailable", True)


# --- refresh_token ----------------------------------------------------------------------------------------


async def test_a_new_token_of_the_same_user_moves_the_expiry(edge: GatewayAlone) -> None:
    engine = await edge.connect()
    later = int(time.time()) + 7_200
    edge.gateway.event("s1", 1, "refresh_token", [{"token": token(exp=later)}])
    ack = engine.ack(1)
    assert ack["ok"] is True
    assert ack["data"]["expires_at"].endswith("Z")
    assert edge.sockets.by_sid["s1"].identity.expires_at == later
    assert len(edge.publisher.bundles) == 1, "no worker is asked"


@pytest.mark.parametrize("exp", [int(time.time()) * 1000, 10**300], ids=["in milliseconds", "largest"])
async def test_a_token_that_expires_after_every_date_expires_in_the_year_9999(edge: GatewayAlone, exp: int) -> None:
    engine = await edge.connect()
    edge.gateway.event("s1", 1, "refresh_token", [{"token": token(exp=exp)}])
    assert engine.ack(1)["data"]["expires_at"] == "9999-12-31T23:59:59.000Z"


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
async def test_any_other_token_is_refused_and_changes_nothing(edge: GatewayAlone, other: Any, code: str) -> None:
    engine = await edge.connect()
    before = edge.sockets.by_sid["s1"].identity
    edge.gateway.event("s1", 1, "refresh_token", [{"token": other()}])
    assert engine.ack(1)["error"]["code"] == code
    assert edge.sockets.by_sid["s1"].identity == before
