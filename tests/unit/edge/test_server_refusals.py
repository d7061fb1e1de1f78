"""Connections that the Socket.IO server refuses: without a token in time, too many, or from elsewhere."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from contracts.codec import SocketJSON
from edge.limits import AddressLimit
from edge.server import MAX_CONNECT
from tests.support.socket_server import Received, Serving, arriving, connected, serving, until_events
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


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
        # Then a client that says nothing is closed
        async with arriving(served) as silent:
            assert await silent.is_closed()

        # And one that was accepted stays
        async with connected(served) as accepted:
            await asyncio.sleep(0.1)  # longer than that limit
            await accepted.send('421["still here"]')
            await until_events(received, 1)
    assert counted("warren_edge_connects_total", outcome="timeout") == before + 1


async def test_before_its_token_nothing_of_a_client_is_parsed(
    served: Serving, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a server that notes what it parses
    parsed: list[str] = []

    def note(text: str, **_: Any) -> object:
        parsed.append(text)
        return {}

    monkeypatch.setattr(SocketJSON, "loads", staticmethod(note))

    # When a client sends events and acks before it connects, then they are dropped unread
    async with arriving(served) as early:
        await early.send('421["event"]', "431[1]", '40{"token":"t"}')
        assert (await early.text()).startswith('40{"sid":')
    assert parsed == ['{"token":"t"}']

    # And any other packet ends the connection
    for packet in ("41[1]", "44[1]", "451-[]"):
        async with arriving(served) as wrong:
            await wrong.send(packet)
            assert await wrong.is_closed()
    assert parsed == ['{"token":"t"}']


async def test_a_connect_that_is_longer_than_any_token_is_refused_unread(served: Serving, received: Received) -> None:
    received.refusal = ConnectionRefused("unauthorized")
    for namespace in ("", "/admin,"):
        async with arriving(served) as long:
            await long.send(f'40{namespace}{{"token":"' + "x" * MAX_CONNECT + '"}')
            assert [text[:2] for text in await long.rest()] == ["44"]
    assert received.auths == [None, None]


async def test_a_refused_client_has_no_time_to_try_again(served: Serving, received: Received) -> None:
    received.refusal = ConnectionRefused("unauthorized")
    async with arriving(served) as refused:
        await refused.send("40", "40")
        assert await refused.rest() == ['44{"message":"unauthorized"}']
    assert len(received.auths) == 1


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
