"""Health endpoints for every process: /healthz (it runs), /readyz (it can serve), /metrics (Prometheus)."""

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

#: Seconds between two looks at the clock, and seconds later than planned that count as having stood still.
TICK, STALL = 0.5, 2.0

#: Returns why the process cannot serve now, or None when it can.
Readiness = Callable[[], Awaitable[str | None]]


def at_most_every(seconds: float, ask: Readiness) -> Readiness:
    """Ask again once the last answer is older than that; who comes meanwhile, or while it is asked, gets the same."""
    asking: asyncio.Task[str | None] | None = None
    asked_at = 0.0

    async def readiness() -> str | None:
        nonlocal asking, asked_at
        if asking is None or (asking.done() and time.monotonic() - asked_at > seconds):
            asked_at = time.monotonic()
            asking = asyncio.ensure_future(ask())
        # One that asks and goes away again takes nobody else's answer along.
        return await asyncio.shield(asking)

    return readiness


async def watch_the_clock() -> None:
    """Until cancelled, tell when this process stood still: frozen, swapped out, or blocked by code of its own."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(TICK)
        late = time.monotonic() - before - TICK
        if late > STALL:
            metrics.STALLS.inc()
            log.warning("This process stood still for %.1f s.", late)


def routes(readiness: Readiness) -> list[Route]:
    """The three endpoints."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = await readiness()
        return PlainTextResponse("ready\n") if reason is None else PlainTextResponse(f"{reason}\n", 503)

    async def numbers(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", numbers)]


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides itself when and in which order it ends."""

    @contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class HealthServer:
    """Serves the endpoints of a process that has no other HTTP server. Port 0 means none."""

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
        await self._server.serve()
