"""The commands in flight are bounded: for one socket, and for all of Warren when its broker or store is slow."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import psutil
import pytest
import pytest_asyncio
from pymongo.uri_parser import parse_uri

from infra.bench.load.light_client import CallFailed, Socket, open_socket
from infra.local.ports import LOOPBACK
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.local.tenant import temporary_tenant
from tests.faults.bounds.own_edge import MEGABYTE, own_edge, print_figure
from tests.support.people import People
from tests.support.proxy import Proxy, proxy, target_of
from tests.support.raw_websocket import raw_socket
from tests.support.scrape import metric
from tests.support.waiting import eventually

#: Seconds that a slow service delays whatever passes, and for which it is slow.
DELAY, SLOW_SECONDS = 1.0, 10.0
#: Half of the defaults, so that ten seconds show what twenty would: a delay of 1 s is to them what 2 s are to those.
LIMITS = {"WARREN_REPLY_TIMEOUT": "5", "WARREN_MONGO_TIMEOUT_MS": "2500"}
#: Users of a slow Warren, and the messages that each keeps in flight.
USERS, IN_FLIGHT = 10, 40
#: Bytes that a process may grow while a service is slow.
GROWTH = 64 * MEGABYTE
#: Seconds until a message must be answered: twice a reply limit, as it may wait for those before it.
ANSWER_LIMIT = 30.0


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


# --- Slow services ----------------------------------------------------------------------------------------


@dataclass
class ProxiedWarren:
    """A Warren whose broker and store are behind proxies."""

    stack: Stack
    #: By what they are in front of: `broker`, `store`.
    proxies: dict[str, Proxy]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied() -> AsyncIterator[ProxiedWarren]:
    """One edge and one worker of each kind, without a rate limit."""
    async with (
        temporary_tenant("slow") as tenant,
        proxy(target_of(tenant.amqp_url)) as broker,
        proxy(parse_uri(tenant.mongo_url)["nodelist"][0]) as store,
    ):
        # Without `directConnection` the driver would learn the address behind the proxy from the replica set.
        mongo_url = f"mongodb://{LOOPBACK}:{store.port}/?directConnection=true"
        behind = replace(tenant, amqp_url=broker.in_front_of(tenant.amqp_url), mongo_url=mongo_url)
        async with Stack(behind, edges=1, rate_limit=False, env=LIMITS, name="slow") as stack:
            yield ProxiedWarren(stack, {"broker": broker, "store": store})


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("slow", ["broker", "store"])
async def test_a_slow_service_bounds_what_is_in_flight_and_recovers(proxied: ProxiedWarren, slow: str) -> None:
    stack, link = proxied.stack, proxied.proxies[slow]
    # Given users in pairs
    async with _pairs(stack, slow) as users:
        memory = {process: _resident(process) for process in stack.processes}

        # When the service is slow, and each user keeps 40 messages in flight
        link.delay = DELAY
        outcomes: Counter[str] = Counter()
        until = time.monotonic() + SLOW_SECONDS
        senders = [
            asyncio.create_task(_keep_sending(user, f"{slow}{lane}-", until, outcomes))
            for user in users
            for lane in range(IN_FLIGHT)
        ]
        in_flight = await _most_in_flight(stack.edges[0], until)
        growth, name = max((_resident(process) - before, process.name) for process, before in memory.items())

        # Then it recovers when the service is fast again
        link.delay = 0.0
        fast_again = time.monotonic()
        await eventually(lambda: _serves(users[0]), within=60, sentence="Warren serves again")
        print_figure(f"served again {time.monotonic() - fast_again:.1f} s after the {slow} was fast again")

        # And there are no other outcomes than these, and nothing piled up
        await asyncio.gather(*senders)
        print_figure(f"{slow} slower by {DELAY:.0f} s: {dict(outcomes)}, at most {in_flight:.0f} commands in flight")
        print_figure(f"memory grew by at most {growth / MEGABYTE:.1f} MiB ({name})")
        assert set(outcomes) <= {"ok", "unavailable", "timeout"}
        # Each socket's messages and its session, and the edge's own heartbeat
        assert in_flight <= USERS * IN_FLIGHT + USERS + 1
        assert growth < GROWTH


@dataclass
class User:
    """A socket, and its conversation with another user."""

    socket: Socket
    conversation_id: str

    async def send(self, client_message_id: str) -> None:
        """Send a message. Raises CallFailed."""
        message = {
            "conversation_id": self.conversation_id,
            "client_message_id": client_message_id,
            "body": "slow",
        }
        await self.socket.call("send_message", message, ANSWER_LIMIT)


@asynccontextmanager
async def _pairs(stack: Stack, label: str) -> AsyncIterator[list[User]]:
    """Connected users, each with a conversation with its neighbour."""
    names = [f"{label}{number}-{stack.tenant.name}" for number in range(USERS)]
    async with AsyncExitStack() as held:
        sockets = [await open_socket(stack.edges[0].url, stack.token(name)) for name in names]
        for socket in sockets:
            held.callback(socket.close)
        started = [
            await socket.call("start_conversation", {"participant_ids": [names[number ^ 1]]})
            for number, socket in enumerate(sockets)
        ]
        yield [User(socket, each["conversation"]["id"]) for socket, each in zip(sockets, started, strict=True)]


async def _keep_sending(user: User, label: str, until: float, outcomes: Counter[str]) -> None:
    """Send one message after the other until then, and count how each ends."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        try:
            await user.send(f"{label}{number}")
            outcomes["ok"] += 1
        except CallFailed as error:
            outcomes[error.code] += 1
            await asyncio.sleep(0.2)


async def _most_in_flight(edge: Process, until: float) -> float:
    """Watch an edge until then; returns the highest number of commands that waited for a reply."""
    seen = []
    while time.monotonic() < until:
        seen.append(await metric(edge, "warren_edge_pending_replies"))
        await asyncio.sleep(0.25)
    return max(seen)


async def _serves(user: User) -> bool:
    """Whether a message is acked within a second."""
    began = time.monotonic()
    try:
        await user.send(f"after{time.monotonic_ns()}")
    except CallFailed:
        return False
    return time.monotonic() - began < 1


def _resident(process: Process) -> int:
    size: int = psutil.Process(process.pid).memory_info().rss
    return size
