"""The edge's Socket.IO server in uvicorn, with handlers that note what they are handed, and bare clients of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from socketio import ASGIApp
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from edge.connections import ConnectionConfig
from edge.engine import EngineSocket
from edge.limits import AddressLimit
from edge.server import SocketServer
from infra.health import Server
from infra.settings import EdgeSettings
from tests.support.waiting import eventually


class Received:
    """Accepts every socket unless it is to be refused, and notes all it is handed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.sockets: dict[str, EngineSocket] = {}
        self.auths: list[object] = []
        self.events: list[tuple[int | None, object, list[object]]] = []
        self.too_large_events: list[int | None] = []
        self.gone: list[str] = []
        #: What every connection is refused with.
        self.refusal: ConnectionRefused | None = None

    @property
    def socket(self) -> EngineSocket | None:
        """The latest socket that was accepted."""
        return next(reversed(self.sockets.values()), None)

    async def connect(self, sid: str, engine: EngineSocket, auth: object) -> None:
        """Accept, or raise the refusal."""
        self.auths.append(auth)
        if self.refusal is not None:
            raise self.refusal
        self.sockets[sid] = engine

    def disconnect(self, sid: str, reason: str) -> None:
        """Note the sid."""
        self.gone.append(sid)

    def event(self, sid: str, ack_id: int | None, name: object, arguments: list[object]) -> None:
        """Note the event."""
        self.events.append((ack_id, name, arguments))

    def too_large(self, sid: str, ack_id: int | None) -> None:
        """Note the number."""
        self.too_large_events.append(ack_id)


@dataclass(frozen=True)
class Serving:
    """A server that runs."""

    server: SocketServer
    port: int

    @property
    def url(self) -> str:
        """Where a client connects."""
        return f"ws://127.0.0.1:{self.port}/socket.io/?EIO=4&transport=websocket"


@asynccontextmanager
async def serving(received: Received, **changes: Any) -> AsyncIterator[Serving]:
    """Serve as `edge/app.py` does, for the length of a block. `changes` are limits of `SocketServer`, or settings."""
    limits: dict[str, Any] = {
        "max_event_bytes": 1_000,
        "max_sockets": 10,
        "addresses": AddressLimit(0, 0),
        "address_full_packet": "",
        "socket_buffer_bytes": 1_000,
        "connect_timeout": 10,
        "ping_interval": 25,
        "ping_timeout": 20,
        "origin_allowed": lambda origin, environ: True,
    }
    of_connections = {name: changes.pop(name) for name in list(changes) if name not in limits}
    sockets = SocketServer(received, **{**limits, **changes})
    settings = EdgeSettings.model_validate({"jwt_secret": "x" * 32, "rate_limit": 0, "rate_burst": 0, **of_connections})
    config = ConnectionConfig(ASGIApp(sockets), settings, host="127.0.0.1", port=0, log_config=None, lifespan="off")
    http = Server(config)
    running = asyncio.create_task(http.serve())
    await eventually(lambda: http.started, sentence="uvicorn serves")
    try:
        yield Serving(sockets, http.servers[0].sockets[0].getsockname()[1])
    finally:
        http.should_exit = True
        await running


class BareClient:
    """A bare WebSocket that speaks Engine.IO text."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def text(self) -> str:
        """The next text."""
        return str(await asyncio.wait_for(self.connection.recv(), 5))

    async def send(self, *texts: str | bytes) -> None:
        """Send texts in order; the server may close meanwhile."""
        with suppress(ConnectionClosed):
            for text in texts:
                await self.connection.send(text)

    async def is_closed(self) -> bool:
        """Wait until the server has closed the connection, whatever it sends before."""
        async with asyncio.timeout(5):
            await self.connection.wait_closed()
        return True

    async def rest(self) -> list[str]:
        """Everything that comes until the server closes."""
        texts: list[str] = []
        async with asyncio.timeout(5):
            with suppress(ConnectionClosed):
                while True:
                    texts.append(str(await self.connection.recv()))
        return texts


@asynccontextmanager
async def arriving(served: Serving, **options: Any) -> AsyncIterator[BareClient]:
    """A client that has had Engine.IO's handshake and said nothing yet."""
    async with connect(served.url, compression=None, proxy=None, **options) as connection:
        client = BareClient(connection)
        assert (await client.text()).startswith('0{"sid":')
        yield client


@asynccontextmanager
async def connected(served: Serving) -> AsyncIterator[BareClient]:
    """A client that was accepted."""
    async with arriving(served) as client:
        await client.send('40{"token":"t"}')
        assert (await client.text()).startswith('40{"sid":')
        yield client


async def until_events(received: Received, number: int) -> list[tuple[int | None, object, list[object]]]:
    """Wait until so many events were handed over; return them."""
    await eventually(lambda: len(received.events) >= number, sentence=f"{number} events arrive")
    return received.events


async def accepted_socket(received: Received) -> EngineSocket:
    """The socket that was accepted."""
    found = await eventually(lambda: received.socket, sentence="the socket is accepted")
    assert isinstance(found, EngineSocket)
    return found
