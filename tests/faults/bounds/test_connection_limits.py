"""An edge closes sockets without a token, and bounds how many sockets one address may open."""

import asyncio
import json
import socket
import time
from contextlib import AsyncExitStack, suppress

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from infra.local.ports import LOOPBACK
from infra.local.stack import Stack
from tests.faults.bounds.own_edge import own_edge, print_figure, websocket_url
from tests.support.javascript_client import driver
from tests.support.people import People
from tests.support.scrape import metric

#: Sockets that send no token, and seconds that an edge gives them.
SILENT, CONNECT_TIMEOUT = 200, 3
#: Sockets that one address may hold, and that it opens.
ALLOWED, OPENED = 20, 200


async def test_sockets_without_a_token_are_closed_after_the_connect_timeout(people: People, stack: Stack) -> None:
    async with own_edge(stack, WARREN_CONNECT_TIMEOUT=str(CONNECT_TIMEOUT)) as edge:
        # Given two users who chat on the same edge
        ada, bob = await people.connect(people.name("ada"), edge), await people.connect(people.name("bob"), edge)
        conversation_id = await people.chat(ada, bob)
        url = websocket_url(edge)

        async def send_nothing() -> float:
            began = time.monotonic()
            async with connect(url, compression=None, ping_interval=None, proxy=None) as wire:
                try:
                    while True:
                        await wire.recv()
                except ConnectionClosed:
                    return time.monotonic() - began

        # When many sockets connect and send nothing
        waits = asyncio.gather(*(send_nothing() for _ in range(SILENT)))
        # Then others chat meanwhile
        message = await people.say(ada, conversation_id)
        assert await bob.push("new_message", conversation_id, message=message)
        # And all of them are closed in time, and counted
        taken = sorted(await asyncio.wait_for(waits, 40))
        print_figure(f"{SILENT} silent sockets were closed after {taken[0]:.1f} to {taken[-1]:.1f} s")
        assert taken[0] > CONNECT_TIMEOUT - 1
        assert taken[-1] < CONNECT_TIMEOUT + 5
        assert await metric(edge, "warren_edge_connects_total", outcome="timeout") == SILENT
        await people.leave()


async def test_an_address_may_open_so_many_sockets_and_others_as_many(people: People, stack: Stack) -> None:
    async with own_edge(stack, WARREN_MAX_CONNECTIONS_PER_ADDRESS=str(ALLOWED)) as edge, AsyncExitStack() as held:
        # Given an edge that allows so many sockets per address
        url = websocket_url(edge)
        alone = people.name("ada")

        async def arrive(number: int) -> str:
            # An edge ignores a forwarded address that a client sends itself.
            forged = {"X-Forwarded-For": f"198.51.100.{number % 256}"}
            wire = await held.enter_async_context(
                connect(url, compression=None, ping_interval=None, proxy=None, additional_headers=forged)
            )
            await wire.recv()
            with suppress(ConnectionClosed):  # The edge may have refused and closed it already.
                await wire.send("40" + json.dumps({"token": stack.token(people.name("many"))}))
            answer = str(await wire.recv())
            if answer.startswith("44"):
                await wire.wait_closed()
                return str(json.loads(answer[2:])["data"]["code"])
            return answer[:2]

        # When one address opens many sockets at once
        began = time.monotonic()
        answers = await asyncio.gather(*(arrive(number) for number in range(OPENED)))

        # Then so many stay, and the rest is refused with a reason and closed
        assert sorted(set(answers)) == ["40", "too_many_connections"]
        print_figure(
            f"{OPENED} sockets of one address at once, {ALLOWED} allowed: {answers.count('40')} stay, "
            f"{answers.count('too_many_connections')} are refused and closed after {time.monotonic() - began:.1f} s"
        )
        assert answers.count("40") == ALLOWED
        assert await metric(edge, "warren_edge_connects_total", outcome="address full") == OPENED - ALLOWED
        # And client libraries report a refusal, although it comes before their connect packet
        assert (await people.socket({"token": stack.token(alone)}, edge).refused())["code"] == "too_many_connections"
        async with driver() as javascript:
            refused = await javascript.socket("js").connect(edge.url, {"token": stack.token(alone)})
            assert (await refused.until("connect_error"))["data"]["code"] == "too_many_connections"

        # And another address is accepted
        plain = socket.socket()
        plain.bind(("127.0.0.2", 0))
        plain.connect((LOOPBACK, edge.port))
        plain.setblocking(False)
        async with connect(url, sock=plain, compression=None, proxy=None) as wire:
            await wire.recv()
            await wire.send("40" + json.dumps({"token": stack.token(alone)}))
            assert str(await wire.recv()).startswith("40")

        # And a closed socket makes room for another
        await held.aclose()
        await people.connect(alone, edge)
        await people.leave()


async def test_a_client_that_offers_compression_gets_none(people: People, stack: Stack) -> None:
    # With compression, few bytes could become many in an edge's memory.
    async with connect(websocket_url(stack.edges[0]), compression="deflate", proxy=None) as wire:
        assert wire.protocol.extensions == []
