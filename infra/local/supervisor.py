"""Starts processes, waits until they are ready, restarts or reports those that end by themselves, and stops them.

Used by `make run`, `make cluster`, tests and measurements. A supervisor signals only what it started itself. When it is
killed, the kernel kills its processes (see `end_with_parent`).
"""

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

import httpx
import psutil

from infra.local import log_lines
from infra.local.errors import ProcessError
from infra.local.paths import ROOT
from infra.local.ports import LOOPBACK

LAUNCHER = Path(__file__).with_name("end_with_parent.py")

#: Seconds until a process must be ready, until SIGTERM must have worked, and until SIGKILL must have.
READY_LIMIT, STOP_LIMIT, KILL_LIMIT = 30.0, 15.0, 5.0

#: Seconds between two looks at a process that is to end, and at one that is to run: a look takes 0.1 ms.
POLL, KEEP_POLL = 0.02, 0.25

#: Seconds between two questions to /readyz, and seconds that it has to answer.
ASK_EVERY, ANSWER_LIMIT = 0.05, 2.0

#: Seconds before the first restart of a process that ended by itself; each failure doubles them, up to the second.
RESTART_DELAY, MAX_RESTART_DELAY = 1.0, 30.0

#: Seconds that a process has to run for its earlier failures to be forgotten.
STEADY = 60.0


class Process:
    """One process in a session and process group of its own. A restart keeps its environment, port and log.

    Start it in the thread that lives longest: on Linux the process is killed when that thread ends.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], port: int, log: Path) -> None:
        """Describe it. `environment` is all that it gets; `port` is where it answers /readyz; `log` gets its output."""
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.port = port
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None
        self._told_to_end = False

    @property
    def url(self) -> str:
        """Where it answers over HTTP."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        if self._child is None:
            raise ProcessError(f"{self.name} was never started.")
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How the latest start ended, negative for a signal; None while it runs and before the first start."""
        if self._child is None:
            return None
        if self._child.returncode is None:
            status = _status(self._child.pid)
            if status == psutil.STATUS_ZOMBIE:
                # Its children end with it. The system gives its id to no other process until `poll` collects it.
                _kill_group(self._child.pid)
            if status in (psutil.STATUS_ZOMBIE, None):
                self._child.poll()
        return self._child.returncode

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self.exit_code is None

    @property
    def ended_by_itself(self) -> bool:
        """Whether it ended although nobody here told it to."""
        return self.exit_code is not None and not self._told_to_end

    def spawn(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it without waiting until it is ready; `environment` adds to what it has, for later starts too."""
        if self.is_running:
            raise ProcessError(f"{self.name} is running already.")
        self.environment.update(environment or {})
        self._told_to_end = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *self.command],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C at the terminal reaches us alone, who know the order
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs; one that asks it to end makes its end an expected one."""
        if self._child is not None and self.is_running:
            self._told_to_end |= number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
            os.kill(self._child.pid, number)  # a zombie at worst: nobody else collects it

    async def wait(self, seconds: float = math.inf) -> int | None:
        """Wait until it has ended; return its exit code, or None when it still runs."""
        return self.exit_code if await self.has_ended(seconds) else None

    async def has_ended(self, seconds: float, every: float = POLL) -> bool:
        """Wait until it does not run, and look so often; return whether that was so within `seconds`."""
        deadline = time.monotonic() + seconds
        while self.is_running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(every)
        return True

    async def until_ready(self, seconds: float = READY_LIMIT) -> None:
        """Wait until /readyz says 200. Raises ProcessError when it ends before that, or when the time is over."""
        await until_ready([self], seconds)

    async def terminate(self, seconds: float = STOP_LIMIT) -> int:
        """Ask it to stop (SIGTERM, also when frozen); return its exit code. Raises ProcessError when it is late."""
        self.ask_to_stop()
        code = await self.wait(seconds)
        if code is None:
            raise ProcessError(f"{self.name} did not stop within {seconds:.0f} s of SIGTERM.\n{self.tail()}")
        return code

    async def kill(self) -> None:
        """End it and its children without warning (SIGKILL), and wait until it is gone."""
        self.kill_group()
        if not await self.has_ended(KILL_LIMIT):
            raise ProcessError(f"{self.name} survived SIGKILL for {KILL_LIMIT:.0f} s.")

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and SIGCONT for a frozen process to hear it."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)

    def kill_group(self) -> None:
        """Send SIGKILL to it and to its children."""
        if self._child is not None and self.is_running:
            self._told_to_end = True
            _kill_group(self._child.pid)

    def how_it_ended(self) -> str:
        """Say with which exit code or signal it ended."""
        code = self.exit_code
        if code is None:
            return "has not ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log as people read them, to be shown in an error."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return "\n".join([f"End of {self.log.name}:", *(log_lines.parse(line).text for line in text)])


def _status(pid: int) -> str | None:
    """What a process does; None when there is none."""
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return None


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
        os.killpg(pid, signal.SIGKILL)


async def until_ready(processes: Sequence[Process], seconds: float = READY_LIMIT) -> None:
    """Wait until /readyz of every process says 200.

    Raises ProcessError, with the end of the log, when one ends before that; or, when the time is over, for all that are
    late.
    """
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_LIMIT) as http:
        late = dict.fromkeys(processes, "")
        while True:
            answers = await asyncio.gather(*(_not_ready_reason(http, process) for process in late))
            late = {process: reason for process, reason in zip(late, answers, strict=True) if reason}
            if not late:
                return
            for process in late:
                if not process.is_running:
                    raise ProcessError(
                        f"{process.name} {process.how_it_ended()} before it was ready.\n{process.tail()}"
                    )
            if time.monotonic() > deadline:
                raise ProcessError("\n".join(_lateness(process, seconds, late[process]) for process in late))
            await asyncio.sleep(ASK_EVERY)


async def stop_together(processes: Sequence[Process], seconds: float = STOP_LIMIT) -> list[Process]:
    """Ask these processes to stop; kill those that still run after `seconds`, and return them."""
    for process in processes:
        process.ask_to_stop()
    deadline = time.monotonic() + seconds
    late = [process for process in processes if not await process.has_ended(deadline - time.monotonic())]
    for process in late:
        await process.kill()
    return late


async def _not_ready_reason(http: httpx.AsyncClient, process: Process) -> str:
    """Why a process is not ready; empty when it is."""
    try:
        answer = await http.get(f"{process.url}/readyz")
    except httpx.TransportError as error:
        return f"no answer ({type(error).__name__})"
    return "" if answer.status_code == httpx.codes.OK else answer.text.strip()


def _lateness(process: Process, seconds: float, reason: str) -> str:
    return f"{process.name} was not ready within {seconds:.0f} s: {reason}.\n{process.tail()}"


class Stage(IntEnum):
    """The order of start; processes stop in the reverse order.

    Edges stop before workers, so that nothing is accepted that nobody would store.
    """

    WORKERS = 1
    EDGES = 2


class Supervisor:
    """Processes that start together and stop in order. Says by name what happens to them."""

    def __init__(self, say: Callable[[Process, str], None] = lambda process, sentence: None) -> None:
        """Make one without processes. `say` is told what people should know: restarts, and who had to be killed."""
        self._say = say
        self._stages: dict[Stage, list[Process]] = {stage: [] for stage in Stage}

    @property
    def processes(self) -> list[Process]:
        """All of them, in the order in which they start."""
        return [process for stage in Stage for process in self._stages[stage]]

    def add(self, process: Process, stage: Stage) -> Process:
        """Look after one more process; it is not started by that."""
        self._stages[stage].append(process)
        return process

    def remove(self, process: Process) -> None:
        """Look after a process no more; it is not stopped by that."""
        for processes in self._stages.values():
            if process in processes:
                processes.remove(process)

    async def start(self, seconds: float = READY_LIMIT) -> None:
        """Start all processes and wait until they are ready. Raises ProcessError; `stop` is to be called then too."""
        for process in self.processes:
            process.spawn()
        await until_ready(self.processes, seconds)

    async def keep_running(self) -> None:
        """Restart every process that ends by itself, after a delay that grows with each failure. Never returns."""
        async with asyncio.TaskGroup() as group:
            for process in self.processes:
                group.create_task(self._keep_running(process))

    def ended_by_themselves(self) -> str:
        """Name the processes that ended although nobody here told them to, with the end of their logs; else empty."""
        ended = [process for process in self.processes if process.ended_by_itself]
        return "\n".join(f"{process.name} {process.how_it_ended()}, by itself.\n{process.tail()}" for process in ended)

    async def stop(self, seconds: float = STOP_LIMIT) -> None:
        """Stop the edges, then the workers; each stage gets `seconds`, then what is left of it is killed.

        Whatever interrupts this, all processes have been sent SIGKILL when it ends.
        """
        try:
            for stage in reversed(Stage):
                for process in await stop_together(self._stages[stage], seconds):
                    self._say(process, f"did not stop within {seconds:.0f} s of SIGTERM and was killed.")
        finally:
            for process in self.processes:
                process.kill_group()

    async def _keep_running(self, process: Process) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            await process.has_ended(math.inf, KEEP_POLL)
            failures = failures + 1 if time.monotonic() - started < STEADY else 1
            delay = restart_delay(failures)
            self._say(process, f"{process.how_it_ended()}; restarting it in {delay:.0f} s.")
            await asyncio.sleep(delay)
            process.spawn()


def restart_delay(failures: int) -> float:
    """Seconds to wait before a process that failed so many times in a row (1, 2, …) is started again."""
    return min(MAX_RESTART_DELAY, RESTART_DELAY * 2.0 ** min(failures - 1, 10))
