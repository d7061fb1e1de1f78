"""Every fault, by name: what is broken, and how it is mended. `FAULTS` is the registry.

A fault is over when its function returns: everything it broke runs again, whether or not it works yet.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from urllib.parse import quote

import aio_pika
import httpx

from contracts.topology import FACTS
from infra.local.stack import Process, Stack, WorkerKind
from infra.local.tenant import Tenant
from tests.faults.crowd import Crowd
from tests.faults.ground import Ground
from tests.faults.recovery import NORMAL_AT_LEAST, whole_since
from tests.faults.signs import Sign
from tests.faults.storm import storm

#: Seconds that a dead process stays away, as long as a supervisor takes to notice.
AWAY = 3.0
#: Seconds that something is frozen or blocked, and that all presence workers are away.
FROZEN, NO_PRESENCE = 20.0, 60.0
#: How often a worker is killed in one run, so that one of the kills meets a batch half done.
KILLS = 3
#: Messages in a queue that is full.
FULL_AT = 10
#: Seconds that facts come twice or late, and by how much at most.
REPEATING, LATE = 15.0, 8.0
#: Faults in the mix.
MIXED = 7


@dataclass
class Scene:
    """What a fault may lay its hands on."""

    stack: Stack
    run: Tenant
    ground: Ground
    crowd: Crowd
    rng: random.Random
    #: What a fault has to say beside the table.
    remarks: list[str] = field(default_factory=list)
    #: Latency of an ack, in seconds, that was normal before.
    normal: float = NORMAL_AT_LEAST
    #: What it saw that must not be.
    complaints: list[str] = field(default_factory=list)
    #: What must show beside the fault's own signs.
    signs: list[Sign] = field(default_factory=list)

    def must_be_whole_without(self, what: str, since: float) -> None:
        """Complain unless service has become whole since then, although something is still away."""
        crowd, now = self.crowd, time.monotonic()
        whole_at = whole_since(crowd.sent, crowd.probes, ended=since, now=now, normal=self.normal)
        if whole_at is None:
            self.complaints.append(f"service was not whole again without {what}")
        else:
            self.remarks.append(f"whole {whole_at - since:.1f} s after the loss, without {what}")


Inject = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    #: What is done, for docs/reliability.md.
    what: str
    inject: Inject
    #: What operators see of it; docs/runbook.md names each.
    signs: tuple[Sign, ...]
    ground: Literal["single", "cluster", "replica set"] = "single"
    edges: int = 2


# --- Processes of Warren ----------------------------------------------------------------------------------


async def kill_workers(scene: Scene, kind: WorkerKind) -> None:
    """SIGKILL every worker of a kind under load, again and again."""
    for _ in range(KILLS):
        workers = scene.stack.workers[kind]
        for worker in workers:
            await scene.stack.kill(worker)
        await asyncio.sleep(AWAY)
        await asyncio.gather(*(scene.stack.restart(worker) for worker in workers))
        await asyncio.sleep(scene.rng.uniform(0.5, 2.0))


async def kill_edge(scene: Scene) -> None:
    """SIGKILL an edge."""
    edge = scene.rng.choice(scene.stack.edges)
    await scene.stack.kill(edge)
    await asyncio.sleep(AWAY)
    await scene.stack.restart(edge)


async def stop_edge(scene: Scene) -> None:
    """SIGTERM an edge, which moves its sockets elsewhere."""
    await scene.stack.restart(scene.rng.choice(scene.stack.edges))


async def freeze(scene: Scene, process: Process) -> None:
    """SIGSTOP, and SIGCONT long after others have noticed."""
    scene.stack.pause(process)
    try:
        await asyncio.sleep(FROZEN)
    finally:
        scene.stack.resume(process)


async def freeze_edge(scene: Scene) -> None:
    """An edge stands still: its sockets stay open and nothing answers."""
    await freeze(scene, scene.rng.choice(scene.stack.edges))


async def freeze_worker(scene: Scene) -> None:
    """A persistence worker stands still with a batch in its hands, and goes on when another has stored it."""
    await freeze(scene, scene.rng.choice(scene.stack.workers["persistence"]))


async def presence_away(scene: Scene) -> None:
    """All presence workers are gone for a minute: nobody who is connected may be told to be offline."""
    before = sum(len(person.told_offline) for person in scene.crowd.people)
    for worker in scene.stack.workers["presence"]:
        await scene.stack.kill(worker)
    await asyncio.sleep(NO_PRESENCE)
    for worker in scene.stack.workers["presence"]:
        await scene.stack.restart(worker)
    # Longer than a lease: a worker that judged too early would have done so by now.
    await asyncio.sleep(25)
    told = [user for person in scene.crowd.people for user in person.told_offline][before:]
    scene.remarks.append(f"{len(told)} people were told that somebody went offline")
    scene.complaints += [f"{user} was connected and said to be offline" for user in told]


# --- RabbitMQ ---------------------------------------------------------------------------------------------


async def restart_rabbitmq(scene: Scene) -> None:
    """RabbitMQ is stopped in order and started again."""
    await asyncio.to_thread(scene.ground.node.stop)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(scene.ground.node.start)


async def kill_rabbitmq(scene: Scene) -> None:
    """RabbitMQ is killed and started again."""
    await asyncio.to_thread(scene.ground.node.kill)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(scene.ground.node.start)


async def close_connections(scene: Scene) -> None:
    """Every AMQP connection of Warren is closed through the management API."""
    async with _management(scene) as api:
        found = (await api.get(f"/api/vhosts/{quote(scene.run.name)}/connections")).raise_for_status().json()
        scene.remarks.append(f"{len(found)} connections were closed")
        await asyncio.gather(*(api.delete(f"/api/connections/{quote(each['name'], safe='')}") for each in found))


async def memory_alarm(scene: Scene) -> None:
    """RabbitMQ is short of memory and stops reading from whoever publishes."""
    await _ctl(scene, "set_vm_memory_high_watermark", "absolute", "1MiB")
    try:
        await asyncio.sleep(FROZEN)
    finally:
        await _ctl(scene, "set_vm_memory_high_watermark", "absolute", "2GiB")


async def lose_queue_leader(scene: Scene) -> None:
    """The node of a cluster that leads the persistence queue is killed, and comes back later."""
    async with _management(scene) as api:
        queue = (await api.get(f"/api/queues/{quote(scene.run.name)}/persistence")).raise_for_status().json()
    leader = next(node for node in scene.ground.nodes if node.name == queue["leader"])
    scene.remarks.append(f"the leader was node {scene.ground.nodes.index(leader) + 1} of {len(queue['members'])}")
    await asyncio.to_thread(leader.kill)
    lost_at = time.monotonic()
    await asyncio.sleep(FROZEN)
    scene.must_be_whole_without("the node", lost_at)
    await asyncio.to_thread(leader.start)


async def full_queue(scene: Scene) -> None:
    """The persistence queue takes no more: its workers are away, and a policy makes it short."""
    workers = scene.stack.workers["persistence"]
    for worker in workers:
        await scene.stack.kill(worker)
    async with _management(scene) as api:
        path = f"/api/policies/{quote(scene.run.name)}/full"
        policy = {
            "pattern": "^(persistence|unread)$",
            "definition": {"max-length": FULL_AT, "overflow": "reject-publish"},
            "apply-to": "queues",
        }
        (await api.put(path, json=policy)).raise_for_status()
        await asyncio.sleep(10)
        await asyncio.gather(*(scene.stack.restart(worker) for worker in workers))
        await asyncio.sleep(5)
        (await api.delete(path)).raise_for_status()
    refused = sum("unavailable" in message.failures for message in scene.crowd.sent)
    scene.remarks.append(f"{refused} messages were refused as unavailable on the way")


async def repeat_facts(scene: Scene) -> None:
    """Every fact comes again, once to three times, up to seconds late and in any order."""
    connection = await aio_pika.connect(scene.run.amqp_url)
    again: list[asyncio.Task[None]] = []
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(FACTS)
        tap = await channel.declare_queue(exclusive=True)
        await tap.bind(exchange, "message.stored")
        seen: set[bytes] = set()

        async def publish_late(body: bytes) -> None:
            await asyncio.sleep(scene.rng.uniform(0, LATE))
            await exchange.publish(aio_pika.Message(body), "message.stored")

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            if message.body not in seen:
                seen.add(message.body)
                for _ in range(scene.rng.randint(1, 3)):
                    again.append(asyncio.create_task(publish_late(message.body)))

        tag = await tap.consume(take, no_ack=True)
        await asyncio.sleep(REPEATING)
        await tap.cancel(tag)
        await asyncio.gather(*again)
    facts = sum(len(json.loads(body)["items"]) for body in seen)
    scene.remarks.append(f"{facts} facts in {len(seen)} bundles came {len(again)} times more")


def _management(scene: Scene) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=scene.ground.node.management_url, timeout=30, trust_env=False)


async def _ctl(scene: Scene, *arguments: str) -> None:
    await asyncio.to_thread(scene.ground.node.ctl, *arguments)


# --- MongoDB ----------------------------------------------------------------------------------------------


async def kill_mongod(scene: Scene) -> None:
    """The only mongod is killed and started again."""
    (member,) = scene.ground.members
    await asyncio.to_thread(member.kill)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(member.start)


async def lose_primary(scene: Scene) -> None:
    """The primary of a replica set of three is killed, and comes back later."""
    address = await asyncio.to_thread(_primary, scene)
    primary = next(member for member in scene.ground.members if member.port == address)
    await asyncio.to_thread(primary.kill)
    lost_at = time.monotonic()
    await asyncio.sleep(FROZEN)
    scene.must_be_whole_without("the member", lost_at)
    await asyncio.to_thread(partial(primary.start, alone=False))


def _primary(scene: Scene) -> int:
    import pymongo

    with pymongo.MongoClient[dict[str, object]](scene.run.mongo_url) as client:
        client.admin.command("ping")
        assert client.primary is not None
        return client.primary[1]


# --- Clients, and everything at once ----------------------------------------------------------------------


async def reconnect_storm(scene: Scene) -> None:
    """A thousand clients lose their edge at once, and all come to the others at once."""
    edge = scene.stack.edges[0]
    others = [other.url for other in scene.stack.edges[1:]]

    async def kill() -> None:
        await scene.stack.kill(edge)

    scene.remarks.append(await storm(edge.url, others, scene.stack.token, kill))
    await scene.stack.restart(edge)


async def mix(scene: Scene) -> None:
    """Faults of one node in a random order, one close upon the other."""
    names = scene.rng.sample(MIXABLE, MIXED)
    scene.remarks.append(", ".join(names))
    for name in names:
        scene.signs += FAULTS[name].signs
        await FAULTS[name].inject(scene)
        await asyncio.sleep(scene.rng.uniform(0, 4))


MIXABLE = (
    "kill-persistence",
    "kill-unread",
    "kill-history",
    "kill-edge",
    "stop-edge",
    "freeze-worker",
    "kill-rabbitmq",
    "close-connections",
    "memory-alarm",
    "kill-mongod",
    "full-queue",
    "repeat-facts",
)

REDELIVERED = Sign("warren_worker_redelivered_total", "were redelivered: their first consumer is gone")
#: A worker that was killed: its process is a new one, whose log begins anew and nowhere said that it stops.
KILLED = Sign("process_start_time_seconds", "starts.")
STALLED = Sign("warren_process_stalls_total", "This process stalled for")
EDGE_LOST = Sign('warren_presence_edges_dropped_total{reason="no queue"}', "has no queue: its sessions")
CONNECTION_LOST = Sign("warren_broker_connection_losses_total", "was lost.")
CONNECTION_CLOSED = Sign("warren_broker_connection_losses_total", "Closed via management plugin")
STORE_AWAY = Sign("warren_store_up", "The store is away: it has no primary", becomes=0.0)

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "kill-persistence",
            "SIGKILL to all persistence workers, three times",
            partial(kill_workers, kind="persistence"),
            (KILLED, REDELIVERED),
        ),
        Fault(
            "kill-unread", "SIGKILL to the unread worker, three times", partial(kill_workers, kind="unread"), (KILLED,)
        ),
        Fault(
            "kill-presence",
            "SIGKILL to the presence worker, three times",
            partial(kill_workers, kind="presence"),
            (KILLED,),
        ),
        Fault(
            "kill-history",
            "SIGKILL to the history worker, three times",
            partial(kill_workers, kind="history"),
            (KILLED,),
        ),
        Fault("kill-edge", "SIGKILL to an edge", kill_edge, (EDGE_LOST,)),
        Fault(
            "stop-edge",
            "SIGTERM to an edge, then a start",
            stop_edge,
            (Sign("warren_edge_draining", "Draining", becomes=1),),
        ),
        Fault("freeze-edge", "SIGSTOP to an edge for 20 s", freeze_edge, (STALLED,)),
        Fault("freeze-worker", "SIGSTOP to one of two persistence workers for 20 s", freeze_worker, (STALLED,)),
        Fault(
            "presence-away",
            "no presence worker for 60 s",
            presence_away,
            (Sign("warren_edge_leased", "New sockets wait: the presence workers have not answered", becomes=0),),
        ),
        Fault("restart-rabbitmq", "RabbitMQ stopped and started", restart_rabbitmq, (CONNECTION_LOST,)),
        Fault("kill-rabbitmq", "SIGKILL to RabbitMQ, then a start", kill_rabbitmq, (CONNECTION_LOST,)),
        Fault(
            "close-connections",
            "every AMQP connection closed through the management API",
            close_connections,
            (CONNECTION_LOST, CONNECTION_CLOSED),
        ),
        Fault(
            "memory-alarm",
            "RabbitMQ's memory alarm for 20 s: connections blocked",
            memory_alarm,
            (Sign("warren_broker_blocked", "it has a memory or disk alarm", becomes=1),),
        ),
        Fault(
            "full-queue",
            "persistence and unread queues full at 10 messages",
            full_queue,
            (Sign('warren_broker_published_total{outcome="refused"}', "The queue is full"),),
        ),
        Fault(
            "repeat-facts",
            "every fact again, once to three times, up to 8 s late",
            repeat_facts,
            (Sign("warren_worker_repeated_facts_total", "facts were redelivered"),),
        ),
        Fault("kill-mongod", "SIGKILL to the only mongod, then a start", kill_mongod, (STORE_AWAY,)),
        Fault(
            "lose-leader",
            "SIGKILL to the queue leader's node of three",
            lose_queue_leader,
            (CONNECTION_LOST,),
            ground="cluster",
        ),
        Fault("lose-primary", "SIGKILL to the primary of three", lose_primary, (STORE_AWAY,), ground="replica set"),
        Fault("storm", "SIGKILL to an edge with 1,000 more clients", reconnect_storm, (EDGE_LOST,), edges=3),
        Fault("mix", "seven of these in a random order", mix, ()),
    )
}
