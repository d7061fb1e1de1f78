"""The Socket.IO server: python-socketio with JSON and WebSocket only, and with a bound on every buffer.

The library does four things by itself that a chat server on the internet cannot accept: it calls `connect` and
`disconnect` handlers for client events of those names; it collects binary attachments without limit; it lets a client
connect and leave on one transport without end; it visits every room when one socket leaves. This module replaces the
classes behind them: the packet, the manager of sids, and the server. tests/unit/test_library_seams.py checks what it
relies on.
"""

import re
from collections.abc import Callable
from typing import Any, Protocol

import socketio
from socketio import packet as socket_packet
from typing_extensions import override

from contracts.codec import SocketJSON
from edge.auth import MAX_TOKEN
from edge.engine import BadPacket, EngineServer, EngineSocket, Environ
from edge.limits import AddressLimit

#: A WebSocket frame may be this many times as large as an event. Up to that size, an oversized event is acked with
#: `too_large`; a larger frame closes the socket.
FRAME_SLACK = 4
#: Characters of a connect packet that may hold a valid token: the longest token and what is around it.
MAX_CONNECT = MAX_TOKEN + 1_024
_EVENT_HEAD = re.compile(r"2(\d{1,19})?\[")


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
            serializer=JSONPacket,
            transports=["websocket"],
            allow_upgrades=False,
            http_compression=False,
            monitor_clients=False,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_event_bytes,
            cors_allowed_origins=origin_allowed,
        )
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
        engine.clear_deadline()

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        self._edge_handlers.disconnect(sid, reason)

    # --- Connecting, once per transport -------------------------------------------------------------------

    @override
    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        """Accept the client, or answer why not and close the transport."""
        ours = namespace in (None, "/")
        if ours and self.manager.sid_from_eio_sid(eio_sid, "/") is not None:
            raise BadPacket("second connect")
        await super()._handle_connect(eio_sid, namespace, data)
        if not ours or not self.manager.is_connected(self.manager.sid_from_eio_sid(eio_sid, "/"), "/"):
            self.eio.sockets[eio_sid].dismiss()

    @override
    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        """Remove the client and close the transport: a transport without a client would be counted nowhere."""
        try:
            await super()._handle_disconnect(eio_sid, namespace, reason)
        finally:
            self.eio.sockets[eio_sid].dismiss()

    @override
    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """Remove everything of a transport that has ended, also when its client was not accepted yet."""
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self.environ.pop(eio_sid, None)
            if (sid := self.manager.sid_from_eio_sid(eio_sid, "/")) is not None:
                self.manager.basic_disconnect(sid, "/")
                self._edge_handlers.disconnect(sid, reason)

    # --- Packets ------------------------------------------------------------------------------------------

    @override
    async def _handle_eio_message(self, eio_sid: str, data: str) -> None:
        # What a client without a token sends is not parsed: each new connection has a whole burst of bytes for it.
        if data.startswith("0"):
            if len(data) > MAX_CONNECT:
                data = "0"  # no token is that long, so it is refused as a connect without one
        elif self.manager.sid_from_eio_sid(eio_sid, "/") is None:
            if data.startswith(("2", "3")):
                return
            raise BadPacket("before connect")
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
