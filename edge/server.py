"""python-socketio, hardened for the open internet: JSON only, WebSocket only, every buffer bounded.

What the library does by itself and a chat cannot live with (each held by a test): it runs `connect` and
`disconnect` handlers for client events of those names; it collects binary attachments without limit; it
lets packets for a slow socket pile up; it walks over every room when one socket leaves. So this module puts
its own classes at the library's seams: the packet, the manager of sids, and the Engine.IO socket. Each method that
replaces one of the library's is marked `@override`; tests/unit/test_library_seams.py holds it against the library.
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
from edge.limits import Addresses
from infra import metrics

log = logging.getLogger(__name__)

#: Seconds that a socket which is refused at once has to take the refusal and close.
REFUSED_LINGER = 1.0
#: Bytes of a frame up to which an oversized event still gets its `too_large`; beyond, the socket is closed.
FRAME_SLACK = 4
_EVENT_HEAD = re.compile(r"2(\d{1,19})?\[")

Environ = dict[str, Any]


class BadPacket(ValueError):
    """Raised for a packet that no well-behaved client sends; its socket is closed."""


class JSONPacket(socket_packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet that cannot carry or announce binary attachments."""

    uses_binary_events = False
    json = SocketJSON

    @override
    def decode(self, encoded_packet: str) -> int:
        """Read a packet. Raises BadPacket."""
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
    """Knows which sid is which connection, and no rooms: leaving costs the same with one socket or with 10,000."""

    @override
    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Register a connection whose token is about to be checked; None when it already is."""
        if self.sid_from_eio_sid(eio_sid, namespace) is not None:
            return None
        sid: str = self.server.eio.generate_id()
        self.basic_enter_room(sid, namespace, None, eio_sid=eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        return sid

    @override
    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        """Forget a sid."""
        self.basic_leave_room(sid, namespace, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)


class Handlers(Protocol):
    """What the edge does with sockets. None of it may block."""

    async def connect(self, sid: str, engine: "EngineSocket", auth: object) -> None:
        """Accept by returning. Raises socketio.exceptions.ConnectionRefusedError."""

    def disconnect(self, sid: str, reason: str) -> None:
        """Forget a socket that was accepted."""

    def event(self, sid: str, ack_id: int | None, name: object, arguments: list[object]) -> None:
        """Take a client's event."""

    def too_large(self, sid: str, ack_id: int | None) -> None:
        """Refuse an event that is over the limit and was not looked into."""


class EngineSocket(async_socket.AsyncSocket):  # type: ignore[misc]
    """One WebSocket: reads without a task per packet, writes finished text, and never holds more than it may."""

    server: "EngineServer"

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self.waiting_bytes = 0
        self.cut_off = False
        #: Told so at once: nothing that comes from it is looked at.
        self.refused = False
        self.abort: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None

    # --- Out ----------------------------------------------------------------------------------------------

    def put(self, text: str) -> bool:
        """Queue finished Engine.IO text; False when the socket's buffer is full and it was not queued.

        A socket that reads gets any text, however long: only what waits behind another counts.
        """
        if self.cut_off or self.closing or self.closed:
            return True
        if self.waiting_bytes and self.waiting_bytes + len(text) > self.server.socket_buffer_bytes:
            return False
        self.waiting_bytes += len(text)
        self.queue.put_nowait(text)
        return True

    @override
    async def send(self, pkt: engine_packet.Packet) -> None:
        """Queue a packet of the library's own (handshake, ping, connect, refusal)."""
        if not self.closed:
            self.queue.put_nowait(pkt.encode())

    async def _write(self, websocket: Any) -> None:
        queue = self.queue
        try:
            while (text := await queue.get()) is not None:
                await websocket.send(text)
                # What the library queued itself was not counted; the count never goes below nothing.
                self.waiting_bytes = max(0, self.waiting_bytes - len(text))
        except Exception as error:
            log.debug("Socket %s stopped taking: %s", self.sid, error)
        await websocket.close()

    def evict(self, reason: str) -> None:
        """Cut a socket off without waiting for it; a client library reconnects by itself after this."""
        self.cut_off = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)
        log.info("Cut off socket %s: %s", self.sid, reason)
        self.abort()

    def finish(self) -> None:
        """Close a socket after what is queued for it."""
        self.queue.put_nowait(None)

    # --- In -----------------------------------------------------------------------------------------------

    @override
    async def _websocket_handler(self, websocket: Any) -> None:
        """Serve the connection until either side ends it."""
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

    # --- Heartbeat: one timer a socket, no task -----------------------------------------------------------

    @override
    def schedule_ping(self) -> None:
        """Ping after the interval; a pong starts this again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self.queue.put_nowait("2")
        self._timer = asyncio.get_running_loop().call_later(self.server.ping_timeout, self._silent)

    def _silent(self) -> None:
        self.evict("ping timeout")


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO over WebSocket with our sockets; refuses more than `max_sockets` at once, or too many of an address."""

    socket_buffer_bytes = 1 << 20
    max_sockets = 10_000
    connect_timeout = 10.0
    addresses: Addresses
    #: Engine.IO text of the refusal of a socket whose address has no room for it.
    address_full_packet = ""
    on_message: Callable[[str, str], Any]

    @override
    async def _handle_connect(self, environ: Environ, transport: str, jsonp_index: object = None) -> object:
        if len(self.sockets) >= self.max_sockets:
            metrics.CONNECTS.labels("edge full").inc()
            return self._bad_request("Too many connections")
        address = self.addresses.enter(environ["asgi.scope"])
        try:
            return await self._serve(environ, crowded=address is None)
        finally:
            if address is not None:
                self.addresses.leave(address)

    async def _serve(self, environ: Environ, *, crowded: bool) -> object:
        """Hold a socket until it closes; one from a crowded address is told so and closed."""
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
        if crowded:
            # Before the socket shows its token, and whether or not it would: silent ones count as well.
            metrics.CONNECTS.labels("address full").inc()
            socket.put(self.address_full_packet)
            socket.refused = True
            socket.finish()
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
        socket.evict("no token in time")


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """A Socket.IO server that gives every client event to `handlers` and nothing to anybody else."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        max_event_bytes: int,
        max_sockets: int,
        addresses: Addresses,
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
        self._handlers_of_edge = handlers
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
        # Nobody reads the request again, and it is the largest thing that a connection would keep.
        environ.clear()
        await self._handlers_of_edge.connect(sid, engine, auth)
        engine.session.pop("connect_timer").cancel()

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        self._handlers_of_edge.disconnect(sid, reason)

    @override
    async def _handle_eio_message(self, eio_sid: str, data: str) -> None:
        # Bytes are counted only where it matters: no character has more than four.
        if len(data) * 4 > self._max_event_bytes and len(data.encode(errors="replace")) > self._max_event_bytes:
            self._refuse_large(eio_sid, data)
            return
        await super()._handle_eio_message(eio_sid, data)

    def _refuse_large(self, eio_sid: str, data: str) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, "/")
        head = _EVENT_HEAD.match(data)
        if sid is None or head is None:
            raise BadPacket("too large")
        self._handlers_of_edge.too_large(sid, int(head[1]) if head[1] else None)

    @override
    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: object) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, "/")
        if namespace not in (None, "/") or not isinstance(data, list) or not data:
            raise BadPacket("event")
        if self.manager.is_connected(sid, "/"):
            self._handlers_of_edge.event(sid, id, data[0], data[1:])

    @override
    async def _handle_ack(self, eio_sid: str, namespace: str | None, id: int | None, data: object) -> None:
        """The edge asks for no acks, so there are none to take."""
