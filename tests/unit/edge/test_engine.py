"""What waits for a socket: in order, bounded, and dropped with the socket."""

import pytest
from websockets.asyncio.client import connect

from tests.support.socket_server import Received, Serving, accepted_socket, connected, serving
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_text_leaves_in_order_and_makes_room_for_more(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        engine = await accepted_socket(received)
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
        engine = await accepted_socket(received)

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
        engine = await accepted_socket(received)
        assert engine.put("waits")
        engine.evict("a test says so")
        assert engine.put("x" * 5_000), "whoever sends to it is not told to evict it again"
        assert "x" * 5_000 not in await client.rest()
        await eventually(lambda: received.gone, sentence="it is gone")


async def test_a_socket_that_is_to_close_gets_first_what_was_sent_to_it(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        engine = await accepted_socket(received)
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
