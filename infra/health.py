"""Health endpoints of every process: /healthz (it runs), /readyz (it can serve), /metrics (Prometheus)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from typing_extensions import override

from infra import metrics

log = logging.getLogger(__name__)

#: Seconds between two checks of the event loop, and the delay of a check in seconds that counts as a stall.
CHECK_INTERVAL, STALL = 0.5, 2.0

#: Returns why the process cannot serve now, or None when it can.
Readiness = Callable[[], Awaitable[str | None]]


def cached(readiness: Readiness, seconds: float) -> Readiness:
    """Cache the result of `readiness` for so many seconds. Concurrent calls share one check."""
    check: asyncio.Task[str | None] | None = None
    started_at = 0.0

    async def cached_readiness() -> str | None:
        nonlocal check, started_at
        if check is None or (check.done() and time.monotonic() - started_at > seconds):
            started_at = time.monotonic()
            check = asyncio.ensure_future(readiness())
        # Shielded: a caller that is cancelled must not cancel the check that others wait for.
        return await asyncio.shield(check)

    return cached_readiness


async def monitor_event_loop() -> None:
    """Count and log stalls of the event loop, until cancelled.

    A stall means that the process was frozen, got no processor time, or was blocked by its own code.
    """
    while True:
        before = time.monotonic()
        await asyncio.sleep(CHECK_INTERVAL)
        delay = time.monotonic() - before - CHECK_INTERVAL
        if delay > STALL:
            metrics.STALLS.inc()
            log.warning("This process stalled for %.1f s.", delay)


def routes(readiness: Readiness) -> list[Route]:
    """The routes of /healthz, /readyz and /metrics."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = await readiness()
        return PlainTextResponse("ready\n") if reason is None else PlainTextResponse(f"{reason}\n", 503)

    async def prometheus(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", prometheus)]


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process itself decides when to stop, and in which order."""

    @contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


class HealthServer:
    """Serves the health endpoints of a process without another HTTP server. With port 0, it serves nothing."""

    def __init__(self, host: str, port: int, readiness: Readiness) -> None:
        self._server: Server | None = None
        if port:
            config = uvicorn.Config(
                Starlette(routes=routes(readiness)), host=host, port=port, log_config=None, lifespan="off"
            )
            self._server = Server(config)

    async def run(self) -> None:
        """Serve until cancelled. Raises SystemExit when the port is taken."""
        if self._server is None:
            await asyncio.Event().wait()
            return
        try:
            await self._server.serve()
        finally:
            # uvicorn keeps its listeners open when it is cancelled.
            for listener in self._server.servers:
                listener.close()
