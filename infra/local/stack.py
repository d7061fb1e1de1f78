"""Warren's processes as subprocesses on real services: started, broken and stopped by tests and load runs."""

import asyncio
import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import httpx
import jwt

from infra.local.errors import ProcessError
from infra.local.tenant import Tenant

ROOT = Path(__file__).resolve().parents[2]
#: Logs of every run, one folder each.
RUNS = ROOT / ".stack" / "runs"
#: Runs whose logs are kept.
KEPT_RUNS = 40
HOST = "127.0.0.1"

#: Seconds until a process must be ready, until SIGTERM must have worked, and until the topology must be declared.
READY_LIMIT = 30.0
STOP_LIMIT = 15.0
TOPOLOGY_LIMIT = 30.0

WorkerKind = Literal["persistence", "unread", "presence", "history"]
WORKER_KINDS: tuple[WorkerKind, ...] = get_args(WorkerKind)


class Process:
    """One process, with its port and its log; of Warren, unless `program` says otherwise. A restart keeps both."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        port: int,
        log: Path,
        env: Mapping[str, str],
        *,
        program: str = sys.executable,
    ) -> None:
        self.name = name
        self.port = port
        self.log = log
        self._command = [program, *arguments]
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        if self._process is None:
            raise ProcessError(f"{self.name} was never started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Where it answers over HTTP."""
        return f"http://{HOST}:{self.port}"

    def spawn(self, env: Mapping[str, str] | None = None) -> None:
        """Start it without waiting until it is ready; `env` is kept for later starts."""
        if self.is_running:
            raise ProcessError(f"{self.name} is running already")
        self._env.update(env or {})
        with self.log.open("ab") as log:
            # Its own session: a Ctrl-C at the terminal reaches us only, and we stop our children in order.
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _started.add(self)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def wait(self, seconds: float) -> int | None:
        """Wait until it has ended; return its exit code, or None when it still runs."""
        if self._process is None:
            return 0
        deadline = time.monotonic() + seconds
        while (code := self._process.poll()) is None:
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.02)
        _started.discard(self)
        return code

    async def until_ready(self, seconds: float = READY_LIMIT) -> None:
        """Wait until /readyz says 200. Raises ProcessError when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            while not await _says_200(http, f"{self.url}/readyz"):
                if not self.is_running:
                    raise ProcessError(f"{self.name} ended before it was ready.\n{self.tail()}")
                if time.monotonic() > deadline:
                    raise ProcessError(f"{self.name} was not ready within {seconds:.0f} s.\n{self.tail()}")
                await asyncio.sleep(0.05)

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log, to be shown in an error."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return "\n".join([f"End of {self.log.name}:", *text])


class Stack:
    """Edges and workers of one run; an async context manager that starts them all and stops them all.

    `workers` says how many of each kind, one of each when left out. `env` goes to every process and wins over the
    stack's own values. Only processes that it started itself are ever signalled.
    """

    def __init__(
        self,
        run: Tenant,
        *,
        edges: int = 2,
        workers: Mapping[WorkerKind, int] | None = None,
        rate_limit: bool = True,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        self.run = run
        self.secret = secrets.token_hex(32)
        self.logs = RUNS / (name or run.name)
        self.edges: list[Process] = []
        self.workers: dict[WorkerKind, list[Process]] = {kind: [] for kind in WORKER_KINDS}
        self._edge_count = edges
        self._worker_counts = dict(workers) if workers is not None else dict.fromkeys(WORKER_KINDS, 1)
        self._ports: set[int] = set()
        self._made: Counter[str] = Counter()
        self._env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WARREN_")},
            "PYTHONUNBUFFERED": "1",
            "WARREN_AMQP_URL": run.amqp_url,
            "WARREN_MONGO_URL": run.mongo_url,
            "WARREN_MONGO_DATABASE": run.database,
            "WARREN_JWT_SECRET": self.secret,
            "WARREN_DEV": "true",
            **({} if rate_limit else {"WARREN_RATE_LIMIT": "0"}),
            **(env or {}),
        }

    @property
    def processes(self) -> list[Process]:
        """Workers first, then edges: the order in which they start."""
        return [*(process for kind in WORKER_KINDS for process in self.workers[kind]), *self.edges]

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
        self.logs.mkdir(parents=True)
        await self._declare_topology()
        for kind, count in self._worker_counts.items():
            for _ in range(count):
                self._make_worker(kind, {}).spawn()
        for _ in range(self._edge_count):
            self._make_edge({}).spawn()
        async with asyncio.TaskGroup() as group:
            for process in self.processes:
                group.create_task(process.until_ready())

    async def stop(self) -> None:
        """Stop edges, then workers, so that nothing is accepted that nobody would store; SIGKILL what lingers."""
        for processes in (self.edges, [process for kind in WORKER_KINDS for process in self.workers[kind]]):
            async with asyncio.TaskGroup() as group:
                for process in processes:
                    group.create_task(_end(process))

    async def add_worker(self, kind: WorkerKind, env: Mapping[str, str] | None = None) -> Process:
        """Start one more worker of a kind and wait until it is ready."""
        worker = self._make_worker(kind, env or {})
        worker.spawn()
        await worker.until_ready()
        return worker

    async def add_edge(self, env: Mapping[str, str] | None = None) -> Process:
        """Start one more edge and wait until it is ready."""
        edge = self._make_edge(env or {})
        edge.spawn()
        await edge.until_ready()
        return edge

    async def kill(self, process: Process) -> None:
        """End a process without warning (SIGKILL)."""
        process.send(signal.SIGKILL)
        if await process.wait(STOP_LIMIT) is None:
            raise ProcessError(f"{process.name} survived SIGKILL for {STOP_LIMIT:.0f} s")

    async def terminate(self, process: Process, seconds: float = STOP_LIMIT) -> int:
        """Ask a process to stop (SIGTERM); return its exit code. Raises ProcessError when it takes too long."""
        process.send(signal.SIGCONT)
        process.send(signal.SIGTERM)
        code = await process.wait(seconds)
        if code is None:
            raise ProcessError(f"{process.name} did not stop within {seconds:.0f} s of SIGTERM.\n{process.tail()}")
        return code

    def pause(self, process: Process) -> None:
        """Freeze a process (SIGSTOP): its connections stay open and nothing answers."""
        process.send(signal.SIGSTOP)

    def resume(self, process: Process) -> None:
        """Let a frozen process go on (SIGCONT)."""
        process.send(signal.SIGCONT)

    async def restart(self, process: Process, env: Mapping[str, str] | None = None) -> None:
        """Start a process again on its port, stopping it first if it runs, and wait until it is ready."""
        if process.is_running:
            await self.terminate(process)
        process.spawn(env)
        await process.until_ready()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseExceptionGroup as group:
            await self.stop()
            raise (group.exceptions[0] if isinstance(group.exceptions[0], ProcessError) else group) from None
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _declare_topology(self) -> None:
        declare = Process("topology", ["-m", "infra", "topology", "apply"], 0, self.logs / "topology.log", self._env)
        declare.spawn()
        try:
            code = await declare.wait(TOPOLOGY_LIMIT)
        finally:
            declare.send(signal.SIGKILL)
        if code != 0:
            reason = f"took over {TOPOLOGY_LIMIT:.0f} s" if code is None else f"failed with exit code {code}"
            raise ProcessError(f"`python -m infra topology apply` {reason}.\n{declare.tail()}")

    def _make_edge(self, env: Mapping[str, str]) -> Process:
        name, port = self._new_name("edge"), self._free_port()
        own = {"WARREN_EDGE_HOST": HOST, "WARREN_EDGE_PORT": str(port)}
        edge = Process(name, ["-m", "edge"], port, self.logs / f"{name}.log", {**self._env, **own, **env})
        self.edges.append(edge)
        return edge

    def _make_worker(self, kind: WorkerKind, env: Mapping[str, str]) -> Process:
        name, port = self._new_name(kind), self._free_port()
        arguments = ["-m", "workers", kind]
        settings = {**self._env, "WARREN_WORKER_PORT": str(port), **env}
        worker = Process(name, arguments, port, self.logs / f"{name}.log", settings)
        self.workers[kind].append(worker)
        return worker

    def _new_name(self, kind: str) -> str:
        """A name that no process of this stack has had: its log is its own."""
        self._made[kind] += 1
        return f"{kind}-{self._made[kind]}"

    def _free_port(self) -> int:
        """A port that nobody listens on and that this stack has not given away yet."""
        while True:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port: int = probe.getsockname()[1]
            if port not in self._ports:
                self._ports.add(port)
                return port


def _prune_logs() -> None:
    """Remove the logs of all but the latest runs."""
    folders = sorted(RUNS.glob("*/"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[KEPT_RUNS:]:
        shutil.rmtree(folder, ignore_errors=True)


async def _end(process: Process) -> None:
    process.send(signal.SIGCONT)
    process.send(signal.SIGTERM)
    if await process.wait(STOP_LIMIT) is None:
        process.send(signal.SIGKILL)
        await process.wait(STOP_LIMIT)


async def _says_200(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


#: Children that have not been seen ending: whatever happens to a run, none of them outlives it.
_started: set[Process] = set()


@atexit.register
def _kill_leftovers() -> None:
    for process in _started:
        process.send(signal.SIGKILL)
