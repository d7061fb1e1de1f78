"""A TCP proxy that takes its time: slow on demand, and a balancer in front of several targets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
#: Bytes that are passed on at a time.
CHUNK = 65_536


class Proxy:
    """Passes bytes on both ways, each after `delay` seconds; a new connection goes to the next target that takes it."""

    def __init__(self, *targets: tuple[str, int]) -> None:
        self.delay = 0.0
        self._targets = list(targets)
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

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
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            far = await self._connect()
            if far is not None:
                ways = [self._pass_on(reader, far[1]), self._pass_on(far[0], writer)]
                await asyncio.gather(*ways, return_exceptions=True)
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            self._open.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._targets:
            self._turn += 1
            with suppress(OSError):
                return await asyncio.open_connection(*self._targets[self._turn % len(self._targets)])
        return None

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def proxy(*targets: tuple[str, int]) -> AsyncIterator[Proxy]:
    """A proxy for the length of a block."""
    started = Proxy(*targets)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()
