"""CPU time and memory of the processes involved, the generator included, and its limit of open files."""

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

#: The generator's own name in every table.
GENERATOR = "generator"


@dataclass(frozen=True)
class Usage:
    """CPU time in a stretch of a run."""

    #: Length of the stretch, seconds.
    seconds: float
    #: CPU seconds, user and system, by process. A process that was replaced meanwhile is left out.
    cpu: dict[str, float]
    #: Share of all cores that were busy, with whatever process, 0 to 1.
    machine: float

    @property
    def others(self) -> float:
        """Share of all cores that processes outside the run took, 0 to 1; figures are clean where it is near 0."""
        ours = sum(self.cpu.values()) / (self.seconds * (os.cpu_count() or 1))
        return max(self.machine - ours, 0.0)

    @property
    def generator_share(self) -> float:
        """Share of one core that the generator took; near 1, it limits the system."""
        return self.cpu.get(GENERATOR, 0.0) / self.seconds


class Meter:
    """Measures usage from its construction to `stop`."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._started = time.monotonic()
        self._before = self._snapshot()
        psutil.cpu_percent()

    def stop(self) -> Usage:
        """The usage since construction."""
        after = self._snapshot()
        cpu = {name: after[name] - seconds for name, seconds in self._before.items() if name in after}
        named = {name: seconds for (name, _), seconds in cpu.items()}
        return Usage(time.monotonic() - self._started, named, psutil.cpu_percent() / 100)

    def _snapshot(self) -> dict[tuple[str, int], float]:
        return {
            (name, pid): seconds
            for name, pid in {**self._pids(), GENERATOR: os.getpid()}.items()
            if (seconds := _cpu_seconds(pid)) is not None
        }


def _cpu_seconds(pid: int) -> float | None:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system


def resident_bytes(pid: int) -> int:
    """Memory that a process holds (RSS), bytes."""
    size: int = psutil.Process(pid).memory_info().rss
    return size


def raise_file_limit() -> int:
    """Let this process open as many files, sockets included, as it may; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def listener_on(port: int) -> int | None:
    """The process that listens on a local port; None if there is none, or this user may not see it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port:
            return each.pid
    return None
