"""A bare TCP connection to an edge: for what no HTTP or WebSocket library would send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

HOST = "127.0.0.1"
#: Seconds that a step of connecting may take.
CONNECT_LIMIT = 15.0

UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: %s\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)

Kind = Literal["continuation", "text", "binary", "close", "ping", "pong"]
_OPCODES: dict[Kind, int] = {"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}


def client_frame(kind: Kind, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A WebSocket frame as a client sends it, masked with zeros."""
    head = bytes([_OPCODES[kind] | (0x80 if fin else 0)])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([0x80 | 126]) + len(payload).to_bytes(2)
    else:
        head += bytes([0x80 | 127]) + len(payload).to_bytes(8)
    return head + bytes(4) + payload


class RawTCP:
    """Bytes to and from an edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionError when the edge has closed the connection."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self, within: float) -> bytes:
        """Read until the edge closes the connection; return what it sent. Raises TimeoutError."""
        received = bytearray()
        async with asyncio.timeout(within):
            with suppress(ConnectionError):
                while chunk := await self.reader.read(1 << 16):
                    received += chunk
        return bytes(received)

    async def read_to(self, end: bytes, within: float = CONNECT_LIMIT) -> bytes:
        """Read until these bytes have come, however much that is; return all."""
        received = bytearray()
        async with asyncio.timeout(within):
            while end not in received[-len(end) - (1 << 16) :]:
                chunk = await self.reader.read(1 << 16)
                if not chunk:
                    raise ConnectionError(f"closed before {end!r} came")
                received += chunk
        return bytes(received)

    def pause(self) -> None:
        """Read nothing until `resume`, so that what the edge sends fills the buffers in between."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport:
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    async def upgrade(self, token: str | None = None) -> None:
        """Open the WebSocket; with a token, also authenticate and wait for `session_ready`."""
        await self.send(UPGRADE % b"edge")
        async with asyncio.timeout(CONNECT_LIMIT):
            await self.reader.readuntil(b'{"sid":')
            if token is not None:
                await self.send(client_frame("text", b"40" + json.dumps({"token": token}).encode()))
                await self.reader.readuntil(b'42["session_ready"')


@asynccontextmanager
async def raw_tcp(port: int, host: str = HOST) -> AsyncIterator[RawTCP]:
    """Connect to a port; the connection is aborted at the end of the block."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield RawTCP(reader, writer)
    finally:
        writer.transport.abort()
