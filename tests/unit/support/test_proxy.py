"""The proxy that outages are made with does what it says, and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.proxy import HOST, Proxy, proxy, target_of


@asynccontextmanager
async def service(name: bytes) -> AsyncIterator[tuple[str, int]]:
    """A service that says its name first and then answers each line with that line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name + b"\n")
        async for line in reader:
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield (HOST, server.sockets[0].getsockname()[1])
    finally:
        server.close()


class Connection:
    """A client's connection through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self) -> bytes:
        """The next line; empty at the end of the connection."""
        return (await asyncio.wait_for(self.reader.readline(), 5)).rstrip()

    async def ask(self, line: bytes) -> bytes:
        """Send a line and return the answer."""
        self.writer.write(line + b"\n")
        return await self.line()

    async def is_broken(self) -> bool:
        """Whether the proxy has broken it."""
        try:
            return await self.line() == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(through: Proxy) -> AsyncIterator[Connection]:
    connection = Connection(*await asyncio.open_connection(HOST, through.port))
    try:
        yield connection
    finally:
        connection.writer.transport.abort()


async def test_bytes_pass_both_ways_until_the_client_closes() -> None:
    async with service(b"a") as target, proxy(target) as through, connected(through) as client:
        assert await client.line() == b"a"
        assert await client.ask(b"x" * 50_000) == b"x" * 50_000
        client.writer.write_eof()
        assert await client.line() == b""


async def test_connections_go_to_the_targets_in_turn_past_those_that_are_away() -> None:
    async with service(b"gone") as gone:
        pass
    async with service(b"a") as a, service(b"b") as b, proxy(a, gone, b) as through:
        names = []
        for _ in range(4):
            async with connected(through) as client:
                names.append(await client.line())
    assert names == [b"a", b"b", b"a", b"b"]


async def test_a_connection_is_broken_when_no_target_is_there() -> None:
    async with service(b"gone") as gone:
        pass
    async with proxy(gone) as through, connected(through) as client:
        assert await client.is_broken()


async def test_a_cut_breaks_every_connection_and_each_new_one_until_it_is_restored() -> None:
    async with service(b"a") as target, proxy(target) as through, connected(through) as before:
        assert await before.line() == b"a"

        through.cut()

        assert await before.is_broken()
        async with connected(through) as meanwhile:
            assert await meanwhile.is_broken()
        through.restore()
        async with connected(through) as after:
            assert await after.line() == b"a"


async def test_a_cut_of_connections_by_their_first_bytes_leaves_the_others() -> None:
    async with service(b"a") as target, proxy(target) as through, connected(through) as one, connected(through) as two:
        assert [await one.line(), await two.line()] == [b"a", b"a"]
        # Given two connections that began differently
        assert [await one.ask(b"I publish"), await two.ask(b"I consume")] == [b"I publish", b"I consume"]

        # When those that begin like the first are cut
        through.cut(b"publish")

        # Then the other stays, and each new one that begins so is cut too, until they are restored
        assert await one.is_broken()
        assert await two.ask(b"hello") == b"hello"
        async with connected(through) as meanwhile:
            assert await meanwhile.line() == b"a"
            meanwhile.writer.write(b"I publish\n")
            assert await meanwhile.is_broken()
        through.restore()
        async with connected(through) as after:
            assert await after.line() == b"a"
            assert await after.ask(b"I publish") == b"I publish"


async def test_a_pause_keeps_connections_open_and_loses_nothing() -> None:
    async with service(b"a") as target, proxy(target) as through, connected(through) as client:
        assert await client.line() == b"a"

        through.pause()
        answer = asyncio.create_task(client.ask(b"hello"))
        done, _ = await asyncio.wait([answer], timeout=0.1)

        assert not done
        through.resume()
        assert await answer == b"hello"


async def test_a_delay_holds_each_way_for_so_long() -> None:
    async with service(b"a") as target, proxy(target) as through, connected(through) as client:
        assert await client.line() == b"a"
        through.delay = 0.05
        began = time.monotonic()
        assert await client.ask(b"hello") == b"hello"
        assert time.monotonic() - began >= 2 * through.delay


async def test_an_address_by_way_of_the_proxy_keeps_all_but_host_and_port() -> None:
    async with proxy((HOST, 1)) as through:
        url = through.in_front_of("amqp://guest:g%40st@broker.test:5672/a%2Fb?heartbeat=5")
        assert url == f"amqp://guest:g%40st@{HOST}:{through.port}/a%2Fb?heartbeat=5"


def test_a_target_is_the_host_and_port_of_a_url() -> None:
    assert target_of("amqp://guest:guest@broker.test:5673/vhost") == ("broker.test", 5673)


@pytest.mark.parametrize("url", ["amqp://broker.test/vhost", "nonsense"])
def test_a_url_without_host_and_port_is_no_target(url: str) -> None:
    with pytest.raises(AssertionError):
        target_of(url)
