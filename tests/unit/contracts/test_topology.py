"""The topology loses nothing that must not be lost, and declares on every RabbitMQ from 3.10 to 4.3."""

import pytest

from contracts import topology
from contracts.topology import (
    DEAD_QUEUES,
    EXCHANGES,
    QUEUES,
    REPLICATED_QUEUES,
    TYPING,
    WORK_QUEUES,
    Queue,
    dead_letter_queue,
    edge_queue,
)
from infra.broker.declare import queues_needed_by


def by_name(queue: Queue) -> str:
    return queue.name


@pytest.mark.parametrize("queue", WORK_QUEUES, ids=by_name)
def test_a_work_queue_gives_nothing_up_silently(queue: Queue) -> None:
    arguments = queue.arguments
    assert arguments["x-queue-type"] == "quorum"
    assert queue.durable
    assert not queue.exclusive
    # A message that kills its consumers ends among the dead letters, and gets there even if the broker restarts.
    assert arguments["x-delivery-limit"] > 0
    assert arguments["x-dead-letter-exchange"] == topology.DEAD
    assert arguments["x-dead-letter-routing-key"] == queue.name
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    # When it is full its publisher is told.
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-max-length"] > 0
    assert arguments["x-max-length-bytes"] > 0


@pytest.mark.parametrize("queue", WORK_QUEUES, ids=by_name)
def test_a_work_queue_has_a_place_for_its_dead_letters(queue: Queue) -> None:
    (dead,) = (dead for dead in DEAD_QUEUES if dead.name == dead_letter_queue(queue.name))
    assert dead.bindings == ((topology.DEAD, queue.name),)
    assert dead.durable
    # No length, no expiry, no further place to fall to; and no end of looks at it, as from RabbitMQ 4.0 on by default.
    assert dead.arguments == {"x-queue-type": "quorum", "x-delivery-limit": topology.DEAD_DELIVERY_LIMIT}


def test_typing_is_short_and_drops_the_oldest() -> None:
    assert TYPING.durable, "a transient queue that is not exclusive is refused by RabbitMQ 4.3"
    assert TYPING.arguments["x-overflow"] == "drop-head"
    assert 0 < TYPING.arguments["x-message-ttl"] <= 5_000
    assert TYPING.arguments["x-max-length"] > 0
    assert "x-dead-letter-exchange" not in TYPING.arguments


def test_an_edge_queue_goes_with_its_connection_and_is_bounded() -> None:
    queue = edge_queue("edge-1", 1_700_000_000_000)
    assert queue.name == "edge.edge-1.1700000000000"
    assert queue.exclusive
    assert not queue.durable
    assert queue.bindings == ((topology.FRAMES, "edge-1"),)
    assert queue.arguments["x-overflow"] == "drop-head"
    assert queue.arguments["x-max-length-bytes"] > 0


def test_an_edge_has_a_new_queue_for_every_connection() -> None:
    # The broker may still hold the old one, exclusively, for a connection that is gone already.
    assert edge_queue("edge-1", 1).name != edge_queue("edge-1", 2).name


def test_every_binding_is_of_an_exchange_that_is_declared() -> None:
    declared = {exchange.name for exchange in EXCHANGES}
    bound = {exchange for queue in (*QUEUES, edge_queue("e", 1)) for exchange, _ in queue.bindings}
    assert bound == declared


def test_every_key_leads_to_one_queue() -> None:
    keys = [binding for queue in QUEUES for binding in queue.bindings]
    assert len(keys) == len(set(keys))


def test_every_name_is_there_once() -> None:
    assert len({queue.name for queue in QUEUES}) == len(QUEUES)
    assert set(QUEUES) == {*WORK_QUEUES, TYPING, *DEAD_QUEUES}


def test_a_queue_that_lies_on_one_node_holds_up_nobody_but_its_consumer() -> None:
    assert [queue for queue in WORK_QUEUES if TYPING in queues_needed_by(queue)] == []
    assert all({*WORK_QUEUES, *DEAD_QUEUES} <= set(queues_needed_by(queue)) for queue in (*WORK_QUEUES, TYPING))
    assert TYPING in queues_needed_by(TYPING)
    assert all(queue.arguments["x-queue-type"] == "quorum" for queue in REPLICATED_QUEUES)


@pytest.mark.parametrize("queue", [*QUEUES, edge_queue("e", 1)], ids=by_name)
def test_nothing_is_used_that_some_version_lacks(queue: Queue) -> None:
    lacking = {"x-max-priority", "x-single-active-consumer", "x-queue-mode", "x-expires", "ha-mode"}
    assert lacking.isdisjoint(queue.arguments)
