"""The declarer: turns the values of contracts/topology.py into calls to the broker; nothing else declares."""

from collections.abc import Sequence

from contracts.topology import EXCHANGES, LASTING_QUEUES, QUEUES, Queue
from infra.broker.channel import Channel


def needed_by(consumed: Queue) -> list[Queue]:
    """The queues without which a worker that consumes this one cannot work: all that are replicated, and its own.

    The typing queue lives on one node of a cluster. While that node is away, declaring it fails; only who consumes it
    has to wait for that.
    """
    return [queue for queue in QUEUES if queue in LASTING_QUEUES or queue == consumed]


async def declare_topology(channel: Channel, queues: Sequence[Queue] = QUEUES) -> None:
    """Declare every exchange, and durable queues. Repeating it changes nothing.

    Raises an AMQP error (406) where a queue of that name exists with other arguments.
    """
    for exchange in EXCHANGES:
        await channel.declare_exchange(exchange)
    # Dead-letter queues first: nothing may fall out of a queue before there is a place to fall to.
    for queue in reversed(queues):
        await channel.declare_queue(queue)


async def check_topology(channel: Channel, queues: Sequence[Queue] = QUEUES) -> None:
    """Make sure that it is all there, for a user who may not declare it. Raises an AMQP error (404) otherwise."""
    for exchange in EXCHANGES:
        await channel.check_exchange(exchange)
    for queue in queues:
        await channel.count(queue.name)


async def declare_edge_queue(channel: Channel, queue: Queue) -> None:
    """Declare the queue of one edge and one connection."""
    await channel.declare_queue(queue)
