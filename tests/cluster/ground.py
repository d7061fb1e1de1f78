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
from infra.local.ports import free_ports
from infra.local.services import Services
from infra.local.stack import HOST, WORKER_KINDS, Stack
from infra.local.tenant import Tenant
from infra.settings import Settings
from tests.faults.crowd import Crowd
from tests.faults.faults import Scene
from tests.faults.ground import Ground

#: Workers of each kind.
EACH = 2
#: People who talk: four messages a second each.
PEOPLE = 12
#: Seconds until everything must be as it should be again.
LIMIT = 180.0


class Fronted(Stack):
    """A stack whose edges clients reach through one address."""

    front = ""

    @property
    @override
    def edge_urls(self) -> list[str]:
        return [self.front] if self.front else super().edge_urls


@dataclass
class Whole:
    """The cluster, Warren on it, and the people who use it."""

    cluster: Cluster
    stack: Fronted
    scene: Scene

    @property
    def crowd(self) -> Crowd:
        return self.scene.crowd

    @property
    def operator(self) -> Settings:
        """What an operator's commands need."""
        environment = self.cluster.environment(OPERATOR)
        return Settings(
            amqp_url=SecretStr(environment["WARREN_AMQP_URL"]),
            management_url=SecretStr(environment["WARREN_MANAGEMENT_URL"]),
            mongo_url=SecretStr(environment["WARREN_MONGO_URL"]),
            mongo_database=self.scene.run.database,
        )

    async def until_whole(self) -> None:
        """Wait until nothing is away: what an operator waits for before the next restart. Raises TimeoutError."""
        wrong = ["nothing was looked at"]
        try:
            async with asyncio.timeout(LIMIT):
                while wrong:
                    wrong = await self._wrong()
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise TimeoutError(f"After {LIMIT:.0f} s: {'; '.join(wrong)}") from None

    async def _wrong(self) -> list[str]:
        try:
            found = await differences(self.operator)
            found += await asyncio.to_thread(_members_away, self.cluster.mongo_url)
            found += await self._edges_away()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        return found

    async def _edges_away(self) -> list[str]:
        """Edges that the front sends nobody to."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            text = (await http.get(f"http://{self.cluster.front_figures}/;csv")).raise_for_status().text
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        edges = [row for row in rows if row["pxname"] == "edges" and row["svname"] != "BACKEND"]
        return [f"{row['svname']} is {row['status']}" for row in edges if row["status"] != "UP"]


@asynccontextmanager
async def warren_on(cluster: Cluster, seed: int) -> AsyncIterator[Whole]:
    """Start Warren on a cluster, gather the people, and stop both afterwards."""
    services = Services(cluster.amqp_url(OPERATOR), cluster.management_url, cluster.mongo_url, started_by_us=True)
    run = Tenant(services, "cluster", services.amqp_url, services.mongo_url, "warren")
    async with (
        Fronted(run, edges=0, workers={}, env=_common(cluster), name="cluster") as stack,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        await _add_processes(stack, cluster)
        (port,) = free_ports(0)
        await asyncio.to_thread(cluster.open_front, port, [edge.port for edge in stack.edges])
        stack.front = f"http://{HOST}:{port}"
        rng = random.Random(seed)
        crowd = Crowd(stack, http, rng, PEOPLE)
        whole = Whole(cluster, stack, Scene(stack, run, Ground(cluster.nodes, cluster.members), crowd, rng))
        try:
            await whole.until_whole()
            await crowd.gather()
            yield whole
        finally:
            await crowd.leave()


def _common(cluster: Cluster) -> dict[str, str]:
    """What is the same for every process, whichever user it runs as."""
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


def _members_away(mongo_url: str) -> list[str]:
    with pymongo.MongoClient[dict[str, object]](mongo_url, serverSelectionTimeoutMS=5_000) as client:
        status = client.admin.command("replSetGetStatus")
    states = [(member["name"], member["stateStr"]) for member in status["members"]]
    away = [f"{name} is {state}" for name, state in states if state not in ("PRIMARY", "SECONDARY")]
    return away or ([] if any(state == "PRIMARY" for _, state in states) else ["there is no primary"])
