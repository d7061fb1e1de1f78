"""The Socket.IO server: python-socketio with JSON and WebSocket only, and with a bound on every buffer.

The library does four things by itself that a chat server on the internet cannot accept: it calls `connect` and
`disconnect` handlers for client events of those names; it collects binary attachments without limit; it queues packets
for a slow socket without limit; it visits every room when one socket leaves. This module replaces the classes behind
them: the packet, the manager of sids, and the Engine.IO socket. tests/unit/test_library_seams.py checks what it relies
on.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol

import engineio
import socketio
from engineio import async_socket
from engineio import packet as engine_packet
from socketio import packet as socket_packet
from typing_extensions import override

from contracts.codec import SocketJSON
from edge.limits import AddressLimit
from infra import metrics

log = logging.getLogger(__name__)

#: Seconds that a refused socket has to read the refusal and close.
REFUSED_LINGER = 1.0
#: A WebSocket frame may be this many times as large as an event. Up to that size, an oversized event is acked with
#: `too_large`; a larger frame closes the socket.
FRAME_SLACK = 4
_EVENT_HEAD = re.compile(r"2(\d{1,19})?\[")

Environ = dict[str, Any]


class BadPacket(ValueError):
    """Raised for a packet that no correct client sends. Closes the socket; the text is a label of the metric."""


class JSONPacket(socket_packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet without binary attachments."""

    uses_binary_events = False
    json = SocketJSON

    @override
    def decode(self, encoded_packet: str) -> int:
        """Decode a packet. Raises BadPacket."""
        if not encoded_packet or encoded_packet[0] not in "0123":
            raise BadPacket("packet type")
        try:
            attachments: int = super().decode(encoded_packet)
        except (ValueError, RecursionError) as error:
            raise BadPacket("json") from error
        if attachments:
            raise BadPacket("attachments")
        return 0


class DirectManager(socketio.AsyncManager):  # type: ignore[misc]
    """Maps sids to connections and has no rooms, so that a disconnect costs the same with one socket and with
    10,000."""

    @override
    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Add a connection before its token is verified and return its sid; None when it is there already."""
        if self.sid_from_eio_sid(eio_sid, namespace) is not None:
            return None
        sid: str = self.server.eio.generate_id()
        self.basic_enter_room(sid, namespace, None, eio_sid=eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        return sid

    @override
    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        """Remove a sid."""
        self.basic_leave_room(sid, namespace, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)


class Handlers(Protocol):
    """What the edge does with connections and events. No method may block."""

    async def connect(self, sid: str, engine: "EngineSocket", auth: object) -> None:
        """Accept by returning. Raises socketio.exceptions.ConnectionRefusedError."""

    def disconnect(self, sid: str, reason: str) -> None:
        """Remove a socket that was accepted."""

    def event(self, sid: str, ack_id: int | None, name: object, arguments: list[object]) -> None:
        """Handle a client's event. `ack_id` is None when the client wants no ack."""

    def too_large(self, sid: str, ack_id: int | None) -> None:
        """Refuse an event over the limit of bytes; it was not decoded."""


class EngineSocket(async_socket.AsyncSocket):  # type: ignore[misc]
    """One WebSocket. Reads without a task per packet, writes encoded text, and bounds what waits to be written."""

    server: "EngineServer"

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self.waiting_bytes = 0
        self.evicted = False
        #: Whether the connection was refused before its token: what it sends is ignored.
        self.refused = False
        self.abort: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None

    # --- Out ----------------------------------------------------------------------------------------------

    def put(self, text: str) -> bool:
        """Queue Engine.IO text. Returns False, and queues nothing, when the buffer of `socket_buffer_bytes` is full.

        An empty buffer takes text of any length, so that a socket which reads gets everything.
        """
        if self.evicted or self.closing or self.closed:
            return True
        if self.waiting_bytes and self.waiting_bytes + len(text) > self.server.socket_buffer_bytes:
            return False
        self.waiting_bytes += len(text)
        self.queue.put_nowait(text)
        return True

    @override
    async def send(self, pkt: engine_packet.Packet) -> None:
        """Queue a packet that the library itself sends: handshake, CONNECT or a refusal."""
        if not self.closed:
            self.queue.put_nowait(pkt.encode())

    async def _write(self, websocket: Any) -> None:
        queue = self.queue
        try:
            while (text := await queue.get()) is not None:
                await websocket.send(text)
                # Packets of the library are not counted when they are queued, so the count must not become negative.
                self.waiting_bytes = max(0, self.waiting_bytes - len(text))
        except Exception as error:
            log.debug("Socket %s cannot be written to any more: %s", self.sid, error)
        await websocket.close()

    def evict(self, reason: str) -> None:
        """Close the connection at once and drop what is queued. A client library reconnects by itself after it."""
        self.evicted = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)
        log.info("Evicted socket %s: %s.", self.sid, reason)
        self.abort()

    def close_when_flushed(self) -> None:
        """Close the connection after everything that is queued was written."""
        self.queue.put_nowait(None)

    # --- In -----------------------------------------------------------------------------------------------

    @override
    async def _websocket_handler(self, websocket: Any) -> None:
        """Serve the connection until either side closes it."""
        self.connected = self.upgraded = True
        protocol = getattr(websocket.asgi_send, "__self__", None)
        if (transport := getattr(protocol, "transport", None)) is not None:
            self.abort = transport.abort
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
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.queue.put_nowait(None)
        await self.close(wait=False, abort=True, reason=reason)
        try:
            await asyncio.wait_for(writer, self.server.ping_timeout)
        except TimeoutError:
            self.abort()

    async def _receive(self, text: object) -> None:
        if self.refused:
            return
        if not isinstance(text, str):
            raise BadPacket("binary")
        match text[:1]:
            case "4":
                await self.server.on_message(self.sid, text[1:])
            case "3":
                self.schedule_ping()
            case "1":
                raise OSError("closed by the client")
            case _:
                raise BadPacket("engine packet type")

    # --- Heartbeat: one timer per socket, no task ---------------------------------------------------------

    @override
    def schedule_ping(self) -> None:
        """Send a ping after the interval; called again for each pong."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self.queue.put_nowait("2")
        self._timer = asyncio.get_running_loop().call_later(self.server.ping_timeout, self.evict, "no pong in time")


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

    @override
    async def _handle_connect(self, environ: Environ, transport: str, jsonp_index: object = None) -> object:
        if len(self.sockets) >= self.max_sockets:
            metrics.CONNECTS.labels("edge full").inc()
            return self._bad_request("Too many connections")
        address = self.addresses.acquire(environ["asgi.scope"])
        try:
            return await self._serve(environ, address_full=address is None)
        finally:
            if address is not None:
                self.addresses.release(address)

    async def _serve(self, environ: Environ, *, address_full: bool) -> object:
        """Serve a socket until it closes. When its address is full, send the refusal and close it."""
        sid = self.generate_id()
        socket = self.sockets[sid] = EngineSocket(self, sid)
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
        loop = asyncio.get_running_loop()
        if address_full:
            # Before the socket sends its token: sockets that never send one count as well.
            metrics.CONNECTS.labels("address full").inc()
            socket.put(self.address_full_packet)
            socket.refused = True
            socket.close_when_flushed()
            timer = loop.call_later(REFUSED_LINGER, socket.evict, "its address has too many connections")
        else:
            socket.schedule_ping()
            timer = loop.call_later(self.connect_timeout, self._unauthenticated, socket)
            socket.session["connect_timer"] = timer
        try:
            return await socket.handle_get_request(environ)
        finally:
            timer.cancel()
            self.sockets.pop(sid, None)

    def _unauthenticated(self, socket: EngineSocket) -> None:
        metrics.CONNECTS.labels("timeout").inc()
        socket.evict("no valid token in time")


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """A Socket.IO server that passes connections and all client events to `handlers`.

    `max_event_bytes` bounds one event, `max_sockets` the sockets with and without a token, and `socket_buffer_bytes`
    what waits to be written to one socket. `connect_timeout`, `ping_interval` and `ping_timeout` are in seconds.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        max_event_bytes: int,
        max_sockets: int,
        addresses: AddressLimit,
        address_full_packet: str,
        socket_buffer_bytes: int,
        connect_timeout: float,
        ping_interval: float,
        ping_timeout: float,
        origin_allowed: Callable[[str, Environ], bool],
    ) -> None:
        super().__init__(
            client_manager=DirectManager(),
            async_mode="asgi",
            async_handlers=False,
            namespaces=["/"],
            json=SocketJSON,
            transports=["websocket"],
            allow_upgrades=False,
            http_compression=False,
            monitor_clients=False,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_event_bytes,
            cors_allowed_origins=origin_allowed,
        )
        self.packet_class = JSONPacket
        self._edge_handlers = handlers
        self._max_event_bytes = max_event_bytes
        self.eio.socket_buffer_bytes = socket_buffer_bytes
        self.eio.max_sockets = max_sockets
        self.eio.addresses = addresses
        self.eio.address_full_packet = address_full_packet
        self.eio.connect_timeout = connect_timeout
        self.eio.on_message = self._handle_eio_message
        self.on("connect", self._on_connect)
        self.on("disconnect", self._on_disconnect)

    @override
    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _on_connect(self, sid: str, environ: Environ, auth: object = None) -> None:
        engine: EngineSocket = self.eio.sockets[self.manager.eio_sid_from_sid(sid, "/")]
        # The request is not needed any more, and would be the largest object that a connection keeps.
        environ.clear()
        await self._edge_handlers.connect(sid, engine, auth)
        engine.session.pop("connect_timer").cancel()

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        self._edge_handlers.disconnect(sid, reason)

    @override
    async def _handle_eio_message(self, eio_sid: str, data: str) -> None:
        # A character has at most four bytes, so short text needs no encoding to be counted.
        if len(data) * 4 > self._max_event_bytes and len(data.encode(errors="replace")) > self._max_event_bytes:
            self._refuse_large(eio_sid, data)
            return
        await super()._handle_eio_message(eio_sid, data)

    def _refuse_large(self, eio_sid: str, data: str) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, "/")
        head = _EVENT_HEAD.match(data)
        if sid is None or head is None:
            raise BadPacket("too large")
        self._edge_handlers.too_large(sid, int(head[1]) if head[1] else None)

    @override
    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: object) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, "/")
        if namespace not in (None, "/") or not isinstance(data, list) or not data:
            raise BadPacket("event")
        if self.manager.is_connected(sid, "/"):
            self._edge_handlers.event(sid, id, data[0], data[1:])

    @override
    async def _handle_ack(self, eio_sid: str, namespace: str | None, id: int | None, data: object) -> None:
        """Ignore it: the edge never asks clients for acks."""
