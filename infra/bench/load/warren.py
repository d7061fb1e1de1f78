"""Warren as the system under test: its own stack on private services, started and removed for one run."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from infra.bench.histories import Stored
from infra.bench.load.light_client import Conversation
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.usage import listener_on
from infra.bench.stored import read_store
from infra.local.stack import Stack, WorkerKind
from infra.local.tenant import Tenant, temporary_tenant


@asynccontextmanager
async def warren(
    edges: int = 2, persistence: int = 1, env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[SystemUnderTest, Stack]]:
    """Start a Warren without rate limit in a tenant of its own. `env` goes to all of its processes."""
    async with temporary_tenant("load") as tenant:
        counts: dict[WorkerKind, int] = {"persistence": persistence, "unread": 1, "presence": 1, "history": 1}
        settings = {"WARREN_LOG_LEVEL": "WARNING", **(env or {})}
        stack = Stack(tenant, edges=edges, workers=counts, rate_limit=False, env=settings)
        async with stack:
            services = services_of(tenant)

            def pids() -> dict[str, int]:
                return {process.name: process.pid for process in stack.processes if process.is_running} | services

            async def read(conversations: Sequence[Conversation]) -> Stored:
                return await read_store(tenant, [conversation.id for conversation in conversations])

            yield SystemUnderTest("Warren", tuple(stack.edge_urls), stack.token, pids, read), stack


def services_of(tenant: Tenant) -> dict[str, int]:
    """Process ids of the broker and the store of a tenant, where this user may see them."""
    services = {
        "rabbitmq": listener_on(urlsplit(tenant.amqp_url).port or 5672),
        "mongod": listener_on(_first_port(tenant.mongo_url)),
    }
    return {name: pid for name, pid in services.items() if pid is not None}


def _first_port(mongo_url: str) -> int:
    """The port of the first server in an address, which may name several."""
    servers = urlsplit(mongo_url).netloc.rpartition("@")[2]
    return int(servers.split(",")[0].rpartition(":")[2] or 27017)
