"""What one connection may cost: a deadline before the upgrade, budgets after it, and one end for all that is its."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import httpx
import pytest
import pytest_asyncio

from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.raw_tcp import Kind, RawTCP, client_frame, raw_tcp
from tests.support.raw_websocket import raw_socket
from tests.support.scrape import metric
from tests.support.waiting import eventually

#: Seconds within which an attacker is closed; tests share their machine.
CLOSED_WITHIN = 10.0
#: Bytes that a flood sends at a time, and at most.
CHUNK, FLOOD = 30_000, 6_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(stack: Stack) -> AsyncIterator[Process]:
    """An edge that no other test uses: its connections are counted."""
    async with extra_edge(stack) as edge:
        yield edge


async def all_given_back(edge: Process) -> None:
    """Wait until the edge has no socket and no WebSocket."""

    async def none_left() -> bool:
        sockets = await metric(edge, "warren_edge_sockets")
        return sockets + await metric(edge, "warren_edge_transports", kind="websocket") == 0

    await eventually(none_left, sentence="the edge has no socket and no transport")


# --- One end ----------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_the_namespace_loses_its_transport(people: People, edge: Process) -> None:
    user_id = people.name("mallory")
    async with raw_socket(edge, people.stack.token(user_id)) as raw:
        await raw.send("41")
        await raw.until_closed()
        await all_given_back(edge)


@pytest.mark.parametrize("after", [["41"], []], ids=["after leaving", "while connected"])
async def test_a_transport_connects_once(people: People, edge: Process, after: list[str]) -> None:
    # When a client connects again on its transport
    token = people.stack.token(people.name("mallory"))
    async with raw_socket(edge, token) as raw:
        for frame in [*after, "40" + json.dumps({"token": token})]:
            await raw.send(frame)
        # Then the transport ends, and nothing of it is left
        await raw.until_closed()
        await all_given_back(edge)
    assert "Traceback" not in edge.log.read_text()


async def test_a_refused_client_is_answered_and_closed(people: People, edge: Process) -> None:
    async with raw_socket(edge, None) as raw:
        await raw.send('40{"token":"nonsense"}')
        assert json.loads((await raw.receive("44"))[2:])["message"] == "unauthorized"
        await raw.until_closed(5)


async def test_a_foreign_namespace_is_answered_and_closed(people: People, edge: Process) -> None:
    async with raw_socket(edge, None) as raw:
        await raw.send("40/admin,")
        await raw.receive("44/admin,")
        await raw.until_closed(5)


# --- Budgets ----------------------------------------------------------------------------------------------

#: A frame that one client sends without end.
FLOODS: dict[str, tuple[Kind, bytes, bool]] = {
    "pings without a token": ("ping", b"", False),
    "pings": ("ping", b"x" * 100, True),
    "pongs": ("pong", b"", True),
    "Engine.IO pongs": ("text", b"3", True),
    "acks": ("text", b"43[]", True),
    "refused events": ("text", b'421["nothing"]', True),
    "events without an ack": ("text", b'42["nothing"]', True),
    "empty fragments": ("continuation", b"", True),
    "large events": ("text", b'421["nothing","' + b"x" * 60_000 + b'"]', True),
}


async def flood(raw: RawTCP, data: bytes) -> float:
    """Send it without end; return the seconds until the edge closed the connection, or CLOSED_WITHIN."""
    began = time.monotonic()
    reading = asyncio.create_task(raw.until_closed(2 * CLOSED_WITHIN))
    with suppress(ConnectionError):
        for _ in range(FLOOD // len(data)):
            await raw.send(data)
            if reading.done() or time.monotonic() - began > CLOSED_WITHIN:
                break
            await asyncio.sleep(0.03)
    with suppress(TimeoutError):
        await asyncio.wait_for(reading, max(0.1, began + CLOSED_WITHIN - time.monotonic()))
    return time.monotonic() - began


@pytest.mark.parametrize("what", FLOODS)
async def test_a_client_that_floods_is_closed(people: People, edge: Process, what: str) -> None:
    # Given a person who chats on the edge
    ada, bob = await people.connect(people.name("ada"), edge), await people.connect(people.name("bob"), edge)
    chat = await people.chat(ada, bob)
    kind, payload, authenticated = FLOODS[what]
    frame = client_frame(kind, payload)
    async with raw_tcp(edge.port) as raw:
        await raw.upgrade(people.stack.token(people.name("mallory")) if authenticated else None)
        if kind == "continuation":
            await raw.send(client_frame("text", b"4", fin=False))
            frame = client_frame(kind, payload, fin=False)
        # When another client floods
        flooding = asyncio.create_task(flood(raw, frame * max(1, CHUNK // len(frame))))
        slowest = 0.0
        while not flooding.done():
            began = time.monotonic()
            await people.say(ada, chat)
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.05)
        # Then it is closed, and the other hardly notices
        assert await flooding < CLOSED_WITHIN
        assert slowest < 1
    await people.leave()
    await all_given_back(edge)


# --- Before the upgrade -----------------------------------------------------------------------------------


#: Seconds for a request, and requests that are never complete: how each begins, and how it goes on.
REQUEST_TIMEOUT = 2.0
ENDLESS = [
    (b"", b""),
    (b"GET /", b"x"),
    (b"GET / HTTP/1.1\r\n", b"x: y\r\n"),
    (b"POST /dev/token HTTP/1.1\r\nhost: edge\r\ncontent-length: 1000\r\n\r\n", b"x"),
    # Answered before its body has come.
    (b"GET /healthz HTTP/1.1\r\nhost: edge\r\ncontent-length: 1000\r\n\r\n", b"x"),
]


async def drip(edge: Process, first: bytes, rest: bytes) -> float:
    """Send a request bit by bit; return the seconds until the edge closed the connection."""
    async with raw_tcp(edge.port) as raw:
        began = time.monotonic()
        closing = asyncio.create_task(raw.until_closed(20))
        with suppress(ConnectionError):
            await raw.send(first)
            while not closing.done():
                await raw.send(rest)
                await asyncio.wait([closing], timeout=0.2)
        await closing
        return time.monotonic() - began


async def test_a_connection_that_does_not_finish_its_request_is_closed(stack: Stack) -> None:
    async with extra_edge(stack, {"WARREN_REQUEST_TIMEOUT": f"{REQUEST_TIMEOUT}"}) as edge:
        lasted = await asyncio.gather(*(drip(edge, first, rest) for first, rest in ENDLESS))
    assert max(lasted) < REQUEST_TIMEOUT + 2


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5_000,
        b"GET /" + b"x" * 100_000,
        b"POST /dev/token HTTP/1.1\r\nhost: edge\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 100_000,
    ],
    ids=["a long header", "many headers", "a long line", "a long body"],
)
async def test_a_request_over_the_limit_is_refused_and_closed(edge: Process, request_bytes: bytes) -> None:
    async with raw_tcp(edge.port) as raw:
        with suppress(ConnectionError):
            await raw.send(request_bytes)
        answer = await raw.until_closed(3)
        assert answer == b"" or answer.split()[1] in (b"400", b"413", b"431")


async def test_an_upgrade_that_is_none_is_closed(edge: Process) -> None:
    # An upgrade that the HTTP parser takes and the WebSocket parser does not
    async with raw_tcp(edge.port) as raw:
        await raw.send(b"GET /socket.io/ HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n")
        await raw.send(b"content-length: 5\r\n\r\n12345")
        await raw.until_closed(3)
    await all_given_back(edge)


async def test_requests_on_one_connection_are_served(edge: Process) -> None:
    async with httpx.AsyncClient(base_url=edge.url, trust_env=False, limits=httpx.Limits(max_connections=1)) as http:
        for path in ("/healthz", "/metrics", "/readyz", "/") * 10:
            answer = await http.get(path)
            assert answer.status_code == 200, path


async def test_the_oldest_connection_makes_room_for_a_new_one(stack: Stack) -> None:
    # Given an edge with room for ten connections that are no WebSockets, and twenty silent ones
    async with extra_edge(stack, {"WARREN_MAX_PENDING_CONNECTIONS": "10"}) as edge, AsyncExitStack() as held:
        silent = [await held.enter_async_context(raw_tcp(edge.port)) for _ in range(20)]
        # When somebody asks, then they are answered, and the oldest silent ones were closed
        assert await metric(edge, "warren_edge_transports", kind="http") == 10
        for raw in silent[:10]:
            await raw.until_closed(3)


async def test_an_address_has_room_for_so_many_silent_connections(stack: Stack) -> None:
    limits = {"WARREN_MAX_CONNECTIONS_PER_ADDRESS": "2", "WARREN_MAX_PENDING_CONNECTIONS": "50"}
    async with extra_edge(stack, limits) as edge, AsyncExitStack() as held:
        silent = [await held.enter_async_context(raw_tcp(edge.port)) for _ in range(20)]
        for raw in silent[:14]:
            await raw.until_closed(3)
        assert await metric(edge, "warren_edge_transports", kind="http") <= 5
