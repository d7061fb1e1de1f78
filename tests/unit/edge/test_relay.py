"""The relay: bundles while the broker confirms, answers everything exactly once."""

import asyncio

import pytest

from contracts.errors import BrokerUnavailable, MessageTooLarge, PublishUnknown, Unroutable, WarrenError
from contracts.frames import Reply
from contracts.reports import SessionOpen, SessionsDrop
from edge.relay import BUNDLE_ITEMS, MAX_UNCONFIRMED, MAX_WAITING, Relay
from tests.support.answers import Answers
from tests.support.waiting import eventually
from tests.unit.edge.fakes import FakePublisher, message, settle, typing


async def test_an_idle_broker_gets_each_command_at_once(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    relay.send([message(1)], [answers.of(1)])
    await settle()
    assert [[c.request for c in bundle] for bundle in publisher.bundles] == [[1]]


async def test_what_comes_while_the_broker_confirms_travels_together(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    for request in range(1, MAX_UNCONFIRMED + 1):
        relay.send([message(request)], [answers.of(request)])
        await settle()
    for request in range(10, 15):
        relay.send([message(request)], [answers.of(request)])
    await settle()
    assert len(publisher.bundles) == MAX_UNCONFIRMED
    await publisher.confirm()
    assert [c.request for c in publisher.bundles[-1]] == [10, 11, 12, 13, 14]


async def test_commands_that_were_sent_together_stay_together(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    groups = [[message(100 * g + n) for n in range(40)] for g in range(4)]
    for group in groups:
        relay.send(group, [answers.of(c.request) for c in group])
    await settle()
    assert all(len(bundle) <= BUNDLE_ITEMS for bundle in publisher.bundles)
    bundle_of = {c.request: n for n, bundle in enumerate(publisher.bundles) for c in bundle}
    for group in groups[:4]:
        sent = [bundle_of[c.request] for c in group if c.request in bundle_of]
        assert len(set(sent)) <= 1, "a group was torn apart"


async def test_a_reply_is_handed_out_once(relay: Relay, answers: Answers) -> None:
    relay.send([message(1)], [answers.of(1)])
    for _ in range(2):
        relay.resolve(Reply(request=1, ack='{"ok":true,"data":{}}'))
    assert answers.acks == {1: ['{"ok":true,"data":{}}']}
    assert relay.pending == 0


@pytest.mark.parametrize("error", [BrokerUnavailable("full"), Unroutable("no queue")])
async def test_what_the_broker_did_not_accept_is_unavailable(
    relay: Relay, publisher: FakePublisher, answers: Answers, error: WarrenError
) -> None:
    relay.send([message(1)], [answers.of(1)])
    await settle()
    await publisher.confirm(error)
    assert answers.code(1) == "unavailable"


def opened(request: int, name: str) -> SessionOpen:
    """A user's registration, as an edge relays it."""
    return SessionOpen.model_construct(
        edge_id="e", request=request, at=0, epoch=1, version=1, user_id=f"u{request}", user_name=name, picture=None
    )


async def test_a_command_that_cannot_be_encoded_fails_alone(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    # Given registrations that leave in one bundle, and half a surrogate pair in a name
    for request, name in enumerate(["Ada", "Eve \ud83d", "Bob"], 1):
        relay.send([opened(request, name)], [answers.of(request)])
    await settle()

    # Then that one is answered at once, and the others are sent
    assert answers.code(2) == "internal"
    assert [[command.request for command in bundle] for bundle in publisher.bundles] == [[1, 3]]
    await publisher.confirm()

    # And one that is alone leaves nothing to send
    relay.send([opened(4, "\ud83d")], [answers.of(4)])
    await settle()
    assert answers.code(4) == "internal"
    assert len(publisher.bundles) == 1


async def test_an_error_that_nobody_expected_is_answered_and_the_next_commands_go_on(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    relay.send([message(1)], [answers.of(1)])
    await settle()
    await publisher.confirm(MessageTooLarge("20 MB"))
    assert answers.code(1) == "internal"
    relay.send([message(2)], [answers.of(2)])
    await settle()
    assert [command.request for command in publisher.bundles[-1]] == [2]


async def test_what_is_not_confirmed_waits_for_its_reply(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    relay.send([message(1)], [answers.of(1)])
    await settle()
    await publisher.confirm(PublishUnknown("connection lost"))
    assert answers.acks == {}, "the message may be there: nobody may be told that it is not"
    relay.resolve(Reply(request=1, ack='{"ok":true}'))
    assert answers.acks == {1: ['{"ok":true}']}


async def test_what_waits_for_a_reply_is_resent_in_its_groups_and_answered_once(
    relay: Relay, publisher: FakePublisher, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    # Given three messages that were sent together, of which one is answered, a typing notice, and an edge's own report
    relay.send([message(n) for n in (1, 2, 3)], [answers.of(n) for n in (1, 2, 3)])
    relay.send([typing(4)], [answers.of(4)])
    relay.send([SessionsDrop(edge_id="e", epoch=1, request=5, at=0)], [answers.of(5)])
    await settle()
    for _ in range(3):
        await publisher.confirm()
    relay.resolve(Reply(request=1, ack='{"ok":true}'))

    # When a connection is back, then what may be lost and is worth it goes out again, together
    relay.resend_pending()
    await settle()
    assert [[command.request for command in bundle] for bundle in publisher.bundles[3:]] == [[2, 3]]
    assert caplog.messages == ["Resent 2 commands: they or their replies may be lost with a broken connection."]

    # And the first of two replies counts
    for _ in range(2):
        relay.resolve(Reply(request=2, ack='{"ok":true}'))
    assert answers.acks[2] == ['{"ok":true}']


@pytest.mark.parametrize("error", [BrokerUnavailable("full"), Unroutable("no queue")])
async def test_what_may_be_there_is_resent_and_never_said_to_be_refused(
    relay: Relay, publisher: FakePublisher, answers: Answers, error: WarrenError
) -> None:
    # Given two messages that were sent together, and no confirm
    relay.send([message(1), message(2)], [answers.of(1), answers.of(2)])
    await settle()
    await publisher.confirm(PublishUnknown("no confirm in time"))
    # When they are sent again, and refused, then that says nothing about the first time
    await eventually(lambda: len(publisher.bundles) == 2, within=5, sentence="they are sent again")
    await publisher.confirm(error)
    assert answers.acks == {}, "the first may have been accepted: nobody may be told that nothing was"
    # And they are sent once more, those that still wait
    relay.resolve(Reply(request=1, ack='{"ok":true}'))
    await eventually(lambda: len(publisher.bundles) == 3, within=5, sentence="what still waits is sent once more")
    assert [command.request for command in publisher.bundles[2]] == [2]


async def test_no_reply_in_time_is_a_timeout(
    publisher: FakePublisher, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    relay = Relay(publisher, reply_timeout=0.01, can_receive_replies=lambda: True)  # type: ignore[arg-type]
    running = asyncio.create_task(relay.run())
    relay.send([message(1)], [answers.of(1)])
    relay.send([message(2)], [answers.of(2)], timeout_ack='{"ok":true}')
    await eventually(lambda: not relay.pending, within=5, sentence="both are overdue")
    running.cancel()
    assert answers.code(1) == "timeout"
    assert answers.acks[2] == ['{"ok":true}']
    assert caplog.messages == ["2 send_message commands had no reply in time: their workers are away or behind."]


async def test_only_the_timeout_of_a_message_names_its_client_message_id(
    publisher: FakePublisher, answers: Answers
) -> None:
    relay = Relay(publisher, reply_timeout=0.01, can_receive_replies=lambda: True)  # type: ignore[arg-type]
    running = asyncio.create_task(relay.run())
    relay.send([message(1)], [answers.of(1)])
    relay.send([opened(2, "Ada")], [answers.of(2)])
    await eventually(lambda: not relay.pending, within=5, sentence="both are overdue")
    running.cancel()
    assert [answers.code(request) for request in (1, 2)] == ["timeout", "timeout"]
    assert ["client_message_id" in answers.acks[request][0] for request in (1, 2)] == [True, False]


async def test_a_broker_that_is_away_is_told_of_at_once(
    publisher: FakePublisher, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an edge that no reply can reach
    deaf = Relay(publisher, reply_timeout=10, can_receive_replies=lambda: False)  # type: ignore[arg-type]
    deaf.send([message(1)], [answers.of(1)])
    assert answers.code(1) == "unavailable"

    # And one that cannot publish
    publisher.link.channel = None
    mute = Relay(publisher, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]
    for _ in range(2):  # the log says it once
        mute.send([message(3)], [lambda _: None])
    mute.send([message(2)], [answers.of(2)])

    # Then both refuse at once, say why, once, and publish nothing
    assert caplog.messages == [
        "Commands are refused as unavailable: the connection for replies is down.",
        "Commands are refused as unavailable: no connection to the broker.",
    ]
    assert answers.code(2) == "unavailable"
    assert publisher.bundles == []


async def test_what_waits_for_the_broker_is_bounded(relay: Relay, answers: Answers) -> None:
    for request in range(1, MAX_WAITING + 2):
        relay.send([message(request)], [answers.of(request)])
    assert answers.code(MAX_WAITING + 1) == "unavailable"
    assert 1 not in answers.acks
