"""The Socket.IO server against the installed libraries: what a client can send, and how much can wait for it.

What each override replaces is held by tests/unit/test_library_seams.py; this file holds what the overrides are for.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge.limits import AddressLimit
from edge.server import EngineSocket
from tests.support.socket_server import Received, Serving, serving
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Client:
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
async def arriving(served: Serving, **options: Any) -> AsyncIterator[Client]:
    """A client that has had Engine.IO's handshake and said nothing yet."""
    async with connect(served.url, compression=None, proxy=None, **options) as connection:
        client = Client(connection)
        assert (await client.text()).startswith('0{"sid":')
        yield client


@asynccontextmanager
async def connected(served: Serving) -> AsyncIterator[Client]:
    """A client that was accepted."""
    async with arriving(served) as client:
        await client.send('40{"token":"t"}')
        assert (await client.text()).startswith('40{"sid":')
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[Serving, Received]]:
    """A server with the usual limits, for all tests that need no others."""
    received = Received()
    async with serving(received) as served:
        yield served, received


@pytest_asyncio.fixture(loop_scope="module")
async def served(shared: tuple[Serving, Received]) -> AsyncIterator[Serving]:
    """That server, without sockets of other tests."""
    served, received = shared
    received.forget()
    yield served
    await eventually(lambda: not served.server.eio.sockets, sentence="all sockets of the test have closed")


@pytest.fixture
def received(shared: tuple[Serving, Received]) -> Received:
    """What that server has handed over during the test."""
    return shared[1]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until_events(received: Received, number: int) -> list[tuple[int | None, object, list[object]]]:
    """Wait until so many events were handed over; return them."""
    await eventually(lambda: len(received.events) >= number, sentence=f"{number} events arrive")
    return received.events


# --- Events -----------------------------------------------------------------------------------------------


async def test_events_are_handed_over_in_order_with_their_number_and_arguments(
    served: Serving, received: Received
) -> None:
    async with connected(served) as client:
        await client.send('427["hello",{"a":1}]', '42["no number"]', '420["many",1,null,"x"]')
        events = await until_events(received, 3)
    assert events == [(7, "hello", [{"a": 1}]), (None, "no number", []), (0, "many", [1, None, "x"])]


async def test_what_was_sent_with_connect_is_handed_over_as_it_is(served: Serving, received: Received) -> None:
    for auth in ({"token": "t"}, ["list"], "text"):
        async with arriving(served) as client:
            await client.send("40" + json.dumps(auth))
            await client.text()
    async with arriving(served) as client:
        await client.send("40")
        await client.text()
    assert received.auths == [{"token": "t"}, ["list"], "text", None]


@pytest.mark.parametrize("name", ["connect", "disconnect", "connect_error", "*"])
async def test_an_event_with_the_name_of_a_handler_is_an_event_like_any_other(
    served: Serving, received: Received, name: str
) -> None:
    # Given a client that says that it disconnects, or connects anew as somebody else
    async with connected(served) as client:
        await client.send(f'421["{name}","x",{{"HTTP_X":"y"}},{{"token":"other"}}]', '422["after"]')

        # Then that is only an event
        events = await until_events(received, 2)
        assert events[0] == (1, name, ["x", {"HTTP_X": "y"}, {"token": "other"}])
        assert received.gone == []
        assert received.auths == [{"token": "t"}]


async def test_an_event_before_the_token_was_accepted_is_dropped(served: Serving, received: Received) -> None:
    async with arriving(served) as client:
        await client.send('421["early"]', '40{"token":"t"}')
        assert (await client.text()).startswith('40{"sid":')
        await client.send('422["later"]')
        assert await until_events(received, 1) == [(2, "later", [])]


async def test_a_second_connect_on_one_connection_changes_nothing(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        await client.send('40{"token":"another"}', '421["after"]')
        await until_events(received, 1)
    assert received.auths == [{"token": "t"}]
    assert len(received.sockets) == 1


async def test_a_client_that_leaves_is_gone_once(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        await client.send("41")
    await eventually(lambda: received.gone, sentence="the server notices that the client left")
    async with connected(served) as another:
        await another.send("1")
        assert await another.is_closed()
    await eventually(lambda: len(received.gone) == 2, sentence="the server notices that the other left")
    await eventually(lambda: not served.server.eio.sockets, sentence="nothing of them is kept")
    assert received.gone == list(received.sockets)


# --- What no correct client sends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4", "event"),
        ("4x", "packet type"),
        ('44{"message":"x"}', "packet type"),
        ('451-["binary",{"_placeholder":true,"num":0}]', "packet type"),
        ("461-[]", "packet type"),
        ('421-["attachment"]', "attachments"),
        ('4299999999999-["attachments"]', "json"),
        ('42["never closed"', "json"),
        ('42{"not":"a list"}', "event"),
        ("42[]", "event"),
        ("42", "event"),
        ('42/other,["elsewhere"]', "event"),
        ("5", "engine packet type"),
        ("2probe", "engine packet type"),
        ("", "engine packet type"),
        (b"\x04binary", "binary"),
        ("4" + "x" * 1_001, "too large"),
        ('40{"token":"' + "x" * 1_001 + '"}', "too large"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_packet_that_no_correct_client_sends_closes_its_connection_alone(
    served: Serving, received: Received, text: Any, reason: str
) -> None:
    # Given two clients
    before = counted("warren_edge_bad_packets_total", reason=reason)
    async with connected(served) as good, connected(served) as bad:
        # When one sends such a packet, then it is closed and counted
        await bad.send(text)
        assert await bad.is_closed()
        await eventually(
            lambda: counted("warren_edge_bad_packets_total", reason=reason) == before + 1, sentence=f"{reason} counts"
        )

        # And the other notices nothing
        await good.send('421["still here"]')
        assert await until_events(received, 1) == [(1, "still here", [])]


async def test_json_as_deep_as_an_event_allows_is_no_crash() -> None:
    received = Received()
    async with serving(received, max_event_bytes=100_000) as served, connected(served) as client:
        await client.send('421["deep",' + "[" * 45_000 + "]" * 45_000 + "]")
        assert await client.is_closed()


@pytest.mark.parametrize(("head", "number"), [("427", 7), ("42", None), ("420", 0)])
async def test_an_event_over_the_limit_is_refused_unread_and_the_connection_stays(
    served: Serving, received: Received, head: str, number: int | None
) -> None:
    async with connected(served) as client:
        await client.send(head + '["long","' + "x" * 1_000 + '"]', '421["after"]')
        assert await until_events(received, 1) == [(1, "after", [])]
    assert received.too_large_events == [number]


async def test_the_limit_is_of_bytes_and_not_of_characters(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        for body in ("x" * 980, "é" * 480, "é" * 500):
            await client.send(f'421["e","{body}"]')
        await client.send('422["after"]')
        events = await until_events(received, 3)
    assert [len(str(arguments)) for _, name, arguments in events if name == "e"] == [984, 484]
    assert received.too_large_events == [1]


# --- Refused connections ----------------------------------------------------------------------------------


async def test_a_refusal_reaches_the_client_as_a_connect_error(served: Serving, received: Received) -> None:
    received.refusal = ConnectionRefused("unauthorized", {"code": "unauthorized"})
    async with arriving(served) as client:
        await client.send("40")
        refused = await client.text()
    assert refused.startswith("44")
    assert json.loads(refused[2:]) == {"message": "unauthorized", "data": {"code": "unauthorized"}}
    assert received.sockets == {}


async def test_whoever_shows_no_token_in_time_is_closed() -> None:
    # Given a server that waits for a moment
    before = counted("warren_edge_connects_total", outcome="timeout")
    received = Received()
    async with serving(received, connect_timeout=0.05) as served:
        # Then a client that says nothing is closed, and so is one that was refused
        async with arriving(served) as silent:
            assert await silent.is_closed()
        received.refusal = ConnectionRefused("unauthorized")
        async with arriving(served) as refused:
            await refused.send("40")
            assert await refused.is_closed()

        # And one that was accepted stays
        received.refusal = None
        async with connected(served) as accepted:
            await asyncio.sleep(0.1)  # longer than that limit
            await accepted.send('421["still here"]')
            await until_events(received, 1)
    assert counted("warren_edge_connects_total", outcome="timeout") == before + 2


async def test_an_edge_holds_so_many_sockets() -> None:
    before = counted("warren_edge_connects_total", outcome="edge full")
    async with serving(Received(), max_sockets=2) as served, arriving(served), arriving(served):
        with pytest.raises(InvalidStatus):
            await connect(served.url, proxy=None)
    assert counted("warren_edge_connects_total", outcome="edge full") == before + 1


async def test_an_address_holds_so_many_sockets_and_the_next_is_told_so_before_its_token() -> None:
    # Given an edge that takes one socket from each address, and an address that has one
    received, limit = Received(), AddressLimit(1, 0)
    async with serving(received, addresses=limit, address_full_packet='44{"message":"full"}') as served:
        async with connected(served), arriving(served) as refused:
            # When another comes from there, then it gets the refusal, is closed, and what it sends is not looked at
            await refused.send('40{"token":"t"}', b"anything", '421["event"]')
            assert await refused.rest() == ['44{"message":"full"}']

        # And once the first has left there is room again
        await eventually(lambda: len(limit) == 0, sentence="the address is forgotten")
        async with connected(served):
            pass
    assert len(received.auths) == 2
    assert received.events == []


async def test_pages_of_other_origins_get_no_connection() -> None:
    def allowed(origin: str, environ: dict[str, Any]) -> bool:
        return origin == "https://chat.test"

    async with serving(Received(), origin_allowed=allowed) as served:
        async with arriving(served, origin="https://chat.test"):
            pass
        with pytest.raises(InvalidStatus):
            await connect(served.url, proxy=None, origin="https://evil.test")  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["EIO=4&transport=polling", "EIO=3&transport=websocket", "transport=websocket", ""])
async def test_there_is_nothing_but_websockets_of_version_4(served: Serving, received: Received, query: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://127.0.0.1:{served.port}/socket.io/?{query}"
        for answer in (await http.get(url), await http.post(url, content="40")):
            assert answer.status_code == 400
        assert not served.server.eio.sockets


# --- What waits for a socket ------------------------------------------------------------------------------


async def accepted(received: Received) -> EngineSocket:
    """The socket that was accepted."""
    found = await eventually(lambda: received.socket, sentence="the socket is accepted")
    assert isinstance(found, EngineSocket)
    return found


async def test_text_leaves_in_order_and_makes_room_for_more(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        engine = await accepted(received)
        for number in range(20):
            await eventually(lambda: engine.put("x" * 600), sentence="there is room again")
            assert engine.put(f"{number}")
        assert [await client.text() for _ in range(40)] == [
            text for number in range(20) for text in ("x" * 600, f"{number}")
        ]


async def test_a_socket_that_reads_gets_text_of_any_length_and_one_that_does_not_has_a_full_buffer(
    served: Serving, received: Received
) -> None:
    async with connected(served) as client:
        engine = await accepted(received)

        # Given that nothing waits, then text longer than the buffer is taken
        assert engine.put("x" * 5_000)
        # While it waits, there is no room for more, and nothing of that is sent
        assert not engine.put("no room")
        assert await client.text() == "x" * 5_000
        # And once it was written, there is
        await eventually(lambda: engine.waiting_bytes == 0, sentence="nothing waits")
        assert engine.put("room")
        assert await client.text() == "room"


async def test_an_evicted_socket_is_cut_off_at_once_and_takes_nothing_more(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        engine = await accepted(received)
        assert engine.put("waits")
        engine.evict("a test says so")
        assert engine.put("x" * 5_000), "whoever sends to it is not told to evict it again"
        assert "x" * 5_000 not in await client.rest()
        await eventually(lambda: received.gone, sentence="it is gone")


async def test_a_socket_that_is_to_close_gets_first_what_was_sent_to_it(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        engine = await accepted(received)
        for text in ("one", "two"):
            engine.put(text)
        engine.close_when_flushed()
        assert await client.rest() == ["one", "two"]
        await eventually(lambda: received.gone, sentence="it is gone")


async def test_a_client_that_answers_pings_stays_and_one_that_does_not_is_cut_off() -> None:
    received = Received()
    async with serving(received, ping_interval=0.02, ping_timeout=0.2) as served:
        async with connected(served) as client:
            # Given a client that answers some pings, then it stays
            for _ in range(5):
                assert await client.text() == "2"
                await client.send("3")
            assert received.gone == []

            # When it answers no more, then it is cut off
            assert await client.is_closed()
        await eventually(lambda: received.gone, sentence="it is gone")


async def test_leaving_costs_the_same_whatever_the_number_of_sockets() -> None:
    # Given many sockets, then the library keeps no room for each, which every leave would have to visit
    received = Received()
    async with serving(received, max_sockets=50) as served:
        clients = [await connect(served.url, proxy=None) for _ in range(20)]
        for connection in clients:
            await connection.send("40")
        await eventually(lambda: len(received.sockets) == 20, sentence="all are accepted")
        assert list(served.server.manager.rooms["/"]) == [None]

        # And nothing is left when they have gone
        for connection in clients:
            await connection.close()
        await eventually(lambda: len(received.gone) == 20, sentence="all are gone")
        assert served.server.manager.rooms.get("/", {}) in ({}, {None: {}})
        assert not served.server.manager.pending_disconnect.get("/")
