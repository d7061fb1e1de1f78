"""Faults of RabbitMQ: restarted, killed, blocked, full, without the leader of a queue, or with repeated facts."""

import asyncio
import json
import time
from urllib.parse import quote

import aio_pika
import httpx

from contracts.topology import FACTS as FACTS_EXCHANGE
from tests.faults.context import DOWN, FROZEN, Context, Fault
from tests.faults.symptoms import Symptom
from tests.faults.visitor_group import VisitorGroup

#: Messages that a full queue holds, and seconds that it is full without and with workers.
FULL_AT, FULL_WITHOUT_WORKERS, FULL_WITH_WORKERS = 10, 10.0, 5.0
#: Seconds in which facts are repeated, and by how many seconds at most a repetition is late.
REPEATING, LATE = 15.0, 8.0

#: What a connection that publishes sends first, seconds without one, and users who leave in that time.
PUBLISHING, UNPUBLISHED, LEAVING = b"warren publish:", 18.0, 100

PUBLISHING_LOST = Symptom('warren_broker_connection_losses_total{connection="publish"}', "Broker connection publish:")
CONNECTION_LOST = Symptom("warren_broker_connection_losses_total", "was lost.")
CONNECTION_CLOSED = Symptom("warren_broker_connection_losses_total", "Closed via management plugin")
BLOCKED = Symptom("warren_broker_blocked", "it has a memory or disk alarm", becomes=1)
QUEUE_FULL = Symptom('warren_broker_published_total{outcome="refused"}', "The queue is full")
FACTS_REPEATED = Symptom("warren_worker_repeated_facts_total", "facts were redelivered")


async def restart_rabbitmq(context: Context) -> None:
    """Stop RabbitMQ in order, and start it again."""
    await asyncio.to_thread(context.environment.node.stop)
    await asyncio.sleep(DOWN)
    await asyncio.to_thread(context.environment.node.start)


async def kill_rabbitmq(context: Context) -> None:
    """SIGKILL RabbitMQ, and start it again."""
    await asyncio.to_thread(context.environment.node.kill)
    await asyncio.sleep(DOWN)
    await asyncio.to_thread(context.environment.node.start)


async def close_connections(context: Context) -> None:
    """Close every AMQP connection of Warren through the management API."""
    async with _management(context) as api:
        found = (await api.get(f"/api/vhosts/{quote(context.tenant.name)}/connections")).raise_for_status().json()
        context.notes.append(f"{len(found)} connections were closed")
        await asyncio.gather(*(api.delete(f"/api/connections/{quote(each['name'], safe='')}") for each in found))


async def raise_memory_alarm(context: Context) -> None:
    """Let RabbitMQ run short of memory: it stops reading from connections that publish."""
    await _ctl(context, "set_vm_memory_high_watermark", "absolute", "1MiB")
    try:
        await asyncio.sleep(FROZEN)
    finally:
        await _ctl(context, "set_vm_memory_high_watermark", "absolute", "2GiB")


async def cut_publishing(context: Context) -> None:
    """Break every connection that publishes for 18 s. Those that consume stay up. Users leave just before and after."""
    balancer = context.environment.balancer
    assert balancer is not None
    group = VisitorGroup(context, LEAVING)
    await group.arrive()
    leaving = asyncio.create_task(group.leave_within(UNPUBLISHED / 2))
    await asyncio.sleep(1.0)
    balancer.cut(PUBLISHING)
    await asyncio.sleep(UNPUBLISHED)
    balancer.restore()
    await leaving


async def lose_queue_leader(context: Context) -> None:
    """SIGKILL the node of a cluster that leads the persistence queue, and start it again later."""
    nodes = context.environment.nodes
    async with _management(context) as api:
        queue = (await api.get(f"/api/queues/{quote(context.tenant.name)}/persistence")).raise_for_status().json()
    leader = next(node for node in nodes if node.name == queue["leader"])
    context.notes.append(f"the leader was node {nodes.index(leader) + 1} of {len(queue['members'])}")
    await asyncio.to_thread(leader.kill)
    lost_at = time.monotonic()
    await asyncio.sleep(FROZEN)
    context.expect_recovery_without("the node", lost_at)
    await asyncio.to_thread(leader.start)


async def fill_queue(context: Context) -> None:
    """Fill the persistence queue: stop its workers, and make it short by a policy."""
    workers = context.stack.workers["persistence"]
    for worker in workers:
        await context.stack.kill(worker)
    async with _management(context) as api:
        path = f"/api/policies/{quote(context.tenant.name)}/full"
        policy = {
            "pattern": "^(persistence|unread)$",
            "definition": {"max-length": FULL_AT, "overflow": "reject-publish"},
            "apply-to": "queues",
        }
        (await api.put(path, json=policy)).raise_for_status()
        await asyncio.sleep(FULL_WITHOUT_WORKERS)
        await asyncio.gather(*(context.stack.restart(worker) for worker in workers))
        await asyncio.sleep(FULL_WITH_WORKERS)
        (await api.delete(path)).raise_for_status()
    refused = sum("unavailable" in message.failures for message in context.traffic.sent)
    context.notes.append(f"{refused} messages were refused as unavailable and sent again")


async def repeat_facts(context: Context) -> None:
    """Publish every fact again, one to three times, late and in any order."""
    connection = await aio_pika.connect(context.tenant.amqp_url)
    repetitions: list[asyncio.Task[None]] = []
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(FACTS_EXCHANGE)
        tap = await channel.declare_queue(exclusive=True)
        await tap.bind(exchange, "message.stored")
        seen: set[bytes] = set()

        async def publish_late(body: bytes) -> None:
            await asyncio.sleep(context.rng.uniform(0, LATE))
            await exchange.publish(aio_pika.Message(body), "message.stored")

        async def repeat(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            if message.body not in seen:
                seen.add(message.body)
                for _ in range(context.rng.randint(1, 3)):
                    repetitions.append(asyncio.create_task(publish_late(message.body)))

        tag = await tap.consume(repeat, no_ack=True)
        await asyncio.sleep(REPEATING)
        await tap.cancel(tag)
        await asyncio.gather(*repetitions)
    facts = sum(len(json.loads(body)["items"]) for body in seen)
    context.notes.append(f"{facts} facts in {len(seen)} bundles, repeated {len(repetitions)} times")


def _management(context: Context) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=context.environment.node.management_url, timeout=30, trust_env=False)


async def _ctl(context: Context, *arguments: str) -> None:
    await asyncio.to_thread(context.environment.node.ctl, *arguments)


FAULTS = (
    Fault("restart-rabbitmq", "RabbitMQ stopped and started", restart_rabbitmq, (CONNECTION_LOST,)),
    Fault("kill-rabbitmq", "SIGKILL to RabbitMQ, then a start", kill_rabbitmq, (CONNECTION_LOST,)),
    Fault(
        "close-connections",
        "every AMQP connection closed through the management API",
        close_connections,
        (CONNECTION_LOST, CONNECTION_CLOSED),
    ),
    Fault(
        "cut-publishing",
        "every connection that publishes broken for 18 s, while those that consume stay up",
        cut_publishing,
        (PUBLISHING_LOST,),
        environment="broker behind proxy",
    ),
    Fault("memory-alarm", "RabbitMQ's memory alarm for 20 s: connections blocked", raise_memory_alarm, (BLOCKED,)),
    Fault("full-queue", "persistence and unread queues full at 10 messages", fill_queue, (QUEUE_FULL,)),
    Fault("repeat-facts", "every fact again, one to three times, up to 8 s late", repeat_facts, (FACTS_REPEATED,)),
    Fault(
        "lose-leader",
        "SIGKILL to the queue leader's node of three",
        lose_queue_leader,
        (CONNECTION_LOST,),
        environment="broker cluster",
    ),
)
