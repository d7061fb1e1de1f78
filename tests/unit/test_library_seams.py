"""Where Warren overrides or reads private parts of a library, the library is still as Warren expects it."""

import asyncio
import functools
import inspect
import signal
from collections.abc import Callable, Iterator
from typing import Any

import aiormq
import httpx
import pytest
from websockets.asyncio.client import connect

from edge import connections, engine, server
from edge.connections import ConnectionConfig, HttpConnection, WebSocketConnection
from edge.engine import EngineServer, EngineSocket
from edge.server import DirectManager, JSONPacket, SocketServer
from infra.health import Server
from tests.support.raw_tcp import client_frame, raw_tcp
from tests.support.socket_server import Received, serving
from tests.support.waiting import eventually

#: Our classes that derive from a library's, and the names of that class's that they replace with plain values.
OURS: dict[type, set[str]] = {
    JSONPacket: {"json", "uses_binary_events"},
    DirectManager: set(),
    EngineSocket: set(),
    EngineServer: set(),
    SocketServer: set(),
    Server: set(),
    ConnectionConfig: set(),
    HttpConnection: set(),
    WebSocketConnection: set(),
}


def methods(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What a class of ours defines itself."""
    yield from ((name, value) for name, value in vars(kind).items() if inspect.isfunction(value) and name != "__init__")


def overrides(kind: type) -> list[str]:
    """The names of the methods that a class of ours marks as an override."""
    return [name for name, method in methods(kind) if getattr(method, "__override__", False)]


def shape(method: Callable[..., Any]) -> tuple[bool, list[tuple[Any, bool]]]:
    """How a method is called: whether it is awaited, and the kind of each parameter and whether it may be left out."""
    parameters = inspect.signature(method).parameters.values()
    return inspect.iscoroutinefunction(method), [(each.kind, each.default is not each.empty) for each in parameters]


def test_every_class_that_derives_from_a_library_is_checked() -> None:
    modules = (connections, engine, server)
    found = {kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)}
    ours = {kind for kind in found if kind.__module__.startswith("edge.")}
    derived = {kind for kind in ours if kind.__mro__[1].__module__.startswith(("engineio", "socketio", "uvicorn"))}
    assert derived <= OURS.keys()


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_override_has_the_shape_of_what_it_replaces(kind: type) -> None:
    for name in overrides(kind):
        replaced = getattr(kind.__mro__[1], name, None)
        assert replaced is not None, f"the library has no {name} any more"
        assert shape(getattr(kind, name)) == shape(replaced), name


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_nothing_of_the_library_is_replaced_by_accident(kind: type) -> None:
    names = {name for name in {**vars(kind), **inspect.get_annotations(kind)} if not name.startswith("__")}
    assert {name for name in names if hasattr(kind.__mro__[1], name)} == {*overrides(kind), *OURS[kind]}


def recording(called: set[str], name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, noting its name when it is called."""

    @functools.wraps(method)
    def plain(*arguments: Any, **named: Any) -> Any:
        called.add(name)
        return method(*arguments, **named)

    @functools.wraps(method)
    async def awaited(*arguments: Any, **named: Any) -> Any:
        return await plain(*arguments, **named)

    return awaited if inspect.iscoroutinefunction(method) else plain


async def test_the_libraries_call_every_override(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a server that notes which overrides are called
    called: set[str] = set()
    for kind in OURS:
        for name in overrides(kind):
            monkeypatch.setattr(kind, name, recording(called, f"{kind.__name__}.{name}", getattr(kind, name)))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    received = Received()
    async with serving(received) as served:
        # When somebody asks over HTTP
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://127.0.0.1:{served.port}/socket.io/", headers={"x": "y"})
            assert answer.status_code == 400
        # And a client connects, sends an event and an ack, and leaves
        async with connect(served.url, proxy=None) as client:
            assert str(await client.recv()).startswith('0{"sid":')
            await client.send("40{}")
            assert str(await client.recv()).startswith('40{"sid":')
            await client.send('427["hello",1]')
            await client.send("431[]")
            await eventually(lambda: "SocketServer._handle_ack" in called, sentence="the ack arrives")
        await eventually(lambda: received.gone, sentence="the server notices that the client left")
        # And another one pings while it does not read
        async with raw_tcp(served.port) as raw:
            await raw.upgrade()
            await raw.send(client_frame("text", b"40{}"))
            await raw.reader.readuntil(b'40{"sid":')
            assert received.socket is not None
            connection = received.socket.connection
            raw.pause()
            received.socket.put("4" + "x" * (16 << 20))
            await eventually(lambda: not connection.writable.is_set(), sentence="the client's buffers are full")
            for payload in (b"first", b"last"):
                await raw.send(client_frame("ping", payload))
            await eventually(lambda: connection._pong.endswith(b"last"), sentence="the newest pong waits")
            raw.resume()
            assert b"first" not in await raw.read_to(b"last")
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    # Then each was called, and the event arrived
    assert received.events == [(7, "hello", [1])]
    assert called == {f"{kind.__name__}.{name}" for kind in OURS for name in overrides(kind)}


async def test_a_socket_finds_the_connection_of_uvicorn_to_end_it() -> None:
    received = Received()
    async with serving(received) as served, connect(served.url, proxy=None) as client:
        await client.send("40{}")
        accepted = await eventually(lambda: received.socket, sentence="the socket is accepted")
        accepted.evict("a test")
        async with asyncio.timeout(5):
            await client.wait_closed()


async def test_aiormq_keeps_whether_the_broker_blocks_a_connection_where_the_link_reads_it() -> None:
    # tests/integration/test_readiness.py raises an alarm and sees it change.
    connection = aiormq.Connection("amqp://127.0.0.1:1")
    unblocked = connection._Connection__connection_unblocked  # type: ignore[attr-defined]
    assert isinstance(unblocked, asyncio.Event)
