"""Warren's edges and workers as processes on real services: started, broken and stopped by tests and measurements."""

import os
import secrets
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import jwt

from infra.local.errors import ProcessError
from infra.local.paths import RUNS
from infra.local.ports import free_ports
from infra.local.supervisor import READY_LIMIT, STOP_LIMIT, Process, Stage, Supervisor
from infra.local.tenant import Tenant

#: Runs whose logs are kept.
KEPT_RUNS = 40

#: Seconds that declaring the topology may take.
TOPOLOGY_LIMIT = 30.0

#: The environment of an edge whose clients may send as much as they like.
NO_RATE_LIMITS = {
    "WARREN_RATE_LIMIT": "0",
    "WARREN_START_PEOPLE_PER_HOUR": "0",
    "WARREN_SEARCHES_PER_MINUTE": "0",
    "WARREN_READ_ITEMS_PER_MINUTE": "0",
    "WARREN_FRAME_RATE": "0",
    "WARREN_BYTE_RATE": "0",
}

WorkerKind = Literal["persistence", "unread", "presence", "history"]
WORKER_KINDS: tuple[WorkerKind, ...] = get_args(WorkerKind)


def edge_process(name: str, port: int, environment: Mapping[str, str], logs: Path) -> Process:
    """An edge on this port."""
    own = {**environment, "WARREN_EDGE_PORT": str(port)}
    return Process(name, [sys.executable, "-m", "edge"], own, port, logs / f"{name}.jsonl")


def worker_process(kind: WorkerKind, name: str, port: int, environment: Mapping[str, str], logs: Path) -> Process:
    """A worker whose health is on this port."""
    own = {**environment, "WARREN_WORKER_PORT": str(port)}
    return Process(name, [sys.executable, "-m", "workers", kind], own, port, logs / f"{name}.jsonl")


async def declare_topology(environment: Mapping[str, str], logs: Path) -> None:
    """Have exchanges and queues declared. Raises ProcessError with what was said when that fails or is late."""
    command = [sys.executable, "-m", "infra", "topology", "apply"]
    process = Process("topology", command, environment, 0, logs / "topology.log")
    process.spawn()
    try:
        code = await process.wait(TOPOLOGY_LIMIT)
    finally:
        process.kill_group()
    if code != 0:
        reason = f"took over {TOPOLOGY_LIMIT:.0f} s" if code is None else f"failed with exit code {code}"
        raise ProcessError(f"`python -m infra topology apply` {reason}.\n{process.tail()}")


class Stack:
    """Edges and workers of one run; an async context manager that starts them all and stops them all.

    `workers` says how many of each kind, one of each when left out. `env` goes to every process and wins over the
    stack's own values. A process that ended by itself makes the block fail at its end.
    """

    def __init__(
        self,
        tenant: Tenant,
        *,
        edges: int = 2,
        workers: Mapping[WorkerKind, int] | None = None,
        rate_limit: bool = True,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        self.tenant = tenant
        self.secret = secrets.token_hex(32)
        self.logs = RUNS / (name or tenant.name)
        self.edges: list[Process] = []
        self.workers: dict[WorkerKind, list[Process]] = {kind: [] for kind in WORKER_KINDS}
        self._supervisor = Supervisor()
        self._ports: set[int] = set()
        self._made: Counter[str] = Counter()
        self._env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WARREN_")},
            "WARREN_AMQP_URL": tenant.amqp_url,
            "WARREN_MONGO_URL": tenant.mongo_url,
            "WARREN_MONGO_DATABASE": tenant.database,
            "WARREN_JWT_SECRET": self.secret,
            "WARREN_DEV": "true",
            **({} if rate_limit else NO_RATE_LIMITS),
            **(env or {}),
        }
        for kind, count in (dict.fromkeys(WORKER_KINDS, 1) if workers is None else workers).items():
            for _ in range(count):
                self._make_worker(kind, {})
        for _ in range(edges):
            self._make_edge({})

    @property
    def processes(self) -> list[Process]:
        """Workers first, then edges: the order in which they start."""
        return self._supervisor.processes

    @property
    def edge_urls(self) -> list[str]:
        """HTTP addresses of the edges, in the order they were added."""
        return [edge.url for edge in self.edges]

    def token(self, user_id: str, name: str | None = None, ttl: float = 3600.0, **claims: Any) -> str:
        """Make a token that the edges accept for `ttl` seconds; further claims may override the usual ones."""
        payload = {"sub": user_id, "name": name or user_id, "exp": int(time.time() + ttl), **claims}
        return jwt.encode(payload, self.secret, algorithm="HS256")

    async def start(self) -> None:
        """Declare the topology, start every process and wait until all are ready."""
        _prune_logs()
        shutil.rmtree(self.logs, ignore_errors=True)
        await declare_topology(self._env, self.logs)
        await self._supervisor.start(READY_LIMIT)

    async def stop(self) -> None:
        """Stop edges, then workers; those that take too long are killed."""
        await self._supervisor.stop(STOP_LIMIT)

    async def add_worker(self, kind: WorkerKind, env: Mapping[str, str] | None = None) -> Process:
        """Start one more worker of a kind and wait until it is ready."""
        return await _started(self._make_worker(kind, env or {}))

    async def add_edge(self, env: Mapping[str, str] | None = None) -> Process:
        """Start one more edge and wait until it is ready."""
        return await _started(self._make_edge(env or {}))

    async def remove(self, process: Process) -> None:
        """Stop a process and forget it; its log stays."""
        await process.terminate()
        self._supervisor.remove(process)
        for processes in (self.edges, *self.workers.values()):
            if process in processes:
                processes.remove(process)

    async def kill(self, process: Process) -> None:
        """End a process without warning (SIGKILL)."""
        await process.kill()

    async def terminate(self, process: Process, seconds: float = STOP_LIMIT) -> int:
        """Ask a process to stop (SIGTERM); return its exit code. Raises ProcessError when it takes too long."""
        return await process.terminate(seconds)

    def pause(self, process: Process) -> None:
        """Freeze a process (SIGSTOP): its connections stay open and nothing answers."""
        process.send(signal.SIGSTOP)

    def resume(self, process: Process) -> None:
        """Let a frozen process go on (SIGCONT)."""
        process.send(signal.SIGCONT)

    async def restart(self, process: Process, env: Mapping[str, str] | None = None) -> None:
        """Start a process again on its port, stopping it first if it runs, and wait until it is ready."""
        if process.is_running:
            await process.terminate()
        process.spawn(env)
        await process.until_ready()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        ended = self._supervisor.ended_by_themselves()
        await self.stop()
        if ended and error is None:
            raise ProcessError(ended)
        if ended and error is not None:
            error.add_note(ended)

    def _make_edge(self, env: Mapping[str, str]) -> Process:
        made = edge_process(self._new_name("edge"), self._free_port(), {**self._env, **env}, self.logs)
        self.edges.append(made)
        return self._supervisor.add(made, Stage.EDGES)

    def _make_worker(self, kind: WorkerKind, env: Mapping[str, str]) -> Process:
        made = worker_process(kind, self._new_name(kind), self._free_port(), {**self._env, **env}, self.logs)
        self.workers[kind].append(made)
        return self._supervisor.add(made, Stage.WORKERS)

    def _new_name(self, kind: str) -> str:
        """A name that no process of this stack has had: its log is its own."""
        self._made[kind] += 1
        return f"{kind}-{self._made[kind]}"

    def _free_port(self) -> int:
        """A port that nobody listens on and that this stack has not given away yet."""
        while (port := free_ports(0)[0]) in self._ports:
            pass
        self._ports.add(port)
        return port


async def _started(process: Process) -> Process:
    process.spawn()
    await process.until_ready()
    return process


def _prune_logs() -> None:
    """Remove the logs of all but the latest runs."""
    folders = sorted(RUNS.glob("*/"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[KEPT_RUNS:]:
        shutil.rmtree(folder, ignore_errors=True)
