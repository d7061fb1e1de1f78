"""Whether a fault shows: the metric that tells it, and the log line that names it, read from running processes."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from infra.local.stack import Process, Stack

#: Seconds between two looks, and seconds that a process may take to answer; one that is frozen does not.
LOOK_EVERY, PATIENCE = 0.5, 1.0


@dataclass(frozen=True)
class Sign:
    """A metric, as Prometheus writes it, and a text in the log of a process."""

    #: Name, and labels that must be among a sample's: `warren_edge_resyncs_total{reason="lease lost"}`.
    metric: str
    log: str
    #: What the metric must become, for a gauge; None means that it must grow.
    becomes: float | None = None

    @property
    def name(self) -> str:
        """The metric's name without labels."""
        return self.metric.partition("{")[0]

    def samples(self, text: str) -> list[float]:
        """The values that are meant, from a page of /metrics."""
        labels = re.findall(r'\w+="[^"]*"', self.metric)
        return [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if re.match(rf"{self.name}[{{ ]", line) and all(label in line for label in labels)
        ]


class Watch:
    """Looks at every process of a stack while something is broken, and remembers which signs it saw."""

    def __init__(self, stack: Stack, signs: Iterable[Sign]) -> None:
        self._stack = stack
        self._unseen = set(signs)
        self._values: dict[tuple[Process, Sign], float] = {}
        self._logs = {process: process.log.stat().st_size for process in stack.processes}

    async def __aenter__(self) -> Self:
        # Connections that stay open, as an edge that drains takes no new ones.
        limits = httpx.Limits(max_keepalive_connections=None, keepalive_expiry=4 * LOOK_EVERY)
        self._http = httpx.AsyncClient(trust_env=False, timeout=PATIENCE, limits=limits)
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        await self._http.aclose()

    def missing(self, signs: Iterable[Sign]) -> list[str]:
        """What these signs should have shown and did not."""
        logged = "\n".join(self._logged(process) for process in self._stack.processes)
        found = [f"no {sign.metric}" for sign in signs if sign in self._unseen]
        return sorted({*found, *(f"no line “{sign.log}”" for sign in signs if sign.log not in logged)})

    def _logged(self, process: Process) -> str:
        with process.log.open("rb") as log:
            log.seek(self._logs.get(process, 0))
            return log.read().decode(errors="replace")

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self._look()

    async def _look(self) -> None:
        pages = await asyncio.gather(*(self._page(process) for process in self._stack.processes))
        for process, page in zip(self._stack.processes, pages, strict=True):
            if page is not None:
                self._unseen = {sign for sign in self._unseen if not self._shows(process, sign, sign.samples(page))}

    def _shows(self, process: Process, sign: Sign, samples: list[float]) -> bool:
        if sign.becomes is not None:
            return sign.becomes in samples
        value, before = sum(samples), self._values.get((process, sign))
        self._values[process, sign] = value
        # A counter that is lower than before is that of a new process, and began at 0.
        return before is not None and value > (before if before <= value else 0.0)

    async def _page(self, process: Process) -> str | None:
        try:
            return (await self._http.get(f"{process.url}/metrics")).text
        except httpx.HTTPError:
            return None
