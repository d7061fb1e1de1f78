"""A TCP proxy in front of one member of a replica set, through which clients and the other members reach it.

It stops what the member says to the others, or what it answers a client, at a marker that a fault has put into a
message: the text of a message is in the insert, in the oplog entry of the insert, and in the preview of the header.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from tests.support.proxy import CHUNK, HOST

#: What only other members say when they connect.
MEMBER = b"internalClient"

#: What must be awaited before the answer to a client's insert is passed on.
Holding = list[Callable[[], Awaitable[None]]]


class MemberProxy:
    """Passes bytes on both ways until it is told to stop some of them."""

    def __init__(self, port: int) -> None:
        #: Connections of other members that got nothing more, since the last `pass_on`.
        self.stopped = 0
        self._target = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.pass_on()

    @property
    def address(self) -> str:
        """Where it listens, host:port."""
        assert self._server is not None
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)

    async def stop(self) -> None:
        """Break every connection and take no more."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def pass_on(self) -> None:
        """Stop nothing from now on."""
        self.stopped = 0
        self._marker: bytes | None = None
        self._copies = 0
        self._stops_all = False
        self._insert: bytes | None = None
        self._on_insert: Callable[[], Awaitable[None]] | None = None

    def stop_after(self, marker: bytes, copies: int) -> None:
        """Let another member have so many copies of the marker, and then nothing more.

        So it has the oplog entries with the marker, confirms them, and never learns that they are committed.
        """
        self._marker, self._copies = marker, copies

    def stop_before_insert(self, marker: bytes, on_insert: Callable[[], Awaitable[None]]) -> None:
        """When a client inserts the marker, stop all replication, await `on_insert`, and then pass on the answer."""
        self._insert, self._on_insert = marker, on_insert

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        ends = [writer]
        try:
            answers, service = await asyncio.open_connection(HOST, self._target)
            ends.append(service)
            opening = await reader.read(CHUNK)
            service.write(opening)
            if MEMBER in opening:
                await asyncio.gather(self._copy(reader, service), self._to_member(answers, writer))
            else:
                holding: Holding = []
                await asyncio.gather(self._requests(reader, service, holding), self._replies(answers, writer, holding))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.transport.abort()
            self._connections.discard(connection)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _to_member(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        copies, stopped = 0, False
        with suppress(OSError):
            async for message in _messages(answers):
                # What follows is read and dropped, as if it were on its way when the member fails.
                if stopped := stopped or self._stops_all:
                    continue
                writer.write(message)
                await writer.drain()
                if self._marker is not None:
                    copies += message.count(self._marker)
                    stopped = copies >= self._copies
                    self.stopped += stopped
        writer.close()

    async def _requests(self, reader: asyncio.StreamReader, service: asyncio.StreamWriter, holding: Holding) -> None:
        with suppress(OSError):
            async for message in _messages(reader):
                if self._insert is not None and self._insert in message and self._on_insert is not None:
                    holding.append(self._on_insert)
                    self._insert, self._stops_all = None, True
                service.write(message)
                await service.drain()
        service.close()

    async def _replies(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, holding: Holding) -> None:
        with suppress(OSError):
            async for message in _messages(answers):
                if holding:
                    await holding.pop()()
                writer.write(message)
                await writer.drain()
        writer.close()


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """MongoDB's messages, each of which begins with its length in four bytes."""
    with suppress(asyncio.IncompleteReadError):
        while True:
            length = await reader.readexactly(4)
            yield length + await reader.readexactly(int.from_bytes(length, "little") - 4)


@asynccontextmanager
async def member_proxy(port: int) -> AsyncIterator[MemberProxy]:
    """A proxy in front of the member at this port, for the length of a block."""
    proxy = MemberProxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
