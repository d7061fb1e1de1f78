"""The memory of edges and workers during an attack, and what their manifests allow."""

import re
from collections.abc import Sequence

import psutil

from infra.local.paths import ROOT
from infra.local.supervisor import Process

MEGABYTE = 1 << 20
MANIFESTS = ROOT / "infra" / "deploy" / "kubernetes" / "base"


class Memory:
    """What each process takes now, has taken at the peak, and took before."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = {process.name: psutil.Process(process.pid) for process in processes}
        self._before = self._now()
        self._peak = dict(self._before)

    def look(self) -> None:
        """Note a new peak."""
        self._peak = {name: max(self._peak[name], size) for name, size in self._now().items()}

    def grown(self) -> tuple[int, str]:
        """Bytes that the process which grew most took more at its peak, and its name."""
        return _largest_difference(self._peak, self._before)

    def kept(self) -> tuple[int, str]:
        """Bytes that a process takes more now, at most, and its name."""
        return _largest_difference(self._now(), self._before)

    def over_limits(self) -> list[str]:
        """Processes that Kubernetes would have killed."""
        return [
            f"{name} took {size / MEGABYTE:.0f} MiB, and its manifest allows {limit_of(name) / MEGABYTE:.0f} MiB"
            for name, size in self._peak.items()
            if size > limit_of(name)
        ]

    def _now(self) -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in self._processes.items()}


def limit_of(process: str) -> int:
    """Bytes that the manifest of an edge or a worker allows."""
    manifest = MANIFESTS / ("edge.yaml" if process.startswith("edge") else "worker/worker.yaml")
    found = re.search(r"limits: \{.*memory: (\d+)(Mi|Gi)", manifest.read_text())
    assert found, f"{manifest} has no limit of memory"
    return int(found[1]) * (MEGABYTE if found[2] == "Mi" else 1024 * MEGABYTE)


def _largest_difference(now: dict[str, int], before: dict[str, int]) -> tuple[int, str]:
    return max((size - before[name], name) for name, size in now.items())
