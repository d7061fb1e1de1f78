"""The commands in flight are bounded: for one socket, and for all of Warren when its broker or store is slow."""

import asyncio
import itertools
import json
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace

import psutil
import pytest
from pymongo.uri_parser import parse_uri

from infra.bench.load.client import CallFailed, Socket, open_socket
from infra.local.ports import LOOPBACK
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.local.tenant import Tenant, temporary_tenant
from tests.faults.bounds.own_edge import MEGABYTE, own_edge, print_figure
from tests.support.people import People
from tests.support.proxy import Proxy, proxy, target_of
from tests.support.raw_websocket import raw_socket
from tests.support.scrape import metric
from tests.support.waiting import eventually

#: Seconds that a slow service delays each answer, and for which it is slow.
DELAY, SLOW_SECONDS = 2.0, 20.0
#: Users of a slow Warren, and the messages that each keeps in flight.
USERS, IN_FLIGHT = 10, 40
#: Bytes that a process may grow while a service is slow.
GROWTH = 64 * MEGABYTE


async def test_of_a_thousand_events_at_once_a_hundred_are_in_flight(people: People, stack: Stack) -> None:
    # Given an edge without a rate limit, and a user whose replies are due from a frozen worker
    async with own_edge(stack) as edge, raw_socket(edge, stack.token(people.name("mallory"))) as raw:
        (history,) = stack.workers["history"]
        stack.pause(history)
        try:
            # When the user sends a thousand events at once
            for number in range(1_000):
                await raw.send(f'42{number}["list_conversations"]')
            limited = [json.loads((await raw.receive("43")).split("[", 1)[1][:-1]) for _ in range(900)]

            # Then a hundred are in flight, and the rest is refused at once
            assert {answer["error"]["code"] for answer in limited} == {"rate_limited"}

            async def pending_replies() -> float:
                return await metric(edge, "warren_edge_pending_replies")

            pending = await eventually(pending_replies, sentence="the edge exports how many commands wait for a reply")
            print_figure(f"1,000 events at once: 900 refused as rate_limited, {pending:.0f} commands wait for a reply")
            assert pending <= 101  # The edge's own heartbeat may be among them.
        finally:
            stack.resume(history)
        # And those hundred get their replies
        for _ in range(100):
            await raw.receive("43")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("slow", ["broker", "store"])
async def test_a_slow_service_bounds_what_is_in_flight_and_recovers(slow: str) -> None:
    async with AsyncExitStack() as held:
        # Given a Warren whose broker or store is behind a proxy
        link, tenant = await _behind_a_proxy(held, slow)
        stack = await held.enter_async_context(Stack(tenant, edges=1, rate_limit=False, name=f"slow-{slow}"))
        (edge,) = stack.edges
        sockets, chats = await _connect_pairs(held, stack)
        memory = {process: _resident(process) for process in stack.processes}

        # When the service is slow, and each user keeps 40 messages in flight
        link.delay = DELAY
        outcomes: Counter[str] = Counter()
        pending: list[float] = []
        until = time.monotonic() + SLOW_SECONDS

        async def watch_pending() -> None:
            while time.monotonic() < until:
                pending.append(await metric(edge, "warren_edge_pending_replies"))
                await asyncio.sleep(0.5)

        await asyncio.gather(
            watch_pending(),
            *(
                _keep_sending(socket, chat, f"{lane}-", until, outcomes)
                for socket, chat in zip(sockets, chats, strict=True)
                for lane in range(IN_FLIGHT)
            ),
        )

        # Then there are no other outcomes than these, and nothing piled up
        growth, name = max((_resident(process) - before, process.name) for process, before in memory.items())
        print_figure(f"{slow} slower by {DELAY:.0f} s: {dict(outcomes)}, at most {max(pending):.0f} commands in flight")
        print_figure(f"memory grew by at most {growth / MEGABYTE:.1f} MiB ({name})")
        assert set(outcomes) <= {"ok", "unavailable", "timeout"}
        # Each socket's messages and its session, and the edge's own heartbeat
        assert max(pending) <= USERS * IN_FLIGHT + USERS + 1
        assert growth < GROWTH

        # And it recovers by itself
        link.delay = 0.0
        fast_again = time.monotonic()
        await eventually(lambda: _serves(sockets[0], chats[0]), within=60, sentence="Warren serves again")
        print_figure(f"served again {time.monotonic() - fast_again:.1f} s after the {slow} was fast again")


async def _behind_a_proxy(held: AsyncExitStack, slow: str) -> tuple[Proxy, Tenant]:
    """A tenant of its own with a proxy in front of its broker or its store."""
    tenant = await held.enter_async_context(temporary_tenant("slow"))
    if slow == "broker":
        link = await held.enter_async_context(proxy(target_of(tenant.amqp_url)))
        return link, replace(tenant, amqp_url=link.in_front_of(tenant.amqp_url))
    link = await held.enter_async_context(proxy(parse_uri(tenant.mongo_url)["nodelist"][0]))
    # Without `directConnection` the driver would learn the address behind the proxy from the replica set.
    return link, replace(tenant, mongo_url=f"mongodb://{LOOPBACK}:{link.port}/?directConnection=true")


async def _connect_pairs(held: AsyncExitStack, stack: Stack) -> tuple[list[Socket], list[str]]:
    """Connect the users, and start a conversation of each with its neighbour; returns sockets and conversations."""
    names = [f"slow{number}-{stack.run.name}" for number in range(USERS)]
    sockets = [await open_socket(stack.edges[0].url, stack.token(name)) for name in names]
    for socket in sockets:
        held.callback(socket.close)
    started = [
        await socket.call("start_conversation", {"participant_ids": [names[number ^ 1]]})
        for number, socket in enumerate(sockets)
    ]
    return sockets, [each["conversation"]["id"] for each in started]


async def _keep_sending(socket: Socket, chat: str, label: str, until: float, outcomes: Counter[str]) -> None:
    """Send one message after the other, and count how each ends."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        message = {"conversation_id": chat, "client_message_id": f"{label}{number}", "body": "slow"}
        try:
            await socket.call("send_message", message)
            outcomes["ok"] += 1
        except CallFailed as error:
            outcomes[error.code] += 1
            await asyncio.sleep(0.2)


async def _serves(socket: Socket, chat: str) -> bool:
    """Whether a message is acked within a second."""
    message = {"conversation_id": chat, "client_message_id": f"after{time.monotonic_ns()}", "body": "?"}
    began = time.monotonic()
    try:
        await socket.call("send_message", message)
    except CallFailed:
        return False
    return time.monotonic() - began < 1


def _resident(process: Process) -> int:
    size: int = psutil.Process(process.pid).memory_info().rss
    return size
