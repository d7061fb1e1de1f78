"""A Socket.IO v4 client that uses little CPU, because it often shares the machine with the system that it measures.

It connects with WebSocket directly and knows the packets that a chat needs: open, connect, event, ack, ping and close.
It formats frames as text, and parses them only as far as a caller needs. Of the WebSocket libraries that were tried,
picows took the least CPU: 12 µs for sending and receiving one chat message, against 17 (websockets, sans-I/O),
18 (aiohttp) and 27 (websockets, asyncio).
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from typing_extensions import override

#: Takes the single argument of an ack: {"ok": true, "data": …} or {"ok": false, "error": …}.
OnAck = Callable[[dict[str, Any]], None]
#: Takes one pushed event as the packet's text, `42["name",{…}]`.
OnPush = Callable[[bytes], None]

#: Seconds that connecting may take until `session_ready`.
CONNECT_LIMIT = 30.0
#: Seconds that an awaited event may take until its ack; an edge itself answers `timeout` after 10.
CALL_LIMIT = 15.0
#: First and longest pause before connecting again, seconds; half of each is random.
RECONNECT_FIRST, RECONNECT_LONGEST = 0.1, 2.0

#: What every ack handler gets when its socket closes first: the outcome is unknown, and a retry is safe.
DISCONNECTED: Final[dict[str, Any]] = {"ok": False, "error": {"code": "disconnected", "message": "", "retryable": True}}

_SESSION_READY = b'42["session_ready"'


class ConnectRefused(ConnectionError):
    """Raised when the server answers the connect packet with an error; the text is its code and its message."""


class ConnectFailed(ConnectionError):
    """Raised when a client gets no `session_ready` at its first try; the text names the user, the edge and why."""


class CallFailed(Exception):
    """Raised when an awaited event is answered with an error; `code` is the server's."""

    def __init__(self, event: str, error: dict[str, Any]) -> None:
        super().__init__(f"{event}: {error.get('code')} {error.get('message', '')}")
        self.code = str(error.get("code"))
        self.retryable = bool(error.get("retryable"))


class Socket(WSListener):
    """One WebSocket, from Engine.IO's open packet to the close of the connection."""

    def __init__(self, token: str, on_push: OnPush | None) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._token = token
        self._on_push = on_push
        self._transport: WSTransport | None = None
        self._is_closing = False
        self._pending: dict[int, OnAck] = {}
        self._last_ack_id = 0

    def emit(self, text: str, on_ack: OnAck) -> bool:
        """Send `["event",{…}]`, given as JSON text; return False, with nothing sent, if the socket is closed."""
        if self._transport is None:
            return False
        self._last_ack_id += 1
        self._pending[self._last_ack_id] = on_ack
        self._transport.send(WSMsgType.TEXT, f"42{self._last_ack_id}{text}".encode())
        return True

    async def call(self, event: str, payload: dict[str, Any], seconds: float = CALL_LIMIT) -> dict[str, Any]:
        """Send an event and return its ack's `data`. Raises CallFailed, or TimeoutError after `seconds`."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        text = orjson.dumps([event, payload]).decode()
        if not self.emit(text, lambda ack: None if answer.done() else answer.set_result(ack)):
            raise CallFailed(event, DISCONNECTED["error"])
        # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with the answer.
        async with asyncio.timeout(seconds):
            ack = await answer
        if not ack["ok"]:
            raise CallFailed(event, ack["error"])
        data: dict[str, Any] = ack["data"]
        return data

    def close(self) -> None:
        """Close the connection, also one that is only being opened; `closed` is done once it is closed."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.disconnect()

    @override
    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows once the WebSocket is open."""
        self._transport = transport
        if self._is_closing:
            transport.disconnect()

    @override
    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called by picows when the WebSocket is gone."""
        self._transport = None
        pending, self._pending = self._pending, {}
        for on_ack in pending.values():
            on_ack(DISCONNECTED)
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("closed before session_ready"))
        self.closed.set_result(None)

    @override
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows with each frame."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
            return
        if frame.msg_type is not WSMsgType.TEXT:
            return
        packet = frame.get_payload_as_bytes()
        kind = packet[:2]
        if kind == b"42":
            self._take_event(packet)
        elif kind == b"43":
            start = packet.index(b"[")
            if on_ack := self._pending.pop(int(packet[2:start]), None):
                on_ack(orjson.loads(packet[start:])[0])
        elif packet == b"2":
            transport.send(WSMsgType.TEXT, b"3")
        elif kind[:1] == b"0":
            transport.send(WSMsgType.TEXT, b"40" + orjson.dumps({"token": self._token}))
        elif kind == b"44" and not self.ready.done():
            self.ready.set_exception(ConnectRefused(_connect_error(packet)))
            transport.disconnect()
        elif kind in {b"41", b"1"}:
            transport.disconnect()

    def _take_event(self, packet: bytes) -> None:
        if packet.startswith(_SESSION_READY) and not self.ready.done():
            self.ready.set_result(None)
        elif self._on_push is not None:
            self._on_push(packet)


def _connect_error(packet: bytes) -> str:
    """The code and the message of a connect_error packet, `44{"message":code,"data":{"message":…}}`."""
    try:
        refusal = orjson.loads(packet[2:])
        return f"{refusal['message']}: {refusal['data']['message']}"
    except (ValueError, KeyError, TypeError):
        return packet[2:].decode(errors="replace")


async def open_socket(edge_url: str, token: str, on_push: OnPush | None = None) -> Socket:
    """Connect to an edge (`http://host:port`) and wait for `session_ready`. Raises OSError, WSError or TimeoutError."""
    url = edge_url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
    socket = Socket(token, on_push)
    try:
        async with asyncio.timeout(CONNECT_LIMIT):
            _, listener = await ws_connect(
                lambda: socket,
                url,
                websocket_handshake_timeout=CONNECT_LIMIT,
                # A token is for the edge that was named, and for no other.
                max_redirects=0,
            )
            if listener is None:
                # picows returns no listener if the server closes the connection right after the handshake.
                raise ConnectionResetError(f"{edge_url} closed the connection during the handshake")
            await socket.ready
    except BaseException:
        # picows leaves a connection open whose handshake is cancelled.
        socket.ready.cancel()
        socket.close()
        raise
    return socket


class Client:
    """One user at one edge; reconnects whenever the connection is lost."""

    def __init__(self, edge_url: str, user_id: str, make_token: Callable[[str], str]) -> None:
        self.user_id = user_id
        self.reconnects = 0
        #: How often a further `session_ready` came, on the same connection or a new one: pushes before it may be lost.
        self.resyncs = 0
        self.on_push: OnPush | None = None
        self._edge_url = edge_url
        self._make_token = make_token
        self._socket: Socket | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and wait for `session_ready`. Raises ConnectFailed."""
        try:
            self._socket = await self._open()
        except (OSError, WSError, TimeoutError) as error:
            reason = str(error) or f"no session_ready within {CONNECT_LIMIT:.0f} s"
            raise ConnectFailed(f"{self.user_id} cannot connect to {self._edge_url}: {reason}") from error
        self._running = asyncio.create_task(self._stay_connected(self._socket))

    async def stop(self) -> None:
        """Close and stay closed."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        if self._socket is not None:
            self._socket.close()

    def emit(self, text: str, on_ack: OnAck) -> bool:
        """Send `["event",{…}]`, given as JSON text; return False, with nothing sent, if not connected."""
        return self._socket is not None and self._socket.emit(text, on_ack)

    async def call(self, event: str, payload: dict[str, Any], seconds: float = CALL_LIMIT) -> dict[str, Any]:
        """Send an event and return its ack's `data`. Raises CallFailed, or TimeoutError after `seconds`."""
        if self._socket is None:
            raise CallFailed(event, DISCONNECTED["error"])
        return await self._socket.call(event, payload, seconds)

    async def _open(self) -> Socket:
        return await open_socket(self._edge_url, self._make_token(self.user_id), self._take_push)

    def _take_push(self, packet: bytes) -> None:
        if packet.startswith(_SESSION_READY):
            self.resyncs += 1
        if self.on_push is not None:
            self.on_push(packet)

    async def _stay_connected(self, socket: Socket) -> None:
        while True:
            await asyncio.shield(socket.closed)
            self._socket = None
            pause = RECONNECT_FIRST
            while self._socket is None:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, RECONNECT_LONGEST)
                with contextlib.suppress(OSError, WSError, TimeoutError):
                    self._socket = await self._open()
            self.reconnects += 1
            self.resyncs += 1
            socket = self._socket


@dataclass(eq=False)
class Conversation:
    """Clients of distinct users, on different edges where there are several, and the conversation that they share."""

    clients: tuple[Client, ...]
    #: Empty until it is started.
    id: str = ""
    #: The newest seq before the run.
    base_seq: int = 0
