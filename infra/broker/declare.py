"""Declares exchanges and queues from the values in contracts/topology.py. No other module declares anything."""

from collections.abc import Sequence

from contracts.topology import EXCHANGES, QUEUES, REPLICATED_QUEUES, Queue
from infra.broker.channel import Channel


def queues_needed_by(consumed: Queue) -> list[Queue]:
    """The queues that must exist before a worker consumes `consumed`: all replicated queues, and `consumed` itself.

    The typing queue lives on one node of a cluster and cannot be declared while that node is down. Only its own
    consumers wait for that node.
    """
    return [queue for queue in QUEUES if queue in REPLICATED_QUEUES or queue == consumed]


async def declare_topology(channel: Channel, queues: Sequence[Queue] = QUEUES) -> None:
    """Declare every exchange and these queues. Repeating it changes nothing.

    Raises an AMQP error (406) when a queue of the same name exists with other arguments.
    """
    for exchange in EXCHANGES:
        await channel.declare_exchange(exchange)
    # Dead-letter queues first: a work queue must have its dead-letter queue before it can dead-letter a message.
    for queue in reversed(queues):
        await channel.declare_queue(queue)


async def check_topology(channel: Channel, queues: Sequence[Queue] = QUEUES) -> None:
    """Check that every exchange and these queues exist, for a user without the right to declare.

    Raises an AMQP error (404) when one is missing.
    """
    for exchange in EXCHANGES:
        await channel.check_exchange(exchange)
    for queue in queues:
        await channel.count_ready(queue.name)


async def declare_edge_queue(channel: Channel, queue: Queue) -> None:
    """Declare the exclusive queue of one edge; it lives as long as the edge's connection."""
    await channel.declare_queue(queue)
