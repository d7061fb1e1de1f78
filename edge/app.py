"""The composition root of an edge: builds its parts, starts them, and stops them in order."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

import socketio

from contracts.pushes import ServerDraining
from contracts.topology import edge_queue
from edge.auth import TokenVerifier
from edge.connections import ConnectionConfig
from edge.delivery import FrameDelivery
from edge.endpoints import RESPONSE_HEADERS, origin_allowed, web_app
from edge.gateway import TOO_MANY_CONNECTIONS, Gateway
from edge.lanes import Lanes
from edge.limits import AddressLimit
from edge.packets import event_packet
from edge.relay import Relay
from edge.server import FRAME_SLACK, SocketServer
from edge.sessions import SessionRegistry
from edge.sockets import Sockets
from infra import gc_tuning, metrics
from infra.broker.channel import Channel
from infra.broker.declare import declare_edge_queue
from infra.broker.link import Link
from infra.broker.publisher import Publisher
from infra.clock import now_ms
from infra.health import Server, monitor_event_loop
from infra.settings import EdgeSettings

log = logging.getLogger(__name__)

#: Seconds to wait at shutdown for replies that are pending, and then for sessions to be reported as closed.
LAST_REPLIES = 3.0
#: Milliseconds that users of a drained edge have to connect to another edge before they are shown as offline.
DRAIN_GRACE_MS = 5_000
#: Slices in which a draining edge closes its sockets.
SLICES = 20
#: Seconds to wait at the end for the HTTP server and the background tasks.
STOP_LIMIT = 8.0


class Edge:
    """One edge process. Call `run` once."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self.edge_id = settings.make_edge_id()
        self._publisher = Publisher(settings, self.edge_id, self._on_publisher_up)
        self._resending: asyncio.Task[None] | None = None
        self._frames = Link(settings, f"consume:{self.edge_id}", self._on_frames_up)
        self._tokens = TokenVerifier(settings)
        self._sockets = Sockets(
            rate=settings.rate_limit,
            burst=settings.rate_burst,
            excess_rate=settings.frame_rate,
            excess_burst=settings.frame_burst,
        )
        self._relay = Relay(
            self._publisher, reply_timeout=settings.reply_timeout, can_receive_replies=self._frames.up.is_set
        )
        self._sessions = SessionRegistry(self.edge_id, self._relay, self._sockets, settings)
        self._frames.on_down = self._sessions.mark_all_unregistered
        self._delivery = FrameDelivery(self._relay, self._sockets, self._sessions.resync_all)
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
            # Sockets without a verified token have a reserve of their own, and `connect_timeout` seconds.
            max_sockets=settings.max_connections + settings.max_connections // 10 + 100,
            addresses=AddressLimit(settings.max_connections_per_address, settings.trusted_proxies),
            address_full_packet=TOO_MANY_CONNECTIONS,
            socket_buffer_bytes=settings.socket_buffer_bytes,
            connect_timeout=settings.connect_timeout,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            origin_allowed=lambda origin, environ: origin_allowed(settings, origin, environ.get("HTTP_HOST")),
        )
        self._http = Server(
            ConnectionConfig(
                socketio.ASGIApp(server, other_asgi_app=web_app(settings, self.readiness)),
                settings,
                host=settings.edge_host,
                port=settings.edge_port,
                headers=RESPONSE_HEADERS,
                ws_max_size=settings.max_event_bytes * FRAME_SLACK,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                # uvicorn would trust X-Forwarded-For of any process on this machine; see WARREN_TRUSTED_PROXIES.
                proxy_headers=False,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
            )
        )

    # --- Broker -------------------------------------------------------------------------------------------

    async def _on_frames_up(self, channel: Channel) -> None:
        """Declare a new queue for a new connection, consume it, and then register all users under a new epoch."""
        queue = edge_queue(self.edge_id, now_ms())
        self._delivery.accept_gaps_once()
        await declare_edge_queue(channel, queue)
        await channel.consume(queue.name, self._delivery.receive, prefetch=None)
        self._registration = asyncio.create_task(self._register_when_connected())
        self._resend_when_connected()

    async def _on_publisher_up(self, _: Channel) -> None:
        self._resend_when_connected()

    async def _both_connected(self) -> None:
        await self._frames.up.wait()
        await self._publisher.link.up.wait()

    async def _register_when_connected(self) -> None:
        await self._both_connected()
        self._sessions.register_all_again("new queue")

    def _resend_when_connected(self) -> None:
        """Resend commands once both connections are up: a command was lost on one, or its reply on the other."""
        if self._resending is None or self._resending.done():
            self._resending = asyncio.create_task(self._resend())

    async def _resend(self) -> None:
        await self._both_connected()
        self._relay.resend_pending()

    async def readiness(self) -> str | None:
        """Why this edge cannot serve now, for /readyz; None when it can."""
        if self._gateway.draining:
            return "draining"
        if (reason := self._publisher.link.not_ready_reason or self._frames.not_ready_reason) is not None:
            return reason
        if not self._tokens.ready:
            return "no key to verify tokens with"
        return self._sessions.not_ready_reason

    # --- Running and stopping -----------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then drain. Every wait during shutdown has a limit."""
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
                monitor_event_loop(),
            )
        ]
        gc_tuning.tune()
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                await self._drain()
        finally:
            self._http.should_exit = True
            for task in (stop, *background):
                task.cancel()
            await asyncio.wait([serving, *background], timeout=STOP_LIMIT)

    async def _drain(self) -> None:
        """Move the clients to other edges.

        1. Report not ready, and accept no new connections.
        2. Tell clients when to reconnect.
        3. Close sockets in slices over `WARREN_DRAIN_SECONDS`.
        4. Wait for pending replies, up to `LAST_REPLIES` seconds, then close the remaining sockets.
        5. Report all users as gone.
        """
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
                if not socket.in_flight:
                    socket.engine.close_when_flushed()
        await _until(lambda: not any(socket.in_flight for socket in sockets), LAST_REPLIES)
        for socket in list(self._sockets.by_sid.values()):
            socket.engine.close_when_flushed()
        await self._sessions.report_all_closed(DRAIN_GRACE_MS, within=LAST_REPLIES)
        log.info("Drained; %d replies were abandoned.", self._relay.pending)


async def _until(done: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110 - any of many sockets may end the wait, and it happens once
        await asyncio.sleep(0.05)
