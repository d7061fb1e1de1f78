"""Bounds under abuse: nobody can take more than their share, and each test prints how much that was.

More of it stands elsewhere: floods of events, frames and attachments, deep JSON and invalid bytes in
tests/e2e/test_bad_input.py. Run with `-s` to see the figures.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from statistics import quantiles
from typing import Any

import psutil
import pytest
from pymongo.uri_parser import parse_uri
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from infra.bench.load.client import CallFailed, Socket, open_socket
from infra.local.stack import HOST, Process, Stack
from infra.local.tenant import Tenant, temporary_tenant
from tests.faults.probe import call
from tests.support.javascript_client import driver
from tests.support.people import People
from tests.support.proxy import Proxy, proxy, target_of
from tests.support.raw_websocket import raw_socket
from tests.support.scrape import metric
from tests.support.waiting import eventually

MEGABYTE = 1 << 20
#: Events that are due to the client that does not read: two for each message, itself and the count.
DUE = 10_000
#: Bytes that the edge's memory may grow beside the socket's own buffer while it relays all that.
SLACK = 24 * MEGABYTE
#: Sockets that say nothing.
SILENT = 200
#: Sockets that one address may hold, and that it tries to.
ROOM, CROWD = 20, 200
#: People of the hot group, its messages a second, and for how many seconds.
HOT, HOT_RATE, HOT_SECONDS = 200, 50, 6


def figure(sentence: str) -> None:
    """Print what was measured."""
    print(f"\n  {sentence}")


@asynccontextmanager
async def own_edge(stack: Stack, **env: str) -> AsyncIterator[Process]:
    """An edge that no other test uses, without a rate limit."""
    edge = await stack.add_edge({"WARREN_RATE_LIMIT": "0", "WARREN_DRAIN_SECONDS": "0", **env})
    try:
        yield edge
    finally:
        await stack.terminate(edge)
        stack.edges.remove(edge)


async def p99_of(sockets: tuple[Socket, Socket], conversation_id: str, label: str, until: asyncio.Event) -> float:
    """Send in turn, the second first, until told to stop; the 99th percentile of acks, milliseconds."""
    taken: list[float] = []
    number = 0
    while not until.is_set():
        number += 1
        message = {"conversation_id": conversation_id, "client_message_id": f"{label}{number}", "body": "tick"}
        began = time.perf_counter()
        await call(sockets[number % 2], "send_message", message)
        taken.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return quantiles(taken, n=100)[98]


# --- One who does not read --------------------------------------------------------------------------------


@asynccontextmanager
async def narrow_socket(edge: Process, token: str) -> AsyncIterator[tuple[Any, Any]]:
    """A WebSocket whose kernel keeps little, so that what is not read stays with the edge."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect((HOST, edge.port))
    plain.setblocking(False)
    url = edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with connect(url, sock=plain, compression=None, max_size=None, ping_interval=None, proxy=None) as wire:
        await wire.recv()
        await wire.send("40" + json.dumps({"token": token}))
        while not str(await wire.recv()).startswith('42["session_ready"'):
            pass
        yield wire, plain


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_client_that_does_not_read_costs_its_own_buffer_and_is_cut_off(people: People, stack: Stack) -> None:
    async with own_edge(stack) as edge, AsyncExitStack() as held:
        names = {label: people.name(label) for label in ("ada", "sleeper", "carol", "dave")}

        async def arrive(label: str) -> Socket:
            opened = await open_socket(edge.url, stack.token(names[label]))
            held.callback(opened.close)
            return opened

        # Given Carol and Dave who chat on the same edge, and Ada who writes to someone who reads
        ada, carol, dave = await arrive("ada"), await arrive("carol"), await arrive("dave")
        sleeper = await arrive("sleeper")
        chat = (await call(carol, "start_conversation", {"participant_ids": [names["dave"]]}))["conversation"]["id"]
        victim = (await call(ada, "start_conversation", {"participant_ids": [names["sleeper"]]}))["conversation"]["id"]
        await _flood(ada, victim, "warm", 500)
        stop = asyncio.Event()
        measuring = asyncio.create_task(p99_of((dave, carol), chat, "a", stop))
        await _flood(ada, victim, "read", DUE // 2)
        stop.set()
        calm = await measuring
        sleeper.close()
        slow_before = await metric(edge, "warren_edge_slow_sockets_total")
        process = psutil.Process(edge.pid)

        # When that someone stops to read while 10,000 events are due
        async with narrow_socket(edge, stack.token(names["sleeper"])) as (wire, _):
            wire.transport.pause_reading()
            memory = process.memory_info().rss
            peak = [memory]
            watching = asyncio.create_task(_watch(lambda: peak.append(process.memory_info().rss)))
            stop = asyncio.Event()
            measuring = asyncio.create_task(p99_of((dave, carol), chat, "b", stop))
            await _flood(ada, victim, "unread", DUE // 2)
            stop.set()
            meanwhile = await measuring
            watching.cancel()

            # Then it is cut off, as the metric says
            async def cut() -> bool:
                return await metric(edge, "warren_edge_slow_sockets_total") == slow_before + 1

            await eventually(cut, sentence="the socket that does not read is cut off")
            wire.transport.abort()

        # And the edge held no more than that socket's buffer, and the others noticed nothing
        grown = max(peak) - memory
        figure(f"10,000 events unread: the edge grew by {grown / MEGABYTE:.1f} MiB (buffer 1 MiB)")
        figure(f"acks of others on that edge, p99: {calm:.0f} ms before, {meanwhile:.0f} ms meanwhile")
        assert grown < MEGABYTE + SLACK
        assert meanwhile < 2 * calm + 100

        # And when they come back, history has it all
        back = await arrive("sleeper")
        seqs: list[int] = []
        while True:
            query = {"conversation_id": victim, "after_seq": seqs[-1] if seqs else 0, "limit": 100}
            page = await call(back, "list_messages", query)
            seqs += [message["seq"] for message in page["messages"]]
            if not page["has_more"]:
                break
        assert seqs == list(range(1, 500 + DUE + 1))


async def _flood(sender: Socket, conversation_id: str, label: str, count: int) -> None:
    """Send so many messages of 3,000 characters, 50 at a time."""
    body = "x" * 3_000
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            message = {"conversation_id": conversation_id, "client_message_id": f"{label}{number}", "body": body}
            await call(sender, "send_message", message)

    await asyncio.gather(*(send() for _ in range(50)))


async def _watch(look: Callable[[], object]) -> None:
    while True:
        look()
        await asyncio.sleep(0.1)


# --- Connections ------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_sockets_that_show_no_token_are_closed_in_ten_seconds(people: People, stack: Stack) -> None:
    async with own_edge(stack) as edge:
        ada, bob = await people.connect(people.name("ada"), edge), await people.connect(people.name("bob"), edge)
        conversation_id = await people.chat(ada, bob)
        url = edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"

        async def say_nothing() -> float:
            began = time.monotonic()
            async with connect(url, compression=None, ping_interval=None, proxy=None) as wire:
                try:
                    while True:
                        await wire.recv()
                except ConnectionClosed:
                    return time.monotonic() - began

        # When many sockets connect and say nothing
        waits = asyncio.gather(*(say_nothing() for _ in range(SILENT)))
        # Then others chat meanwhile
        message = await people.say(ada, conversation_id)
        assert await bob.push("new_message", conversation_id, message=message)
        # And all of them are closed in time, and counted
        taken = sorted(await asyncio.wait_for(waits, 40))
        figure(f"{SILENT} silent sockets were closed after {taken[0]:.1f} to {taken[-1]:.1f} s")
        assert taken[0] > 9
        assert taken[-1] < 10 + 5
        assert await metric(edge, "warren_edge_connects_total", outcome="timeout") == SILENT
        await people.leave()


async def test_an_address_has_room_for_so_many_sockets_and_others_have_theirs(people: People, stack: Stack) -> None:
    async with own_edge(stack, WARREN_MAX_CONNECTIONS_PER_ADDRESS=str(ROOM)) as edge, AsyncExitStack() as held:
        url = edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
        alone = people.name("ada")

        async def arrive(number: int) -> str:
            # What a client writes there itself is not believed.
            forged = {"X-Forwarded-For": f"198.51.100.{number % 256}"}
            wire = await held.enter_async_context(
                connect(url, compression=None, ping_interval=None, proxy=None, additional_headers=forged)
            )
            await wire.recv()
            with suppress(ConnectionClosed):  # it may have been told and closed already
                await wire.send("40" + json.dumps({"token": stack.token(people.name("crowd"))}))
            answer = str(await wire.recv())
            if answer.startswith("44"):
                await wire.wait_closed()
                return str(json.loads(answer[2:])["data"]["code"])
            return answer[:2]

        # When one address opens many sockets at once
        began = time.monotonic()
        answers = await asyncio.gather(*(arrive(number) for number in range(CROWD)))

        # Then so many stay, and the rest is told why and closed
        assert sorted(set(answers)) == ["40", "too_many_connections"]
        figure(
            f"{CROWD} sockets of one address at once, {ROOM} allowed: {answers.count('40')} stay, "
            f"{answers.count('too_many_connections')} are refused and closed after {time.monotonic() - began:.1f} s"
        )
        assert answers.count("40") == ROOM
        assert await metric(edge, "warren_edge_connects_total", outcome="address full") == CROWD - ROOM
        # Client libraries take it for the refusal that it is, although it comes before they asked
        assert (await people.socket({"token": stack.token(alone)}, edge).refused())["code"] == "too_many_connections"
        async with driver() as javascript:
            refused = await javascript.socket("js").connect(edge.url, {"token": stack.token(alone)})
            assert (await refused.until("connect_error"))["data"]["code"] == "too_many_connections"

        # And who comes from elsewhere gets in
        plain = socket.socket()
        plain.bind(("127.0.0.2", 0))
        plain.connect((HOST, edge.port))
        plain.setblocking(False)
        async with connect(url, sock=plain, compression=None, proxy=None) as wire:
            await wire.recv()
            await wire.send("40" + json.dumps({"token": stack.token(alone)}))
            assert str(await wire.recv()).startswith("40")

        # And a socket that closes leaves its room to another
        await held.aclose()
        await people.connect(alone, edge)
        await people.leave()


async def test_a_client_that_offers_compression_gets_none(people: People, stack: Stack) -> None:
    # So that no few bytes become many in an edge's memory
    url = stack.edges[0].url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with connect(url, compression="deflate", proxy=None) as wire:
        assert wire.protocol.extensions == []


async def test_a_thousand_events_at_once_have_a_hundred_on_their_way(people: People, stack: Stack) -> None:
    # Given an edge without a rate limit, and a user whose answers are held back by a worker that stands still
    async with own_edge(stack) as edge, raw_socket(edge, stack.token(people.name("mallory"))) as raw:
        (history,) = stack.workers["history"]
        stack.pause(history)
        try:
            # When they ask a thousand things at once
            for number in range(1_000):
                await raw.send(f'42{number}["list_conversations"]')
            limited = [json.loads((await raw.receive("43")).split("[", 1)[1][:-1]) for _ in range(900)]

            # Then a hundred are on their way, and the rest is refused at once
            assert {answer["error"]["code"] for answer in limited} == {"rate_limited"}

            async def pending_replies() -> float:
                return await metric(edge, "warren_edge_pending_replies")

            pending = await eventually(pending_replies, sentence="the edge says how much waits for a reply")
            figure(f"1,000 events at once: 900 refused as rate_limited, {pending:.0f} commands wait for a reply")
            assert pending <= 101  # a sign of life of the edge itself may be among them
        finally:
            stack.resume(history)
        # And those hundred are answered
        for _ in range(100):
            await raw.receive("43")


# --- Slow services ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("slow", ["broker", "store"])
async def test_a_slow_service_bounds_what_is_in_flight_and_recovers(slow: str) -> None:
    async with AsyncExitStack() as held:
        # Given a Warren with a wire in between that can be slow
        wire, own = await _behind_a_wire(held, slow)
        stack = await held.enter_async_context(Stack(own, edges=1, rate_limit=False, name=f"slow-{slow}"))
        (edge,) = stack.edges
        ids = [f"slow{number}-{own.name}" for number in range(10)]
        sockets = [await open_socket(edge.url, stack.token(user_id)) for user_id in ids]
        for each in sockets:
            held.callback(each.close)
        chats = [
            (await call(sockets[n], "start_conversation", {"participant_ids": [ids[n ^ 1]]}))["conversation"]["id"]
            for n in range(10)
        ]
        memory = {process.name: psutil.Process(process.pid).memory_info().rss for process in stack.processes}

        # When it takes its time, and ten people keep 40 messages in flight each
        wire.delay = 2.0
        outcomes: dict[str, int] = {}
        pending: list[float] = []
        stop = time.monotonic() + 20

        async def insist(n: int, lane: int) -> None:
            number = 0
            while time.monotonic() < stop:
                number += 1
                message = {"conversation_id": chats[n], "client_message_id": f"{lane}-{number}", "body": "slow"}
                try:
                    await call(sockets[n], "send_message", message)
                    outcome = "ok"
                except CallFailed as error:
                    outcome = error.code
                    await asyncio.sleep(0.2)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1

        async def look() -> None:
            while time.monotonic() < stop:
                pending.append(await metric(edge, "warren_edge_pending_replies"))
                await asyncio.sleep(0.5)

        await asyncio.gather(look(), *(insist(n, lane) for n in range(10) for lane in range(40)))
        grown = {
            process.name: (psutil.Process(process.pid).memory_info().rss - memory[process.name]) / MEGABYTE
            for process in stack.processes
        }

        # Then nobody got any other answer than these, and nothing piled up
        figure(f"{slow} slower by 2 s: {outcomes}, at most {max(pending):.0f} commands in flight")
        figure(f"memory grew by at most {max(grown.values()):.1f} MiB ({max(grown, key=lambda name: grown[name])})")
        assert set(outcomes) <= {"ok", "unavailable", "timeout"}
        assert max(pending) <= 10 * 40 + 10 + 1  # each socket's events, its session, a sign of life
        assert max(grown.values()) < 64

        # And it recovers by itself
        wire.delay = 0.0
        mended = time.monotonic()

        async def serves() -> bool:
            message = {"conversation_id": chats[0], "client_message_id": f"after{time.monotonic_ns()}", "body": "?"}
            began = time.monotonic()
            try:
                await call(sockets[0], "send_message", message)
            except CallFailed:
                return False
            return time.monotonic() - began < 1

        await eventually(serves, within=60, sentence="Warren serves again")
        figure(f"served again {time.monotonic() - mended:.1f} s after the {slow} was fast again")


async def _behind_a_wire(held: AsyncExitStack, slow: str) -> tuple[Proxy, Tenant]:
    """A run of its own with a wire in front of one of its services."""
    run = await held.enter_async_context(temporary_tenant("slow"))
    if slow == "broker":
        wire = await held.enter_async_context(proxy(target_of(run.amqp_url)))
        return wire, replace(run, amqp_url=wire.in_front_of(run.amqp_url))
    wire = await held.enter_async_context(proxy(parse_uri(run.mongo_url)["nodelist"][0]))
    # Asked for its members, a replica set would name the address behind the wire.
    return wire, replace(run, mongo_url=f"mongodb://{HOST}:{wire.port}/?directConnection=true")


# --- A hot group ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_hot_group_of_two_hundred(people: People, stack: Stack) -> None:
    async with AsyncExitStack() as held:
        # Given 200 people in one conversation, over two edges, all of them connected
        heard: dict[int, set[bytes]] = {number: set() for number in range(HOT)}
        names = [people.name("hot") for _ in range(HOT)]
        sockets = []
        for number, name in enumerate(names):

            def listen(packet: bytes, seen: set[bytes] = heard[number]) -> None:
                if packet.startswith(b'42["new_message"'):
                    seen.add(packet)

            edge = stack.edges[number % 2]
            sockets.append(await open_socket(edge.url, stack.token(name), listen))
            held.callback(sockets[-1].close)
        started = await call(sockets[0], "start_conversation", {"participant_ids": names[1:], "title": "hot"})
        chat = started["conversation"]["id"]
        await call(sockets[0], "send_message", {"conversation_id": chat, "client_message_id": "first", "body": "hello"})

        # When they write 50 messages a second
        acks: list[float] = []

        async def say(number: int) -> None:
            message = {"conversation_id": chat, "client_message_id": f"m{number}", "body": "hot"}
            began = time.perf_counter()
            await call(sockets[number % HOT], "send_message", message)
            acks.append((time.perf_counter() - began) * 1000)

        began = time.monotonic()
        count = HOT_RATE * HOT_SECONDS
        saying = []
        for number in range(count):
            saying.append(asyncio.create_task(say(number)))
            await asyncio.sleep(max(0.0, began + (number + 1) / HOT_RATE - time.monotonic()))
        await asyncio.gather(*saying)
        acked_after = time.monotonic() - began

        # Then everyone hears all of them but their own
        total = HOT * (count + 1) - (count + 1)

        def everyone_heard() -> bool:
            return sum(map(len, heard.values())) == total

        await eventually(
            everyone_heard,
            within=90,
            sentence=lambda: f"{total} pushes arrive; there are {sum(map(len, heard.values()))}",
        )
        delivered_after = time.monotonic() - began
        p50, p99 = quantiles(acks, n=100)[49], quantiles(acks, n=100)[98]
        figure(f"{HOT} people, {HOT_RATE} messages/s for {HOT_SECONDS} s: acks p50 {p50:.0f} ms, p99 {p99:.0f} ms")
        figure(f"all {count} acked after {acked_after:.1f} s, all {total:,} pushes there after {delivered_after:.1f} s")
