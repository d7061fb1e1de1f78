"""The edge's composition root: what is made from what, and the order of starting and stopping."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import socketio
import uvicorn

from contracts.pushes import ServerDraining
from contracts.topology import edge_queue
from edge.auth import Tokens
from edge.delivery import FrameDelivery
from edge.gateway import TOO_MANY_CONNECTIONS, Gateway
from edge.http import web_app
from edge.lanes import Lanes
from edge.limits import Addresses
from edge.packets import event_packet
from edge.relay import Relay
from edge.server import FRAME_SLACK, Environ, SocketServer
from edge.sessions import SessionRegistry
from edge.sockets import Socket, Sockets
from infra import gc, metrics
from infra.broker.channel import Channel
from infra.broker.declare import declare_edge_queue
from infra.broker.link import Link
from infra.broker.publisher import Publisher
from infra.health import Server, watch_the_clock
from infra.settings import EdgeSettings

log = logging.getLogger(__name__)

#: Seconds to wait, when stopping, for replies that are still due.
LAST_REPLIES = 3.0
#: Milliseconds that users of a drained edge have to appear on another before they count as offline.
DRAIN_GRACE_MS = 5_000
#: Slices in which a draining edge closes its sockets.
SLICES = 20


class Edge:
    """One edge process."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self.edge_id = settings.name()
        self._publisher = Publisher(settings, self.edge_id, self._on_publisher)
        self._asking_again: asyncio.Task[None] | None = None
        self._frames = Link(settings, f"consume:{self.edge_id}", self._on_connection)
        self._tokens = Tokens(settings)
        self._sockets = Sockets(rate=settings.rate_limit, burst=settings.rate_burst)
        self._relay = Relay(
            self._publisher, reply_timeout=settings.reply_timeout, replies_reach_us=self._frames.up.is_set
        )
        self._sessions = SessionRegistry(self.edge_id, self._relay, self._sockets, settings)
        self._frames.on_down = self._sessions.lost
        self._delivery = FrameDelivery(self._relay, self._sockets, self._sessions.resync)
        self._gateway = Gateway(
            self.edge_id,
            settings,
            tokens=self._tokens,
            sockets=self._sockets,
            sessions=self._sessions,
            relay=self._relay,
            lanes=Lanes(self._relay),
        )
        metrics.SOCKETS_MAX.set(settings.max_connections)
        server = SocketServer(
            self._gateway,
            max_event_bytes=settings.max_event_bytes,
            # Sockets that have yet to show a token have room of their own, and little time.
            max_sockets=settings.max_connections + settings.max_connections // 10 + 100,
            addresses=Addresses(settings.max_connections_per_address, settings.trusted_proxies),
            address_full_packet=TOO_MANY_CONNECTIONS,
            socket_buffer_bytes=settings.socket_buffer_bytes,
            connect_timeout=settings.connect_timeout,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            origin_allowed=self._origin_allowed,
        )
        self._http = Server(
            uvicorn.Config(
                socketio.ASGIApp(server, other_asgi_app=web_app(settings, self.readiness)),
                host=settings.edge_host,
                port=settings.edge_port,
                ws="websockets-sansio",
                ws_max_size=settings.max_event_bytes * FRAME_SLACK,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                # uvicorn would believe X-Forwarded-For of whoever is on this machine; see WARREN_TRUSTED_PROXIES.
                proxy_headers=False,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
            )
        )

    # --- Broker -------------------------------------------------------------------------------------------

    async def _on_connection(self, channel: Channel) -> None:
        """A new connection has a new queue; then everyone is registered again, under a new epoch."""
        queue = edge_queue(self.edge_id, int(time.time() * 1000))
        self._delivery.accept_gaps_once()
        await declare_edge_queue(channel, queue)
        await channel.consume(queue.name, self._delivery.receive, prefetch=None)
        self._registration = asyncio.create_task(self._register())
        self._ask_again_when_up()

    async def _on_publisher(self, _: Channel) -> None:
        self._ask_again_when_up()

    async def _both_up(self) -> None:
        await self._frames.up.wait()
        await self._publisher.link.up.wait()

    async def _register(self) -> None:
        await self._both_up()
        self._sessions.register_all("new queue")

    def _ask_again_when_up(self) -> None:
        """Whichever connection was lost, once they are both there: a command was on the one, its reply on the other."""
        if self._asking_again is None or self._asking_again.done():
            self._asking_again = asyncio.create_task(self._ask_again())

    async def _ask_again(self) -> None:
        await self._both_up()
        self._relay.ask_again()

    async def readiness(self) -> str | None:
        """Why this edge cannot serve now, or None."""
        if self._gateway.draining:
            return "draining"
        if (reason := self._publisher.link.not_ready_reason or self._frames.not_ready_reason) is not None:
            return reason
        if not self._tokens.ready:
            return "no key to check tokens with"
        return self._sessions.not_ready_reason

    def _origin_allowed(self, origin: str, environ: Environ) -> bool:
        allowed = self._settings.allowed_origins
        parts = urlsplit(origin)
        # The scheme does not count: a proxy that ends TLS need not tell it.
        same = parts.netloc == environ.get("HTTP_HOST")
        local = self._settings.dev and parts.hostname in ("localhost", "127.0.0.1")
        return same or local or origin in allowed or "*" in allowed

    # --- Life ---------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping`, then drain. Every wait on the way out has a limit."""
        log.info("Edge %s starts.", self.edge_id)
        serving = asyncio.create_task(self._http.serve())
        background = [
            asyncio.create_task(work)
            for work in (
                self._publisher.link.run(),
                self._frames.run(),
                self._relay.run(),
                self._sessions.run(),
                self._tokens.run(),
                watch_the_clock(),
            )
        ]
        gc.tune()
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await self._drain()
        finally:
            self._http.should_exit = True
            for task in (stop, *background):
                task.cancel()
            await asyncio.wait([serving, *background], timeout=8)

    async def _drain(self) -> None:
        """1. Not ready, no new sockets. 2. Tell clients. 3. Close in slices. 4. Last replies. 5. Everyone is gone."""
        log.info("Draining %d sockets.", len(self._sockets.by_sid))
        metrics.DRAINING.set(1)
        self._gateway.draining = True
        for listener in self._http.servers:
            listener.close()
        seconds = self._settings.drain_seconds if self._sockets.by_sid else 0
        for socket in list(self._sockets.by_sid.values()):
            hint = ServerDraining(reconnect_after_ms=random.randint(0, int(seconds * 1000)))  # noqa: S311 - a spread
            socket.send(event_packet("server_draining", hint.model_dump_json()))
        sockets = list(self._sockets.by_sid.values())
        size = len(sockets) // SLICES + 1
        for start in range(0, len(sockets), size):
            await asyncio.sleep(seconds / SLICES)
            for socket in sockets[start : start + size]:
                self._close(socket)
        await _until(lambda: not any(socket.in_flight for socket in sockets), LAST_REPLIES)
        for socket in list(self._sockets.by_sid.values()):
            socket.engine.finish()
        await self._sessions.close_all(DRAIN_GRACE_MS, limit=LAST_REPLIES)
        log.info("Drained; %d replies were abandoned.", self._relay.pending)

    def _close(self, socket: Socket) -> None:
        """Close a socket that waits for nothing; one that does has until the last replies."""
        if not socket.in_flight:
            socket.engine.finish()


async def _until(done: Callable[[], bool], limit: float) -> None:
    deadline = time.monotonic() + limit
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110 - many things end it, and it happens once
        await asyncio.sleep(0.05)
