"""Lanes: messages of one socket to one conversation never overtake each other."""

import gc

from contracts.errors import BrokerUnavailable
from edge.lanes import MAX_GROUP, Lane, Lanes
from edge.relay import Relay
from tests.support.answers import Answers
from tests.unit.edge.fakes import FakePublisher, message, ok, settle


async def test_a_lane_has_one_group_on_its_way_and_the_rest_follows_together(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    # Given five messages of one lane, then the first leaves alone
    lanes = Lanes(relay)
    for request in range(1, 6):
        lanes.send(message(request), answers.of(request))
    await settle()
    assert [[c.request for c in bundle] for bundle in publisher.bundles] == [[1]]

    # When it is stored, then the others follow together
    relay.resolve(ok(1))
    await settle()
    assert [c.request for c in publisher.bundles[1]] == [2, 3, 4, 5]

    # And the next waits for the last of them
    for request in (5, 4, 3):
        relay.resolve(ok(request))
    lanes.send(message(6), answers.of(6))
    await settle()
    assert len(publisher.bundles) == 2, "message 6 overtook message 2"
    relay.resolve(ok(2))
    await publisher.confirm()
    assert [c.request for c in publisher.bundles[2]] == [6]


async def test_lanes_do_not_wait_for_each_other(relay: Relay, publisher: FakePublisher, answers: Answers) -> None:
    lanes = Lanes(relay)
    lanes.send(message(1, conversation_id="c1"), answers.of(1))
    lanes.send(message(2, conversation_id="c2"), answers.of(2))
    lanes.send(message(3, sid="s2"), answers.of(3))
    await settle()
    assert sorted(c.request for bundle in publisher.bundles for c in bundle) == [1, 2, 3]


async def test_a_lane_goes_on_after_a_refusal(relay: Relay, publisher: FakePublisher, answers: Answers) -> None:
    lanes = Lanes(relay)
    lanes.send(message(1), answers.of(1))
    lanes.send(message(2), answers.of(2))
    await settle()
    await publisher.confirm(BrokerUnavailable("full"))
    assert answers.code(1) == "unavailable"
    assert [c.request for c in publisher.bundles[1]] == [2]


async def test_a_group_has_a_largest_size_and_the_next_one_takes_the_rest(
    relay: Relay, publisher: FakePublisher, answers: Answers
) -> None:
    # Given a message on its way, and more behind it than one group takes
    lanes = Lanes(relay)
    last = MAX_GROUP + 3
    for request in range(last + 1):
        lanes.send(message(request + 1), answers.of(request + 1))
    await settle()

    # When it is stored, then a full group follows, and the rest after that, all in their order
    relay.resolve(ok(1))
    await settle()
    assert [c.request for c in publisher.bundles[1]] == list(range(2, MAX_GROUP + 2))
    for request in range(2, MAX_GROUP + 2):
        relay.resolve(ok(request))
    await publisher.confirm()
    assert [c.request for c in publisher.bundles[2]] == [MAX_GROUP + 2, MAX_GROUP + 3, MAX_GROUP + 4]


async def test_each_message_gets_its_own_ack(relay: Relay, answers: Answers) -> None:
    lanes = Lanes(relay)
    for request in (1, 2, 3):
        lanes.send(message(request), answers.of(request))
    for request in (1, 3, 2):
        relay.resolve(ok(request))
    assert answers.acks == {request: ['{"ok":true}'] for request in (1, 2, 3)}


async def test_an_idle_lane_leaves_nothing_behind(relay: Relay, answers: Answers) -> None:
    lanes = Lanes(relay)
    lanes.send(message(1), answers.of(1))
    lanes.send(message(2, conversation_id="c2"), answers.of(2))
    for request in (1, 2):
        relay.resolve(ok(request))
    gc.collect()
    assert [lane for lane in gc.get_objects() if isinstance(lane, Lane)] == []
