"""The Socket.IO server against the installed libraries: what a client can send, and what cannot be sent.

tests/unit/test_library_seams.py checks what each override replaces; these files check what the overrides are for.
"""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.support.raw_tcp import UPGRADE, raw_tcp
from tests.support.socket_server import Received, Serving, arriving, connected, serving, until_events
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


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


async def test_a_second_connect_on_one_connection_ends_it(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        await client.send('40{"token":"another"}', '421["after"]')
        assert await client.is_closed()
    assert received.auths == [{"token": "t"}]
    assert received.events == []
    assert received.gone == list(received.sockets)


async def test_a_client_that_leaves_the_namespace_is_not_heard_again(served: Serving, received: Received) -> None:
    async with connected(served) as client:
        await client.send("41", '40{"token":"another"}', '421["after"]')
        assert await client.is_closed()
    assert received.auths == [{"token": "t"}]
    assert received.events == []
    assert received.gone == list(received.sockets)


async def test_another_namespace_is_refused_and_ends_the_connection(served: Serving, received: Received) -> None:
    async with arriving(served) as client:
        await client.send('40/admin,{"token":"t"}')
        assert await client.rest() == ['44/admin,"Unable to connect"']
    assert received.auths == []


async def test_a_handler_that_fails_leaves_nothing_behind(
    served: Serving, received: Received, caplog: pytest.LogCaptureFixture
) -> None:
    # Given handlers with a bug, in connect or in an event
    async with arriving(served) as client:
        received.refusal = RuntimeError("a bug")
        await client.send("40")
        assert await client.is_closed()
    received.refusal = None
    async with connected(served) as client:
        received.events = None  # type: ignore[assignment]
        await client.send('421["event"]')
        assert await client.is_closed()
    # Then both connections end like any other
    await eventually(lambda: not served.server.eio.open_connections, sentence="the connections have ended")
    assert served.server.manager.rooms == {}
    assert served.server.environ == {}
    assert len(received.gone) == 2
    assert caplog.text.count("could not be handled") == 2


async def test_a_client_that_is_gone_before_it_is_accepted_leaves_nothing_behind(served: Serving) -> None:
    async with raw_tcp(served.port) as raw:
        await raw.send(UPGRADE % b"edge")
        raw.writer.transport.abort()
    await eventually(lambda: not served.server.eio.sockets, sentence="the socket has ended")
    await eventually(lambda: not served.server.eio.open_connections, sentence="the connection has ended")
    assert served.server.environ == {}


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
