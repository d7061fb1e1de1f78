"""TCP connections, below ASGI: what one may cost before and after its WebSocket upgrade.

uvicorn answers pings, collects headers and waits for a slow client by itself. So the limits for everything that a
client sends are here, in subclasses of its protocol classes:

- Before the upgrade: seconds and bytes of a request, and connections that are no WebSockets, in all and per address.
- After it: frames and bytes, control frames included, counted from the frames' headers before anything is parsed.
- At the end: a peer that does not close its side loses the connection after `CLOSE_TIMEOUT`.

A connection over a limit is closed, logged and counted. tests/unit/test_library_seams.py checks every override against
uvicorn.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from edge.limits import Budget, PendingConnections
from infra import metrics
from infra.settings import EdgeSettings

log = logging.getLogger(__name__)

#: Seconds for a response of the edge's own to be sent: health, metrics, and the page in development.
RESPONSE_TIMEOUT = 60.0
#: Seconds that a client has to close its side of a WebSocket that the edge closes.
CLOSE_TIMEOUT = 2.0
#: Frames of one connection that are served before those of another: a loop that serves each alone would cost more.
FRAMES_IN_A_ROW = 10
#: Headers of one request; the WebSocket parser takes no more than 128.
MAX_HEADERS = 100
#: One address may have this part of all pending connections: a tenth.
ADDRESS_PART = 10
#: WebSocket's close code for a client that breaks a rule of the server (RFC 6455, section 7.4.1).
POLICY_VIOLATION = 1008

_WEBSOCKETS = metrics.TRANSPORTS.labels("websocket")


def _log_invalid_text_as_info(record: logging.LogRecord) -> bool:
    """Log invalid UTF-8 from a client as information: uvicorn logs an error with a traceback for each."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
    return True


logging.getLogger("uvicorn.error").addFilter(_log_invalid_text_as_info)


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration, with the edge's limits for its protocol classes."""

    def __init__(self, app: Any, settings: EdgeSettings, **options: Any) -> None:
        super().__init__(app, http=HttpConnection, ws=WebSocketConnection, **options)
        self.limits = settings
        # Many who connect at once from one address are to be answered, so more may be pending than may stay.
        per_address = max(settings.max_connections_per_address, settings.max_pending_connections // ADDRESS_PART)
        # Behind proxies, all connections come from the proxies' addresses.
        limits_addresses = settings.max_connections_per_address and not settings.trusted_proxies
        self.pending: PendingConnections[HttpConnection] = PendingConnections(
            settings.max_pending_connections, per_address if limits_addresses else 0
        )

    def new_budget(self) -> Budget:
        """What a connection may send."""
        limits = self.limits
        return Budget(limits.frame_rate, limits.frame_burst, limits.byte_rate, limits.byte_burst)


class HttpConnection(HttpToolsProtocol):
    """A connection that is not a WebSocket, or not yet."""

    config: ConnectionConfig

    def __init__(self, config: ConnectionConfig, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._budget = config.new_budget()
        self._request_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and start the time for its first request."""
        super().connection_made(transport)
        self._wait(self.config.limits.request_timeout, "request timeout")
        oldest = self.config.pending.add(self, self.client[0] if self.client else "")
        if oldest is not None:
            oldest.over("pending connections")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Parse a part of a request, if the connection may still send that much."""
        self._request_bytes += len(data)
        if self._request_bytes > self.config.limits.max_request_bytes:
            self.over("request bytes")
        elif not self._budget.take_bytes(len(data)):
            self.over("bytes")
        else:
            super().data_received(data)

    @override
    def on_message_begin(self) -> None:
        """Count a request as a frame."""
        super().on_message_begin()
        if not self._budget.take_frames(1):
            raise ValueError("too many requests")

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header. An exception makes the parser refuse the request."""
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError("too many headers")
        super().on_header(name, value)

    @override
    def on_message_complete(self) -> None:
        """Give the response its time; a response that was sent before the whole request gives no more."""
        super().on_message_complete()
        self._request_bytes = 0
        if not self.parser.should_upgrade() and not self.cycle.response_complete:
            self._wait(RESPONSE_TIMEOUT, "response timeout")

    @override
    def on_response_complete(self) -> None:
        """Start the time for the next request; uvicorn closes an idle connection before that."""
        super().on_response_complete()
        self._wait(self.config.limits.request_timeout, "request timeout")

    @override
    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to `WebSocketConnection`."""
        self._leave()
        super().handle_websocket_upgrade()

    def over(self, limit: str) -> None:
        """Close the connection at once: it is over a limit."""
        metrics.CLOSED_CONNECTIONS.labels(limit).inc()
        log.debug("Closed an HTTP connection that is over a limit: %s.", limit)
        self.transport.abort()

    def _wait(self, seconds: float, limit: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.over, limit)

    def _leave(self) -> None:
        self.config.pending.remove(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A connection after its upgrade."""

    config: ConnectionConfig

    def __init__(self, config: ConnectionConfig, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self.close_timeout = CLOSE_TIMEOUT
        self._budget = config.new_budget()
        self._frames = FrameCounter()
        self._is_over = False
        self._in_a_row = 0
        #: The newest pong that waits until the client reads.
        self._pong = b""
        self._when_lost: list[Callable[[], None]] = []
        #: The end of the handshake's time, and later of the time to close.
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and start the time for its handshake."""
        super().connection_made(transport)
        _WEBSOCKETS.inc()
        self._timer = self.loop.call_later(self.config.limits.request_timeout, self._end_unopened)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what belongs to the connection."""
        super().connection_lost(exc)
        _WEBSOCKETS.dec()
        if self._timer is not None:
            self._timer.cancel()
        for callback in self._when_lost:
            callback()

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call back once the connection is lost; at once, when it is lost already."""
        if self.disconnected:
            callback()
        else:
            self._when_lost.append(callback)

    @override
    def data_received(self, data: bytes) -> None:
        """Parse frames, if the connection may still send that many. uvicorn hands over the request here first."""
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:
                self.transport.abort()  # the WebSocket parser refused what the HTTP parser took
        elif self._is_over:
            pass
        elif not self._budget.take_bytes(len(data)):
            self._over("bytes")
        elif not self._budget.take_frames(self._frames.count(data, self._budget.max_frames)):
            self._over("frames")
        else:
            super().data_received(data)

    @override
    async def receive(self) -> Any:
        """Give the application the next event; when many wait, other connections are served in between."""
        if self.queue.empty():
            self._in_a_row = 0
        elif self._in_a_row < FRAMES_IN_A_ROW:
            self._in_a_row += 1
        else:
            self._in_a_row = 0
            await asyncio.sleep(0)
        return await super().receive()

    @override
    def handle_ping(self) -> None:
        """Answer a ping. While the client does not read, only the newest pong is kept (RFC 6455, section 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        elif output := self.conn.data_to_send():
            self._pong = output[-1]

    @override
    def resume_writing(self) -> None:
        """Send what waited until the client reads."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self.close_sent:
            self.transport.write(pong)

    @override
    async def run_asgi(self) -> None:
        """Run the application; a client that does not close its side after that loses the connection."""
        try:
            await super().run_asgi()
        finally:
            if not self.disconnected:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)

    def _end_unopened(self) -> None:
        if self.conn.state is not State.OPEN:
            self.transport.abort()

    def _over(self, limit: str) -> None:
        """Close the connection, which is over a limit; what it sends after that is not looked at."""
        self._is_over = True
        metrics.CLOSED_CONNECTIONS.labels(limit).inc()
        log.info("Closed a WebSocket that is over a limit: %s.", limit)
        if self.conn.state is State.OPEN:
            self.conn.fail(POLICY_VIOLATION, f"too many {limit}")
            self.handle_parser_exception()
        else:
            self.transport.abort()


class FrameCounter:
    """Counts the WebSocket frames in a stream by their headers, which is all that it looks at."""

    def __init__(self) -> None:
        #: Bytes of payload to skip, and the first bytes of a header that was cut.
        self._skip = 0
        self._head = b""

    def count(self, data: bytes, limit: float) -> int:
        """The frames that begin in these bytes; stops at the first over the limit."""
        if self._head:
            data, self._head = self._head + data, b""
        position, frames, end = self._skip, 0, len(data)
        while position < end:
            # Two bytes, an extended length of none, two or eight bytes, and four of mask, which every client sends.
            length = data[position + 1] & 0x7F if position + 1 < end else 127
            if length < 126:
                position += 6 + length
            else:
                payload = position + (4 if length == 126 else 10)
                if payload > end:
                    self._head = data[position:]
                    break
                position = payload + 4 + int.from_bytes(data[position + 2 : payload])
            frames += 1
            if frames > limit:
                break
        self._skip = max(0, position - end)
        return frames
