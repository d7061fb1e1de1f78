"""What a run stands on: RabbitMQ and MongoDB of its own, which it may break as it likes.

Nothing here is shared with `make services`. Everything lies in one directory of .stack/faults and goes at the end.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from infra.local.cluster import clear, members, rabbit_nodes, start_members, start_nodes, stop_nodes
from infra.local.mongod import Mongod, set_url
from infra.local.rabbitmq import RabbitNode
from infra.local.services import STACK, Services, create_vhost, delete_vhost
from infra.local.tenant import Tenant
from tests.support.proxy import Proxy, proxy

FAULTS = STACK / "faults"


@dataclass
class Ground:
    """One broker and one store, each of one node or of three."""

    nodes: list[RabbitNode]
    members: list[Mongod]
    #: In front of a cluster, as the TCP balancer that a deployment has there; clients know its address only.
    balancer: Proxy | None = None

    @property
    def node(self) -> RabbitNode:
        """The broker's node, or its first."""
        return self.nodes[0]

    @property
    def services(self) -> Services:
        """Where clients and operators find them."""
        return Services(self.node.amqp_url, self.node.management_url, set_url(self.members), started_by_us=True)


@asynccontextmanager
async def directory() -> AsyncIterator[Path]:
    """A directory that only this process uses; what a process left that was killed is ended and removed first."""
    FAULTS.mkdir(parents=True, exist_ok=True)
    for left in FAULTS.iterdir():
        if not psutil.pid_exists(int(left.name)):
            await asyncio.to_thread(clear, left)
    own = FAULTS / str(os.getpid())
    own.mkdir(exist_ok=True)
    try:
        yield own
    finally:
        await asyncio.to_thread(clear, own)


@asynccontextmanager
async def single(where: Path) -> AsyncIterator[Ground]:
    """One node and one mongod, a replica set of itself."""
    node, member = RabbitNode(where / "rabbitmq"), Mongod(where / "mongod")
    async with _started([node.start, member.start], [node.kill, member.kill]):
        yield Ground([node], [member])


@asynccontextmanager
async def cluster(where: Path) -> AsyncIterator[Ground]:
    """Three nodes behind a TCP balancer, and one mongod."""
    nodes, member = rabbit_nodes(where), Mongod(where / "mongod")
    starts: list[Callable[[], object]] = [partial(start_nodes, nodes), member.start]
    async with (
        _started(starts, [partial(stop_nodes, nodes), member.kill]),
        proxy(*(("127.0.0.1", node.ports.amqp) for node in nodes)) as balancer,
    ):
        yield Ground(nodes, [member], balancer)


@asynccontextmanager
async def replica_set(where: Path) -> AsyncIterator[Ground]:
    """One node, and three members of one replica set."""
    node, found = RabbitNode(where / "rabbitmq"), members(where)
    starts: list[Callable[[], object]] = [node.start, partial(start_members, found)]
    async with _started(starts, [node.kill, *(member.kill for member in found)]):
        yield Ground([node], found)


@asynccontextmanager
async def fresh_run(ground: Ground) -> AsyncIterator[Tenant]:
    """A virtual host and a database that were never used; the virtual host goes afterwards."""
    services = ground.services
    name = f"faults_{secrets.token_hex(4)}"
    amqp_url = await asyncio.to_thread(create_vhost, services, name)
    if ground.balancer is not None:
        amqp_url = ground.balancer.in_front_of(amqp_url)
    try:
        yield Tenant(services, name, amqp_url, services.mongo_url, name)
    finally:
        await asyncio.to_thread(delete_vhost, services, name)


@asynccontextmanager
async def _started(starts: list[Callable[[], object]], ends: list[Callable[[], object]]) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(asyncio.to_thread(start) for start in starts))
        yield
    finally:
        for end in ends:
            await asyncio.to_thread(end)
