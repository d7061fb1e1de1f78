"""A wire that can be cut: a TCP proxy between a process and a service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from infra.local.stack import HOST


class Wire:
    """Passes bytes on both ways until it is cut; mended, it takes new connections again."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or HOST, parts.port or 5672)
        self._url = parts
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The service's URL by way of this wire."""
        assert self._server is not None
        login, at, _ = self._url.netloc.rpartition("@")
        port: int = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._url._replace(netloc=f"{login}{at}{HOST}:{port}"))

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connected, HOST, 0)

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Take connections again."""
        self._cut = False

    async def close(self) -> None:
        """Take no more connections and break those that stand."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        service_reader, service_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, service_writer}
        await asyncio.gather(_pass_on(reader, service_writer), _pass_on(service_reader, writer))
        self._writers -= {writer, service_writer}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A wire to the service at a URL."""
    opened = Wire(url)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()
