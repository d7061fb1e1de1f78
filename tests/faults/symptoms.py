"""Whether operators can see a fault: the metric and the log line that name it, read from running processes."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from infra.local.stack import Stack
from infra.local.supervisor import Process

#: Seconds between two scrapes, and seconds that a process may take to answer; a frozen one does not answer.
SCRAPE_EVERY, SCRAPE_LIMIT = 0.5, 1.0


@dataclass(frozen=True)
class Symptom:
    """A metric, as Prometheus writes it, and a text in the log of a process."""

    #: Name, and labels that must be among a sample's: `warren_edge_resyncs_total{reason="lease lost"}`.
    metric: str
    log: str
    #: The value that a gauge must take; None means that the metric must grow.
    becomes: float | None = None

    @property
    def name(self) -> str:
        """The metric's name without labels."""
        return self.metric.partition("{")[0]

    def samples(self, text: str) -> list[float]:
        """The matching values on a page of /metrics."""
        labels = re.findall(r'\w+="[^"]*"', self.metric)
        return [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if re.match(rf"{self.name}[{{ ]", line) and all(label in line for label in labels)
        ]


#: A presence worker had to set a user offline who was online without a session: no fault may lead to that.
CORRECTED = Symptom("warren_worker_presence_corrections_total", "users were online without a session")


async def count_corrections(stack: Stack) -> int:
    """How many users the presence workers had to correct since they started."""
    async with httpx.AsyncClient(trust_env=False, timeout=SCRAPE_LIMIT) as http:
        pages = [(await http.get(f"{worker.url}/metrics")).text for worker in stack.workers["presence"]]
    return int(sum(sum(CORRECTED.samples(page)) for page in pages))


class SymptomWatch:
    """Scrapes every process of a stack during a fault, and remembers which symptoms it saw."""

    def __init__(self, stack: Stack, symptoms: Iterable[Symptom]) -> None:
        self._stack = stack
        self._unseen = set(symptoms)
        self._values: dict[tuple[Process, Symptom], float] = {}
        #: The size of each log when the watch begins: only what is logged after it counts.
        self._logs = {process: process.log.stat().st_size for process in stack.processes}

    async def __aenter__(self) -> Self:
        # Connections stay open, because an edge that drains accepts no new ones.
        limits = httpx.Limits(max_keepalive_connections=None, keepalive_expiry=4 * SCRAPE_EVERY)
        self._http = httpx.AsyncClient(trust_env=False, timeout=SCRAPE_LIMIT, limits=limits)
        await self._scrape()
        self._scraping = asyncio.create_task(self._keep_scraping())
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._scraping.cancel()
        await asyncio.gather(self._scraping, return_exceptions=True)
        await self._http.aclose()

    def missing(self, symptoms: Iterable[Symptom]) -> list[str]:
        """Which metrics and log lines of these symptoms were not seen."""
        logged = "\n".join(self._logged(process) for process in self._stack.processes)
        found = [f"no {symptom.metric}" for symptom in symptoms if symptom in self._unseen]
        return sorted({*found, *(f"no line “{symptom.log}”" for symptom in symptoms if symptom.log not in logged)})

    def _logged(self, process: Process) -> str:
        with process.log.open("rb") as log:
            log.seek(self._logs.get(process, 0))
            return log.read().decode(errors="replace")

    async def _keep_scraping(self) -> None:
        while True:
            await asyncio.sleep(SCRAPE_EVERY)
            await self._scrape()

    async def _scrape(self) -> None:
        pages = await asyncio.gather(*(self._page(process) for process in self._stack.processes))
        for process, page in zip(self._stack.processes, pages, strict=True):
            if page is not None:
                self._unseen = {
                    symptom for symptom in self._unseen if not self._shows(process, symptom, symptom.samples(page))
                }

    def _shows(self, process: Process, symptom: Symptom, samples: list[float]) -> bool:
        if symptom.becomes is not None:
            return symptom.becomes in samples
        value, before = sum(samples), self._values.get((process, symptom))
        self._values[process, symptom] = value
        # A counter that is lower than before belongs to a new process, and started at 0.
        return before is not None and value > (before if before <= value else 0.0)

    async def _page(self, process: Process) -> str | None:
        try:
            return (await self._http.get(f"{process.url}/metrics")).text
        except httpx.HTTPError:
            return None
