"""Where Warren overrides or reads private parts of a library, the library is still as Warren expects it."""

import asyncio
import functools
import inspect
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest
import uvicorn
from socketio import ASGIApp
from websockets.asyncio.client import connect

from edge import server
from edge.limits import AddressLimit
from edge.server import DirectManager, EngineServer, EngineSocket, JSONPacket, SocketServer
from infra.health import Server
from tests.support.waiting import eventually

#: Our classes that derive from a library's, and the names of that class's that they replace with plain values.
OURS: dict[type, set[str]] = {
    JSONPacket: {"json", "uses_binary_events"},
    DirectManager: set(),
    EngineSocket: set(),
    EngineServer: set(),
    SocketServer: set(),
    Server: set(),
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
    found = {kind for _, kind in inspect.getmembers(server, inspect.isclass) if kind.__module__ == server.__name__}
    derived = {kind for kind in found if kind.__mro__[1].__module__.startswith(("engineio", "socketio"))}
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


class Received:
    """Notes what the server hands over."""

    def __init__(self) -> None:
        self.socket: EngineSocket | None = None
        self.events: list[tuple[int | None, object, list[object]]] = []
        self.gone: list[str] = []

    async def connect(self, sid: str, engine: EngineSocket, auth: object) -> None:
        """Accept every socket."""
        self.socket = engine

    def disconnect(self, sid: str, reason: str) -> None:
        """Note the sid."""
        self.gone.append(sid)

    def event(self, sid: str, ack_id: int | None, name: object, arguments: list[object]) -> None:
        """Note the event."""
        self.events.append((ack_id, name, arguments))

    def too_large(self, sid: str, ack_id: int | None) -> None:
        """Nothing here is too large."""


@asynccontextmanager
async def serving(received: Received) -> AsyncIterator[str]:
    """The edge's Socket.IO server in uvicorn, as `edge/app.py` puts them together; gives the address."""
    sockets = SocketServer(
        received,
        max_event_bytes=1_000,
        max_sockets=10,
        addresses=AddressLimit(0, 0),
        address_full_packet="",
        socket_buffer_bytes=1_000,
        connect_timeout=10,
        ping_interval=25,
        ping_timeout=20,
        origin_allowed=lambda origin, environ: True,
    )
    config = uvicorn.Config(
        ASGIApp(sockets), host="127.0.0.1", port=0, ws="websockets-sansio", log_config=None, lifespan="off"
    )
    http = Server(config)
    running = asyncio.create_task(http.serve())
    await eventually(lambda: http.started, sentence="uvicorn serves")
    yield f"ws://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}/socket.io/?EIO=4&transport=websocket"
    http.should_exit = True
    await running


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
    async with serving(received) as url:
        # When a client connects, sends an event and an ack, and leaves
        async with connect(url, proxy=None) as client:
            assert str(await client.recv()).startswith('0{"sid":')
            await client.send("40{}")
            assert str(await client.recv()).startswith('40{"sid":')
            await client.send('427["hello",1]')
            await client.send("431[]")
            await eventually(lambda: "SocketServer._handle_ack" in called, sentence="the ack arrives")
        await eventually(lambda: received.gone, sentence="the server notices that the client left")
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    # Then each was called, and the event arrived
    assert received.events == [(7, "hello", [1])]
    assert called == {f"{kind.__name__}.{name}" for kind in OURS for name in overrides(kind)}


async def test_a_socket_finds_the_transport_of_uvicorn_to_cut_it_off() -> None:
    received = Received()
    async with serving(received) as url, connect(url, proxy=None) as client:
        await client.send("40{}")
        engine = await eventually(lambda: received.socket, sentence="the socket is accepted")
        engine.abort()
        async with asyncio.timeout(5):
            await client.wait_closed()


async def test_aiormq_keeps_whether_the_broker_blocks_a_connection_where_the_link_reads_it() -> None:
    # tests/integration/test_readiness.py raises an alarm and sees it change.
    connection = aiormq.Connection("amqp://127.0.0.1:1")
    unblocked = connection._Connection__connection_unblocked  # type: ignore[attr-defined]
    assert isinstance(unblocked, asyncio.Event)
