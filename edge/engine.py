"""The Engine.IO server: WebSocket only, with a bound on every buffer and one end for everything of a connection.

The library queues packets for a slow socket without limit, counts nothing that it sends itself, and leaves parts of a
connection behind when something raises. This module replaces its socket and the part of its server that serves one.
tests/unit/test_library_seams.py checks what it relies on.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import engineio
from engineio import async_socket
from engineio import packet as engine_packet
from typing_extensions import override

from edge.connections import CLOSE_TIMEOUT, WebSocketConnection
from edge.limits import AddressLimit
from infra import metrics

log = logging.getLogger(__name__)

#: Seconds that a client has to read what was sent to it before the edge closes its socket, unless that says otherwise.
FLUSH_TIMEOUT = 5.0
#: Seconds that a socket of an address without room has to read the refusal and close.
REFUSED_LINGER = 1.0

Environ = dict[str, Any]


class BadPacket(ValueError):
    """Raised for a packet that no correct client sends. Closes the socket; the text is a label of the metric."""


class EngineSocket(async_socket.AsyncSocket):  # type: ignore[misc]
    """One WebSocket. Reads without a task per packet, writes encoded text, and bounds what waits to be written."""

    server: "EngineServer"

    def __init__(self, server: "EngineServer", sid: str, connection: WebSocketConnection) -> None:
        super().__init__(server, sid)
        self.connection = connection
        self.waiting_bytes = 0
        self.evicted = False
        #: Whether the socket is about to be closed: what it sends is ignored.
        self.dismissed = False
        self._pinged = False
        #: The next ping, or the end of the wait for its pong.
        self._ping_timer: asyncio.TimerHandle | None = None
        #: When the socket must have authenticated, or must be closed.
        self._deadline: asyncio.TimerHandle | None = None

    # --- Out ----------------------------------------------------------------------------------------------

    def put(self, text: str) -> bool:
        """Queue Engine.IO text. Returns False, and queues nothing, when the buffer of `socket_buffer_bytes` is full.

        An empty buffer takes text of any length, so that a socket which reads gets everything.
        """
        if self.evicted or self.closed:
            return True
        if self.waiting_bytes and self.waiting_bytes + len(text) > self.server.socket_buffer_bytes:
            return False
        self.waiting_bytes += len(text)
        self.queue.put_nowait(text)
        return True

    @override
    async def send(self, pkt: engine_packet.Packet) -> None:
        """Queue a packet that the library itself sends: handshake, CONNECT or a refusal."""
        self._put_or_evict(pkt.encode())

    def _put_or_evict(self, text: str) -> None:
        if not self.put(text):
            metrics.SLOW_SOCKETS.inc()
            self.evict("it does not read what is sent to it")

    async def _write(self, websocket: Any) -> None:
        queue = self.queue
        try:
            while (text := await queue.get()) is not None:
                await websocket.send(text)
                self.waiting_bytes -= len(text)
        except Exception as error:
            log.debug("Socket %s cannot be written to any more: %s", self.sid, error)
        await websocket.close()

    def evict(self, reason: str) -> None:
        """Close the connection at once and drop what is queued. A client library reconnects by itself after it."""
        self.evicted = self.dismissed = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)
        log.info("Evicted socket %s: %s.", self.sid, reason)
        self.connection.transport.abort()

    def close_when_flushed(self, within: float = FLUSH_TIMEOUT) -> None:
        """Close the connection after everything that is queued was written; `within` seconds it is closed anyway."""
        self.queue.put_nowait(None)
        self.set_deadline(within, lambda: self.evict("it did not close in time"))

    def dismiss(self, within: float = CLOSE_TIMEOUT) -> None:
        """Close the connection after everything that is queued was written, and ignore what the client sends."""
        if not self.dismissed:
            self.dismissed = True
            self.close_when_flushed(within)

    def set_deadline(self, seconds: float, missed: Callable[[], None]) -> None:
        """Call `missed` after so many seconds. There is one deadline: a new one replaces the last."""
        self.clear_deadline()
        self._deadline = asyncio.get_running_loop().call_later(seconds, missed)

    def clear_deadline(self) -> None:
        """Remove the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- In -----------------------------------------------------------------------------------------------

    @override
    async def _websocket_handler(self, websocket: Any) -> None:
        """Serve the connection until either side closes it, and then end everything of it, whatever happened."""
        self.connected = self.upgraded = True
        writer = asyncio.create_task(self._write(websocket))
        reason = self.server.reason.TRANSPORT_CLOSE
        try:
            while True:
                await self._receive(await websocket.wait())
        except OSError:
            pass
        except BadPacket as error:
            metrics.BAD_PACKETS.labels(str(error)).inc()
            reason = self.server.reason.TRANSPORT_ERROR
        except Exception:
            log.exception("Socket %s is closed: a packet of it could not be handled.", self.sid)
            reason = self.server.reason.TRANSPORT_ERROR
        finally:
            await self.end(reason)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await writer
        except TimeoutError:
            self.connection.transport.abort()

    async def end(self, reason: str) -> None:
        """Tell the handlers that the socket is gone, end the writer, and stop the timers. May be called again."""
        await self.close(wait=False, abort=True, reason=reason)
        self.queue.put_nowait(None)
        self.clear_deadline()
        if self._ping_timer is not None:
            self._ping_timer.cancel()

    async def _receive(self, text: object) -> None:
        if self.dismissed:
            return
        if not isinstance(text, str):
            raise BadPacket("binary")
        match text[:1]:
            case "4":
                await self.server.on_message(self.sid, text[1:])
            case "3":
                # A pong without a ping must not put off the next ping.
                if self._pinged:
                    self.schedule_ping()
            case "1":
                raise OSError("closed by the client")
            case _:
                raise BadPacket("engine packet type")

    # --- Heartbeat: one timer per socket, no task ---------------------------------------------------------

    @override
    def schedule_ping(self) -> None:
        """Send a ping after the interval; called again for each pong."""
        self._pinged = False
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        self._ping_timer = asyncio.get_running_loop().call_later(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self._pinged = True
        self._put_or_evict("2")
        loop = asyncio.get_running_loop()
        self._ping_timer = loop.call_later(self.server.ping_timeout, self.evict, "no pong in time")


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO over WebSocket with `EngineSocket`. Refuses sockets over `max_sockets` or over the limit of an
    address."""

    socket_buffer_bytes = 1 << 20
    max_sockets = 10_000
    connect_timeout = 10.0
    addresses: AddressLimit
    #: The refusal of a socket whose address has reached its limit, as Engine.IO text.
    address_full_packet = ""
    on_message: Callable[[str, str], Any]
    #: WebSockets that are open, also those whose socket has ended: they count until the connection is lost.
    open_connections = 0

    @override
    async def _handle_connect(self, environ: Environ, transport: str, jsonp_index: object = None) -> object:
        scope = environ["asgi.scope"]
        if scope["type"] != "websocket":
            return self._bad_request("WebSocket only")
        if self.open_connections >= self.max_sockets:
            metrics.CONNECTS.labels("edge full").inc()
            return self._bad_request("Too many connections")
        # uvicorn passes a method of its protocol object as `send`.
        connection: WebSocketConnection = environ["asgi.send"].__self__
        address = self.addresses.acquire(scope)
        self.open_connections += 1
        connection.when_lost(lambda: self._give_back(address))
        return await self._serve(environ, connection, address_full=address is None)

    def _give_back(self, address: str | None) -> None:
        self.open_connections -= 1
        if address is not None:
            self.addresses.release(address)

    async def _serve(self, environ: Environ, connection: WebSocketConnection, *, address_full: bool) -> object:
        """Serve a socket until it closes. When its address is full, send the refusal and close it."""
        sid = self.generate_id()
        socket = self.sockets[sid] = EngineSocket(self, sid, connection)
        try:
            await socket.send(
                engine_packet.Packet(
                    engine_packet.OPEN,
                    {
                        "sid": sid,
                        "upgrades": [],
                        "pingTimeout": int(self.ping_timeout * 1000),
                        "pingInterval": int(self.ping_interval * 1000),
                        "maxPayload": self.max_http_buffer_size,
                    },
                )
            )
            await self._trigger_event("connect", sid, environ, run_async=False)
            if address_full:
                # Before the socket sends its token: sockets that never send one count as well.
                metrics.CONNECTS.labels("address full").inc()
                socket.put(self.address_full_packet)
                socket.dismiss(REFUSED_LINGER)
            else:
                socket.schedule_ping()
                socket.set_deadline(self.connect_timeout, lambda: self._unauthenticated(socket))
            return await socket.handle_get_request(environ)
        finally:
            # The client may have gone before the WebSocket was open, so that nobody else ended the socket.
            await socket.end(self.reason.TRANSPORT_CLOSE)
            self.sockets.pop(sid, None)

    def _unauthenticated(self, socket: EngineSocket) -> None:
        metrics.CONNECTS.labels("timeout").inc()
        socket.evict("no valid token in time")
