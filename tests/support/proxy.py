"""A TCP proxy in front of one or several services: it can cut connections, delay them, and pause them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
#: Bytes that are passed on at a time.
CHUNK = 65_536
#: The first bytes of a client that are kept of each connection: they tell connections apart.
OPENING = 4_096

#: Host and port of a service.
Target = tuple[str, int]


class Proxy:
    """Passes bytes on both ways. A new connection goes to the next target that takes it."""

    def __init__(self, *targets: Target) -> None:
        #: Seconds that each chunk of bytes waits.
        self.delay = 0.0
        self._targets = targets
        self._turn = 0
        self._cut: bytes | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        #: Each connection, and the first bytes that its client sent.
        self._connections: dict[asyncio.Task[None], bytearray] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def in_front_of(self, url: str) -> str:
        """The same URL by way of this proxy."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{HOST}:{self.port}"))

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)

    async def stop(self) -> None:
        """Break every connection and take no more."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self, containing: bytes = b"") -> None:
        """Break every connection, and each new one at once, until `restore`.

        With `containing`, break only those whose client has these bytes in what it sends first, such as a name.
        """
        self._cut = containing
        for connection, opening in self._connections.items():
            if containing in opening:
                connection.cancel()

    def restore(self) -> None:
        """Take connections again after `cut`."""
        self._cut = None

    def pause(self) -> None:
        """Keep connections open and pass nothing on, until `resume`. The peers see a network that lost its packets."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what waited, and what follows."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections[connection] = opening = bytearray()
        ends = [writer]
        try:
            found = None if self._cut == b"" else await self._connect()
            if found is None:
                writer.transport.abort()
                return
            answers, service = found
            ends.append(service)
            await asyncio.gather(self._pass_on(reader, service, opening), self._pass_on(answers, writer))
        except asyncio.CancelledError:
            for end in ends:
                end.transport.abort()
        finally:
            del self._connections[connection]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._targets:
            target = self._targets[self._turn % len(self._targets)]
            self._turn += 1
            with suppress(OSError):
                return await asyncio.open_connection(*target)
        return None

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opening: bytearray | None = None
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if opening is not None and len(opening) < OPENING:
                    opening += data[:OPENING]
                    if self._cut is not None and self._cut in opening:
                        raise asyncio.CancelledError
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(*targets: Target) -> AsyncIterator[Proxy]:
    """A proxy for the length of a block."""
    started = Proxy(*targets)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


def target_of(url: str) -> Target:
    """Host and port of a URL that names both."""
    parts = urlsplit(url)
    assert parts.hostname is not None, f"{url} names no host"
    assert parts.port is not None, f"{url} names no port"
    return parts.hostname, parts.port
