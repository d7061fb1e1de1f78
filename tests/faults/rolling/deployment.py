"""Warren on a production-like cluster: every process as its own restricted user, clients by way of HAProxy."""

import asyncio
import csv
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import httpx
import pymongo
from pydantic import SecretStr
from typing_extensions import override

from infra.cli.topology_check import differences
from infra.deploy.definitions import EDGE, OPERATOR, WORKER
from infra.local.cluster import MEMBERS, Cluster
from infra.local.ports import LOOPBACK, free_ports
from infra.local.services import Services
from infra.local.stack import WORKER_KINDS, Stack
from infra.local.tenant import Tenant
from infra.settings import Settings
from tests.faults.chat_traffic import ChatTraffic
from tests.faults.context import Context
from tests.faults.environment import Environment

#: Workers of each kind.
EACH = 2
#: Clients that send four messages a second each.
CLIENTS = 12
#: Seconds until the deployment must be healthy again.
LIMIT = 180.0


class BalancedStack(Stack):
    """A stack whose edges clients reach through a balancer."""

    balancer_url = ""

    @property
    @override
    def edge_urls(self) -> list[str]:
        return [self.balancer_url] if self.balancer_url else super().edge_urls


@dataclass
class Deployment:
    """The cluster, Warren on it, and its traffic."""

    cluster: Cluster
    stack: BalancedStack
    context: Context

    @property
    def traffic(self) -> ChatTraffic:
        return self.context.traffic

    @property
    def operator(self) -> Settings:
        """What an operator's commands need."""
        environment = self.cluster.environment(OPERATOR)
        return Settings(
            amqp_url=SecretStr(environment["WARREN_AMQP_URL"]),
            management_url=SecretStr(environment["WARREN_MANAGEMENT_URL"]),
            mongo_url=SecretStr(environment["WARREN_MONGO_URL"]),
            mongo_database=self.context.tenant.database,
        )

    async def until_healthy(self) -> None:
        """Wait until no part is down, as an operator does before the next restart. Raises TimeoutError."""
        problems = ["nothing was checked"]
        try:
            async with asyncio.timeout(LIMIT):
                while problems:
                    problems = await self._problems()
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise TimeoutError(f"Not healthy after {LIMIT:.0f} s: {'; '.join(problems)}") from None

    async def _problems(self) -> list[str]:
        try:
            found = await differences(self.operator)
            found += await asyncio.to_thread(_members_down, self.cluster.mongo_url)
            found += await self._edges_down()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return found

    async def _edges_down(self) -> list[str]:
        """Edges to which the balancer sends no client."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            text = (await http.get(f"http://{self.cluster.edge_balancer_stats}/;csv")).raise_for_status().text
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        edges = [row for row in rows if row["pxname"] == "edges" and row["svname"] != "BACKEND"]
        return [f"{row['svname']} is {row['status']}" for row in edges if row["status"] != "UP"]


@asynccontextmanager
async def deploy(cluster: Cluster, seed: int) -> AsyncIterator[Deployment]:
    """Start Warren on a cluster and connect the clients; stop both afterwards."""
    services = Services(cluster.amqp_url(OPERATOR), cluster.management_url, cluster.mongo_url, started_by_us=True)
    tenant = Tenant(services, "cluster", services.amqp_url, services.mongo_url, "warren")
    async with (
        BalancedStack(tenant, edges=0, workers={}, env=_common(cluster), name="cluster") as stack,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        await _add_processes(stack, cluster)
        (port,) = free_ports(0)
        await asyncio.to_thread(cluster.start_edge_balancer, port, [edge.port for edge in stack.edges])
        stack.balancer_url = f"http://{LOOPBACK}:{port}"
        rng = random.Random(seed)
        traffic = ChatTraffic(stack, http, rng, CLIENTS)
        environment = Environment(cluster.nodes, cluster.members)
        deployment = Deployment(cluster, stack, Context(stack, tenant, environment, traffic, rng))
        try:
            await deployment.until_healthy()
            await traffic.connect()
            yield deployment
        finally:
            await traffic.disconnect()


def _common(cluster: Cluster) -> dict[str, str]:
    """The settings that every process shares, whichever user it runs as."""
    own = cluster.environment(OPERATOR)
    return {name: own[name] for name in ("WARREN_DECLARE_TOPOLOGY", "WARREN_TRUSTED_PROXIES")}


async def _add_processes(stack: Stack, cluster: Cluster) -> None:
    as_worker = {"WARREN_AMQP_URL": cluster.amqp_url(WORKER)}
    as_edge = {"WARREN_AMQP_URL": cluster.amqp_url(EDGE)}
    async with asyncio.TaskGroup() as group:
        for kind in WORKER_KINDS:
            for _ in range(EACH):
                group.create_task(stack.add_worker(kind, as_worker))
        for _ in range(MEMBERS):
            group.create_task(stack.add_edge(as_edge))


def _members_down(mongo_url: str) -> list[str]:
    with pymongo.MongoClient[dict[str, object]](mongo_url, serverSelectionTimeoutMS=5_000) as client:
        status = client.admin.command("replSetGetStatus")
    states = [(member["name"], member["stateStr"]) for member in status["members"]]
    down = [f"{name} is {state}" for name, state in states if state not in ("PRIMARY", "SECONDARY")]
    return down or ([] if any(state == "PRIMARY" for _, state in states) else ["there is no primary"])
