"""The WebSocket client of load runs, against a server that is slow to answer."""

import asyncio
import base64
import hashlib
import re
from types import SimpleNamespace
from typing import Any

import pytest
from picows import WSMsgType

from infra.bench.load.light_client import Socket, open_socket

#: What RFC 6455 has a server append to the client's key.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Engine.IO's open packet in a WebSocket frame.
OPEN = b"\x81\x03" + b"0{}"


async def test_a_connection_whose_handshake_was_cancelled_is_closed() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"Sec-WebSocket-Key: (\S+)", request, re.IGNORECASE)
        assert found is not None
        asked.set()
        await answer.wait()
        accept = base64.b64encode(hashlib.sha1(found[1] + GUID, usedforsecurity=False).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + OPEN)
        received.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        # Given a client that waits for the answer to its handshake
        port = server.sockets[0].getsockname()[1]
        opening = asyncio.create_task(open_socket(f"http://127.0.0.1:{port}", "token"))
        await asyncio.wait_for(asked.wait(), 5)

        # When it gives up, and the answer comes
        opening.cancel()
        await asyncio.wait([opening])
        answer.set()

        # Then it closes the connection, and never sends its token
        assert b"token" not in await asyncio.wait_for(received, 5)


async def test_a_call_that_is_cancelled_as_its_ack_arrives_is_cancelled() -> None:
    # Given a call that was sent
    sent = asyncio.Event()
    transport: Any = SimpleNamespace(send=lambda *_: sent.set())
    frame: Any = SimpleNamespace(msg_type=WSMsgType.TEXT, get_payload_as_bytes=lambda: b'431[{"ok":true,"data":{}}]')
    socket = Socket("token", None)
    socket.on_ws_connected(transport)
    calling = asyncio.create_task(socket.call("get_presence", {"user_ids": []}))
    await sent.wait()

    # When its ack arrives, and it is cancelled before it has taken the ack
    socket.on_ws_frame(transport, frame)
    calling.cancel()

    # Then it is cancelled
    with pytest.raises(asyncio.CancelledError):
        await calling
