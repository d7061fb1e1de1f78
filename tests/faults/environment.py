"""The environment of a run: RabbitMQ and MongoDB of its own, which faults may break.

It shares nothing with `make services`. Its files are in one directory of .stack/faults, which is removed at the end.
All faults share the single nodes, except what they need in another form.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from infra.local.cluster import clear, members, rabbit_nodes, start_members, start_nodes, stop_nodes
from infra.local.mongod import Mongod, set_url
from infra.local.paths import STACK
from infra.local.rabbitmq import RabbitNode
from infra.local.services import Services, create_vhost, delete_vhost
from infra.local.tenant import Tenant
from tests.faults.member_proxy import MemberProxy, member_proxy
from tests.support.proxy import Proxy, proxy, target_of

#: One directory for each process that runs faults, named by its id.
DIRECTORIES = STACK / "faults"


@dataclass
class Environment:
    """One broker and one store, each of one node or of three."""

    nodes: list[RabbitNode]
    members: list[Mongod]
    #: What Warren's processes reach the broker through: a TCP balancer in front of a cluster, as in a deployment, or a
    #: proxy that can cut some of their connections.
    balancer: Proxy | None = None
    #: What everybody reaches the first member through.
    first_member: MemberProxy | None = None

    @property
    def node(self) -> RabbitNode:
        """The broker's node, or the first of its nodes."""
        return self.nodes[0]

    @property
    def services(self) -> Services:
        """The URLs of broker and store."""
        return Services(self.node.amqp_url, self.node.management_url, set_url(self.members), started_by_us=True)


@asynccontextmanager
async def private_directory() -> AsyncIterator[Path]:
    """A directory for this process alone. Processes and files of runs that were killed are removed first."""
    DIRECTORIES.mkdir(parents=True, exist_ok=True)
    for left in DIRECTORIES.iterdir():
        if not psutil.pid_exists(int(left.name)):
            await asyncio.to_thread(clear, left)
    own = DIRECTORIES / str(os.getpid())
    own.mkdir(exist_ok=True)
    try:
        yield own
    finally:
        await asyncio.to_thread(clear, own)


@asynccontextmanager
async def single_nodes(where: Path) -> AsyncIterator[Environment]:
    """One RabbitMQ node, and one mongod as a replica set of one member."""
    node, member = RabbitNode(where / "rabbitmq"), Mongod(where / "mongod")
    async with _started([node.start, member.start], [node.kill, member.kill]):
        yield Environment([node], [member])


@asynccontextmanager
async def broker_cluster(where: Path, shared: Environment) -> AsyncIterator[Environment]:
    """Three RabbitMQ nodes behind a TCP balancer, with the shared mongod."""
    nodes = rabbit_nodes(where)
    async with (
        _started([partial(start_nodes, nodes)], [partial(stop_nodes, nodes)]),
        proxy(*(("127.0.0.1", node.ports.amqp) for node in nodes)) as balancer,
    ):
        yield replace(shared, nodes=nodes, balancer=balancer)


@asynccontextmanager
async def replica_set(where: Path, shared: Environment) -> AsyncIterator[Environment]:
    """Three members of one replica set, with the shared RabbitMQ node."""
    found = members(where)
    async with _started([partial(start_members, found)], [member.kill for member in found]):
        yield replace(shared, members=found)


@asynccontextmanager
async def broker_behind_proxy(shared: Environment) -> AsyncIterator[Environment]:
    """The shared nodes, with a proxy in front of the broker."""
    async with proxy(target_of(shared.node.amqp_url)) as through:
        yield replace(shared, balancer=through)


@asynccontextmanager
async def member_behind_proxy(where: Path, shared: Environment) -> AsyncIterator[Environment]:
    """As `replica_set`, with the first member behind a proxy.

    What the members send each other is not compressed, so that the proxy finds its marker.
    """
    found = [Mongod(member.directory, options=["--networkMessageCompressors=disabled"]) for member in members(where)]
    async with member_proxy(found[0].port) as first_member:
        start = partial(start_members, found, addresses={found[0]: first_member.address})
        async with _started([start], [member.kill for member in found]):
            yield replace(shared, members=found, first_member=first_member)


@asynccontextmanager
async def fresh_tenant(environment: Environment) -> AsyncIterator[Tenant]:
    """A new virtual host and a new database; the virtual host is deleted afterwards."""
    services = environment.services
    name = f"faults_{secrets.token_hex(4)}"
    amqp_url = await asyncio.to_thread(create_vhost, services, name)
    if environment.balancer is not None:
        amqp_url = environment.balancer.in_front_of(amqp_url)
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
