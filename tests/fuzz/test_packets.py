"""Sequences of WebSocket frames, Engine.IO and Socket.IO packets, and loose bytes, on several connections at once.

Whatever they are, a bystander's events arrive, no event of a client arrives that is not accepted, every accepted client
is gone exactly once, nothing raises, and nothing is left of a connection that has ended.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused
from typing_extensions import override

from tests.fuzz.length import fuzzing
from tests.support.raw_tcp import UPGRADE, Kind, RawTCP, client_frame, raw_tcp
from tests.support.socket_server import BareClient, Received, arriving, serving
from tests.support.waiting import eventually

T = TypeVar("T")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3),
    max_leaves=6,
)
documents = json_values.map(json.dumps)
namespaces = st.sampled_from(["", "/,", "/admin,", "/,/,", "/?a=b,", ","])
numbers = st.sampled_from(["", "0", "7", "007", "-1", "9" * 19, "9" * 20, "9" * 300, "1-", "2-7"])


@st.composite
def packets(draw: st.DrawFn) -> str:
    """An Engine.IO packet with a Socket.IO packet in it: correct, nearly correct, or cut off."""
    kind = draw(st.sampled_from(["0", "1", "2", "2", "2", "3", "4", "5", "6", "", "x"]))
    name = draw(st.sampled_from(["hello", "connect", "disconnect", "*", ""]))
    event = json.dumps([name, *draw(st.lists(json_values, max_size=2))])
    body = draw(st.sampled_from([event, event, '{"token":"t"}', "", "[]", "[" * 2_000, '"' + "x" * 1_500]) | documents)
    text = "4" + kind + draw(namespaces) + draw(numbers) + body
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 5)) == 0 else text


#: Packets of the transport: what only a server sends, a client's close, pongs without a ping, upgrades.
transport_packets = st.sampled_from(["0", "1", "2", "2probe", "3", "3probe", "5", "6", "b4", "9", ""])
kinds: st.SearchStrategy[Kind] = st.sampled_from(["continuation", "text", "text", "binary", "close", "ping", "pong"])
payloads = (packets() | transport_packets).map(lambda text: text.encode(errors="surrogatepass")) | st.binary(
    max_size=140
)
frames = st.builds(client_frame, kinds, payloads, fin=st.sampled_from([True, True, True, False]))
requests = st.sampled_from(
    [
        UPGRADE % b"edge",
        (UPGRADE % b"edge").replace(b"websocket\r\n", b"h2c\r\n", 1),
        (UPGRADE % b"edge").replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        (UPGRADE % b"edge").replace(b"EIO=4", b"EIO=9"),
        b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: edge\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: edge\r\ncontent-length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ]
)


class Strict(Received):
    """Notes what may never happen."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    @override
    async def connect(self, sid: str, engine: Any, auth: object) -> None:
        await asyncio.sleep(0)  # as a token does whose key is fetched
        if isinstance(auth, dict) and "refuse" in auth:
            raise ConnectionRefused("refused")
        await super().connect(sid, engine, auth)

    @override
    def disconnect(self, sid: str, reason: str) -> None:
        if sid in self.gone:
            self.wrong.append(f"a client is gone twice: {reason}")
        super().disconnect(sid, reason)

    @override
    def event(self, sid: str, ack_id: int | None, name: object, arguments: list[object]) -> None:
        if sid not in self.sockets or sid in self.gone:
            self.wrong.append(f"an event of a client that is not connected: {name}")
        super().event(sid, ack_id, name, arguments)


class Errors(logging.Handler):
    """Collects what is logged as an error. engineio logs a client's bad requests as errors too, without a traceback."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.found = found

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and (record.exc_info or not record.name.startswith("engineio")):
            self.found.append(self.format(record))


class Connections(RuleBasedStateMachine):
    """Connections that send anything, beside one that sends events."""

    connections: Bundle[RawTCP] = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.received = Strict()
        self.asked = 0
        self.errors = Errors(self.received.wrong)
        logging.getLogger().addHandler(self.errors)

    def run(self, step: Awaitable[T]) -> T:
        """Run a step, within a limit of time."""

        async def limited() -> T:
            async with asyncio.timeout(10):
                return await step

        return self.runner.run(limited())

    @initialize()
    def start(self) -> None:
        """A server, and a bystander who is connected."""

        async def begin() -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: self.received.wrong.append(str(context))
            )
            self.open = AsyncExitStack()
            self.served = await self.open.enter_async_context(
                serving(self.received, max_sockets=50, connect_timeout=1, max_event_bytes=1_000)
            )
            # Runs when all clients have gone, and before the server ends.
            self.open.push_async_callback(self.nothing_is_left)
            self.bystander: BareClient = await self.open.enter_async_context(arriving(self.served))
            await self.bystander.send('40{"token":"t"}')
            await self.bystander.text()

        self.run(begin())

    @rule(target=connections, request=requests, upgrade=st.booleans())
    def connect(self, request: bytes, upgrade: bool) -> RawTCP:
        """Open a connection with some request, mostly the correct one."""

        async def begin() -> RawTCP:
            raw = await self.open.enter_async_context(raw_tcp(self.served.port))
            await self.write(raw, UPGRADE % b"edge" if upgrade else request)
            return raw

        return self.run(begin())

    @rule(raw=connections, auth=st.sampled_from(['{"token":"t"}', "", '{"refuse":1}', "[]", "7"]))
    def authenticate(self, raw: RawTCP, auth: str) -> None:
        """Send Socket.IO's CONNECT."""
        self.run(self.write(raw, client_frame("text", f"40{auth}".encode())))

    @rule(raw=connections, several=st.lists(frames, min_size=1, max_size=5))
    def write_frames(self, raw: RawTCP, several: list[bytes]) -> None:
        """Send frames at once."""
        self.run(self.write(raw, b"".join(several)))

    @rule(raw=connections, frame=frames, data=st.data())
    def send_frame_in_parts(self, raw: RawTCP, frame: bytes, data: st.DataObject) -> None:
        """Send a frame in two parts."""
        position = data.draw(st.integers(0, len(frame)))
        self.run(self.write(raw, frame[:position]))
        self.run(self.write(raw, frame[position:]))

    @rule(raw=connections, data=st.binary(min_size=1, max_size=64))
    def send_bytes(self, raw: RawTCP, data: bytes) -> None:
        """Send bytes that are no frame, or a part of one."""
        self.run(self.write(raw, data))

    @rule(raw=connections)
    def leave_the_namespace_and_come_back(self, raw: RawTCP) -> None:
        """Send what a client sends that leaves and connects anew on the same connection."""
        parts = [client_frame("text", text) for text in (b"41", b"40", b'42["after"]')]
        self.run(self.write(raw, b"".join(parts)))

    @rule(raw=consumes(connections), half=st.booleans())
    def disconnect(self, raw: RawTCP, half: bool) -> None:
        """Close the sending side, or reset the connection."""

        async def end() -> None:
            with suppress(OSError):
                if half and not raw.writer.transport.is_closing():
                    raw.writer.write_eof()
            if not half:
                raw.writer.transport.abort()
            await asyncio.sleep(0.001)

        self.run(end())

    @invariant()
    def the_bystander_is_served(self) -> None:
        """The bystander's next event arrives, in order."""
        if not hasattr(self, "bystander"):
            return
        self.asked += 1

        async def ask() -> None:
            await self.bystander.send(f'42{self.asked}["of the bystander"]')
            await eventually(self.bystander_was_heard, within=5, sentence="the bystander's event arrives")
            await eventually(
                self.who_left_is_heard_no_more, within=2, sentence="connections of clients that left are closed"
            )

        self.run(ask())
        assert not self.received.wrong, self.received.wrong

    def who_left_is_heard_no_more(self) -> bool:
        """Whether each connection of a client that is gone has ended, or is about to."""
        ended = [self.received.sockets[sid] for sid in self.received.gone if sid in self.received.sockets]
        return all(engine.dismissed or engine.closed or engine.evicted for engine in ended)

    def bystander_was_heard(self) -> bool:
        """Whether its events arrived, each once and in order."""
        numbers = [number for number, name, _ in self.received.events if name == "of the bystander"]
        return numbers == list(range(1, self.asked + 1))

    @override
    def teardown(self) -> None:
        """End all connections; nothing of them may be left."""
        if hasattr(self, "open"):
            self.run(self.open.aclose())
        self.runner.close()
        logging.getLogger().removeHandler(self.errors)
        assert not self.received.wrong, self.received.wrong

    async def nothing_is_left(self) -> None:
        """Wait until the server keeps nothing of any connection, and every client that was accepted is gone."""
        server = self.served.server

        def is_empty() -> bool:
            held = (server.eio.sockets, server.manager.rooms.get("/"), server.environ, server.eio.open_connections)
            return not any(held) and sorted(self.received.gone) == sorted(self.received.sockets)

        await eventually(is_empty, within=8, sentence="nothing is left of connections that have ended")

    async def write(self, raw: RawTCP, data: bytes) -> None:
        """Send bytes and let the server handle them; it may have closed the connection."""
        with suppress(OSError):
            await raw.send(data)
        await asyncio.sleep(0.001)


TestConnections = Connections.TestCase
TestConnections.settings = fuzzing(examples=20, steps=25)
