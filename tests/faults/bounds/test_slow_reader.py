"""A client that does not read costs an edge its own buffer, and nothing else."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import quantiles

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from infra.bench.load.light_client import Socket, open_socket
from infra.local.ports import LOOPBACK
from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.faults.bounds.own_edge import MEGABYTE, own_edge, print_figure, websocket_url
from tests.support.people import People
from tests.support.scrape import metric
from tests.support.waiting import eventually

#: Events for the client that does not read: two for each message, the message and the count.
DUE = 10_000
#: Messages before anything is measured.
WARM_UP = 500
#: Bytes that the edge's memory may grow next to the socket's own buffer while it relays all that.
SLACK = 24 * MEGABYTE


@asynccontextmanager
async def narrow_socket(edge: Process, token: str) -> AsyncIterator[ClientConnection]:
    """A WebSocket with a small buffer in the kernel, so that what it does not read stays in the edge."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect((LOOPBACK, edge.port))
    plain.setblocking(False)
    async with connect(
        websocket_url(edge), sock=plain, compression=None, max_size=None, ping_interval=None, proxy=None
    ) as wire:
        await wire.recv()
        await wire.send("40" + json.dumps({"token": token}))
        while not str(await wire.recv()).startswith('42["session_ready"'):
            pass
        yield wire


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_client_that_does_not_read_costs_its_own_buffer_and_is_cut_off(people: People, stack: Stack) -> None:
    async with own_edge(stack) as edge, AsyncExitStack() as held:
        names = {label: people.name(label) for label in ("ada", "sleeper", "carol", "dave")}

        async def arrive(label: str) -> Socket:
            opened = await open_socket(edge.url, stack.token(names[label]))
            held.callback(opened.close)
            return opened

        # Given Carol and Dave who chat on the same edge, and Ada who sends to a client that reads
        ada, carol, dave = await arrive("ada"), await arrive("carol"), await arrive("dave")
        sleeper = await arrive("sleeper")
        chat = (await carol.call("start_conversation", {"participant_ids": [names["dave"]]}))["conversation"]["id"]
        victim = (await ada.call("start_conversation", {"participant_ids": [names["sleeper"]]}))["conversation"]["id"]
        await _flood(ada, victim, "warm", WARM_UP)
        stop = asyncio.Event()
        measuring = asyncio.create_task(_p99((dave, carol), chat, "a", stop))
        await _flood(ada, victim, "read", DUE // 2)
        stop.set()
        calm = await measuring
        sleeper.close()
        slow_before = await metric(edge, "warren_edge_slow_sockets_total")
        process = psutil.Process(edge.pid)

        # When that client stops reading while 10,000 events are due
        async with narrow_socket(edge, stack.token(names["sleeper"])) as wire:
            wire.transport.pause_reading()
            memory = process.memory_info().rss
            peak = [memory]
            looking = asyncio.create_task(_keep_looking(lambda: peak.append(process.memory_info().rss)))
            stop = asyncio.Event()
            measuring = asyncio.create_task(_p99((dave, carol), chat, "b", stop))
            await _flood(ada, victim, "unread", DUE // 2)
            stop.set()
            meanwhile = await measuring
            looking.cancel()

            # Then the edge cuts it off and counts it
            async def cut() -> bool:
                return await metric(edge, "warren_edge_slow_sockets_total") == slow_before + 1

            await eventually(cut, sentence="the socket that does not read is cut off")
            wire.transport.abort()

        # And the edge grew by no more than that socket's buffer, and the others were as fast as before
        grown = max(peak) - memory
        print_figure(f"10,000 events unread: the edge grew by {grown / MEGABYTE:.1f} MiB (buffer 1 MiB)")
        print_figure(f"acks of others on that edge, p99: {calm:.0f} ms before, {meanwhile:.0f} ms meanwhile")
        assert grown < MEGABYTE + SLACK
        assert meanwhile < 2 * calm + 100

        # And after a reconnect, history has every message
        back = await arrive("sleeper")
        seqs: list[int] = []
        while True:
            query = {"conversation_id": victim, "after_seq": seqs[-1] if seqs else 0, "limit": 100}
            page = await back.call("list_messages", query)
            seqs += [message["seq"] for message in page["messages"]]
            if not page["has_more"]:
                break
        assert seqs == list(range(1, WARM_UP + DUE + 1))


async def _flood(sender: Socket, conversation_id: str, label: str, count: int) -> None:
    """Send so many messages of 3,000 characters, 50 at a time."""
    body = "x" * 3_000
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            message = {"conversation_id": conversation_id, "client_message_id": f"{label}{number}", "body": body}
            await sender.call("send_message", message)

    await asyncio.gather(*(send() for _ in range(50)))


async def _keep_looking(look: Callable[[], object]) -> None:
    while True:
        look()
        await asyncio.sleep(0.1)


async def _p99(sockets: tuple[Socket, Socket], conversation_id: str, label: str, until: asyncio.Event) -> float:
    """Send in turn, the second first, until `until` is set; the 99th percentile of acks, milliseconds."""
    taken: list[float] = []
    number = 0
    while not until.is_set():
        number += 1
        message = {"conversation_id": conversation_id, "client_message_id": f"{label}{number}", "body": "tick"}
        began = time.perf_counter()
        await sockets[number % 2].call("send_message", message)
        taken.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return quantiles(taken, n=100)[98]
