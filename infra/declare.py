"""The declarer: turns the values of contracts/topology.py into calls to the broker; nothing else declares."""

from contracts.topology import EXCHANGES, QUEUES, Queue
from infra.broker import Channel


async def declare_topology(channel: Channel) -> None:
    """Declare every exchange and durable queue. Repeating it changes nothing.

    Raises an AMQP error (406) where a queue of that name exists with other arguments.
    """
    for exchange in EXCHANGES:
        await channel.declare_exchange(exchange)
    # Dead-letter queues first: nothing may fall out of a queue before there is a place to fall to.
    for queue in reversed(QUEUES):
        await channel.declare_queue(queue)


async def check_topology(channel: Channel) -> None:
    """Make sure that it is all there, for a user who may not declare it. Raises an AMQP error (404) otherwise."""
    for exchange in EXCHANGES:
        await channel.check_exchange(exchange)
    for queue in QUEUES:
        await channel.count(queue.name)


async def declare_edge_queue(channel: Channel, queue: Queue) -> None:
    """Declare the queue of one edge and one connection."""
    await channel.declare_queue(queue)
