"""A bare WebSocket to an edge: for what no Socket.IO library would send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from infra.local.supervisor import Process
from tests.support.socketio_client import Json
from tests.support.waiting import PATIENCE


class RawSocket:
    """Engine.IO frames as they are on the wire."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, frame: str | bytes) -> None:
        """Send one frame; that the server has closed meanwhile is no error."""
        with suppress(ConnectionClosed):
            await self.connection.send(frame)

    async def receive(self, start: str) -> str:
        """Wait for a text frame that starts like this, skipping others and answering pings."""
        async with asyncio.timeout(PATIENCE):
            async for frame in self.connection:
                assert isinstance(frame, str)
                if frame == "2":
                    await self.send("3")
                if frame.startswith(start):
                    return frame
        raise AssertionError(f"closed before a frame that starts with {start} came")

    async def ack(self, number: int) -> Json:
        """Wait for the ack of that number; return its single argument."""
        frame = await self.receive(f"43{number}[")
        (answer,) = json.loads(frame[frame.index("[") :])
        return answer

    async def until_closed(self, within: float = PATIENCE) -> None:
        """Wait until the server closes."""
        async with asyncio.timeout(within):
            await self.connection.wait_closed()


@asynccontextmanager
async def raw_socket(edge: Process, token: str | None) -> AsyncIterator[RawSocket]:
    """Connect; with a token, also authenticate and wait for `session_ready`."""
    url = edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with connect(url, compression=None, max_size=None, ping_interval=None, proxy=None) as connection:
        socket = RawSocket(connection)
        await socket.receive("0{")
        if token is not None:
            await socket.send("40" + json.dumps({"token": token}))
            await socket.receive('42["session_ready"')
        yield socket
