"""The counter of frames against the library that parses them, and connections below ASGI over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from websockets.frames import Frame, Opcode

from edge.connections import FrameCounter
from tests.support.raw_tcp import RawTCP, client_frame, raw_tcp
from tests.support.socket_server import Received, Serving, accepted_socket, serving
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

frames = st.builds(
    lambda opcode, length: Frame(opcode, bytes(length)),
    st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY]),
    st.one_of(st.integers(0, 125), st.sampled_from([126, 127, 65_535, 65_536, 70_000])),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 140_000), max_size=12))
async def test_frames_are_counted_wherever_the_stream_is_cut(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(frame.serialize(mask=True) for frame in sent)
    counter, counted, start = FrameCounter(), 0, 0
    for end in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        counted += counter.count(stream[start:end], float("inf"))
        start = end
    assert counted == len(sent)


async def test_counting_ends_at_the_limit() -> None:
    assert FrameCounter().count(client_frame("ping") * 100_000, 10) == 11


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Serving]:
    async with serving(
        Received(), request_timeout=0.5, frame_rate=10, frame_burst=20, max_request_bytes=4_096
    ) as served:
        yield served


def closed_for(limit: str) -> float:
    return REGISTRY.get_sample_value("warren_edge_closed_connections_total", {"limit": limit}) or 0.0


def transports(kind: str) -> float:
    return REGISTRY.get_sample_value("warren_edge_transports", {"kind": kind}) or 0.0


async def test_frames_within_the_budget_are_served_and_the_next_closes(served: Serving) -> None:
    before = closed_for("frames")
    async with raw_tcp(served.port) as raw:
        await raw.upgrade()
        for number in range(15):
            await raw.send(client_frame("ping", b"%02d" % number))
        await raw.read_to(b"14")
        await raw.send(client_frame("ping") * 20)
        assert b"too many frames" in await raw.until_closed(5)
    assert closed_for("frames") == before + 1
    await eventually(lambda: transports("websocket") == 0, sentence="nothing is left")


async def test_of_pongs_that_a_client_does_not_read_the_newest_waits() -> None:
    received = Received()
    async with serving(received) as served, raw_tcp(served.port) as raw:
        # Given a client that does not read, so that all buffers are full
        await raw.upgrade()
        await raw.send(client_frame("text", b"40{}"))
        await raw.reader.readuntil(b'40{"sid":')
        connection = (await accepted_socket(received)).connection
        raw.pause()
        connection.transport.write(bytes(16 << 20))
        assert not connection.writable.is_set()
        waiting = connection.transport.get_write_buffer_size()
        # When it pings
        for number in range(100):
            await raw.send(client_frame("ping", b"<%d>" % number))
        await eventually(lambda: connection._pong.endswith(b"<99>"), sentence="the newest pong waits")
        # Then nothing more waits, and it gets that pong once it reads
        assert connection.transport.get_write_buffer_size() <= waiting
        raw.resume()
        assert b"<98>" not in await raw.read_to(b"<99>")


async def test_a_request_may_take_its_time_and_no_more(served: Serving) -> None:
    # Given a request whose bytes come slowly
    before = closed_for("request timeout")
    async with raw_tcp(served.port) as raw:
        began = time.monotonic()
        closing = asyncio.create_task(raw.until_closed(5))
        with suppress(ConnectionError):
            await raw.send(b"GET /")
            while not closing.done():
                await raw.send(b"x")
                await asyncio.wait([closing], timeout=0.1)
        # Then its time ends although bytes come, and the close is counted
        await closing
        assert 0.4 < time.monotonic() - began < 3
    assert closed_for("request timeout") == before + 1
    await eventually(lambda: transports("http") == 0, sentence="nothing is left")


async def test_a_kept_connection_serves_one_request_after_the_other(served: Serving) -> None:
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=1)) as http:
        for _ in range(4):
            assert (await http.get(f"http://127.0.0.1:{served.port}/")).status_code == 404
            await asyncio.sleep(0.2)  # altogether longer than one request may take


async def refused(raw: RawTCP, request: bytes) -> bool:
    with suppress(ConnectionError):
        await raw.send(request)
    answer = await raw.until_closed(5)
    return answer == b"" or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nx: " + b"y" * 5_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 21,
        b"nonsense\r\n\r\n",
    ],
    ids=["long", "many headers", "many requests", "no HTTP"],
)
async def test_a_request_over_a_limit_is_refused(served: Serving, request_bytes: bytes) -> None:
    async with raw_tcp(served.port) as raw:
        if b"host" in request_bytes:
            with suppress(ConnectionError):
                await raw.send(request_bytes)
            assert (await raw.until_closed(5)).count(b"HTTP/1.1 404") <= 20
        else:
            assert await refused(raw, request_bytes)
    await eventually(lambda: transports("http") == 0, sentence="nothing is left")


async def test_an_http_request_that_only_names_the_upgrade_gets_no_socket(served: Serving) -> None:
    async with raw_tcp(served.port) as raw:
        await raw.send(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\n"
            b"upgrade: websocket\r\nconnection: close\r\n\r\n"
        )
        assert (await raw.until_closed(5)).startswith(b"HTTP/1.1 400")
    assert not served.server.eio.sockets
