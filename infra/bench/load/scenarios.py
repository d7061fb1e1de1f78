"""The scenarios: closed loop, open loop, many idle connections. Each takes a system and returns figures.

Scenarios on one store need different `user_prefix`es, so that each has new users and conversations.
"""

import asyncio
import gc
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from infra.bench.checker import WRONG_UNREAD, Verdict, check
from infra.bench.histories import Header, Histories, Stored, StoredMessage
from infra.bench.load.conversations import connect_pairs, disconnect
from infra.bench.load.figures import ConnectionFigures, TrafficFigures, measured
from infra.bench.load.light_client import Conversation, Socket, open_socket
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.traffic import Traffic
from infra.bench.load.usage import Meter, resident_bytes

#: Gets the share of a scenario that is over, 0 to 1.
Progress = Callable[[float], None]
#: Connects clients and starts their conversations.
Connect = Callable[[], Awaitable[list[Conversation]]]
#: Does something to the system during a scenario, such as ending a process.
Disrupt = Callable[[], Awaitable[None]]

#: Seconds until all clients must be connected and their conversations started.
CONNECT_ALL_LIMIT = 120.0
#: Seconds that messages in flight get to finish.
DRAIN_LIMIT = 30.0
#: Seconds that projections get to catch up with the log before the checker's verdict is final.
SETTLE_LIMIT = 20.0
#: Handshakes under way at the same time when many connections are opened.
CONNECTING_AT_ONCE = 100
#: Connections opened before memory is measured: what an edge allocates once is not a connection's cost.
WARM_UP_CONNECTIONS = 200
#: Seconds from the last connection until memory is measured.
MEMORY_DELAY = 5.0


async def throughput(
    system: SystemUnderTest,
    progress: Progress,
    *,
    title: str = "",
    pairs: int = 100,
    in_flight: int = 100,
    seconds: float = 15.0,
    warm_up: float = 3.0,
    seen_every: int = 0,
    user_prefix: str = "pair",
    size: int = 2,
    connect: Connect | None = None,
    disrupt: Disrupt | None = None,
) -> TrafficFigures:
    """Closed loop: `in_flight` messages at any time, spread evenly over the conversations; members take turns.

    The conversations are `pairs` direct ones, or groups with a `size` above 2, or what `connect` makes.
    """
    connect = connect or (lambda: connect_pairs(system, pairs, user_prefix, size))
    async with _traffic(system, connect, seen_every) as traffic:
        turns = {each: itertools.cycle(range(len(each.clients))) for each in traffic.conversations}
        stop_at = time.monotonic() + warm_up + seconds

        def send_next(conversation: Conversation) -> None:
            if time.monotonic() < stop_at and not traffic.is_full:
                traffic.send(conversation, next(turns[conversation]))

        traffic.on_done = send_next
        for conversation in itertools.islice(itertools.cycle(traffic.conversations), in_flight):
            send_next(conversation)
        await _wait(warm_up, progress, warm_up + seconds)
        return await _measure(
            system,
            traffic,
            progress,
            title or f"{in_flight} in flight",
            warm_up,
            seconds,
            disrupt=disrupt,
        )


async def latency(
    system: SystemUnderTest,
    progress: Progress,
    *,
    title: str = "",
    pairs: int = 100,
    rate: float = 200.0,
    seconds: float = 15.0,
    warm_up: float = 3.0,
    seen_every: int = 0,
    user_prefix: str = "pair",
    connect: Connect | None = None,
    background: Callable[[Sequence[Conversation]], Awaitable[None]] | None = None,
) -> TrafficFigures:
    """Open loop: `rate` messages a second at even intervals, whether or not earlier ones were answered.

    The conversations are `pairs` direct ones, or what `connect` makes. `background` gets these conversations
    and runs until it is cancelled.
    """
    async with _traffic(system, connect or (lambda: connect_pairs(system, pairs, user_prefix)), seen_every) as traffic:

        async def keep_sending() -> None:
            started = time.monotonic()
            for number in itertools.count():
                if (ahead := started + number / rate - time.monotonic()) > 0:
                    await asyncio.sleep(ahead)
                if traffic.is_full:
                    return
                lap, place = divmod(number, len(traffic.conversations))
                traffic.send(traffic.conversations[place], lap % 2)

        sender = asyncio.create_task(keep_sending())
        background_task = asyncio.ensure_future(background(traffic.conversations)) if background is not None else None
        try:
            await _wait(warm_up, progress, warm_up + seconds)
            title = title or f"{rate:.0f}/s"
            return await _measure(system, traffic, progress, title, warm_up, seconds, before_drain=sender.cancel)
        finally:
            sender.cancel()
            if background_task is not None:
                background_task.cancel()


async def connections(
    system: SystemUnderTest, progress: Progress, *, title: str = "", count: int = 4000, edge: str = "edge-1"
) -> ConnectionFigures:
    """Open `count` connections of distinct users on the first edge; `edge` is that process's name in the system."""
    edge_url, pid = system.edge_urls[0], system.pids()[edge]
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    sockets: list[Socket] = []
    total = count + WARM_UP_CONNECTIONS

    async def connect(token: str) -> None:
        async with gate:
            sockets.append(await open_socket(edge_url, token))
            progress(0.9 * len(sockets) / total)

    async def connect_all(users: list[str]) -> None:
        await asyncio.gather(*map(connect, [system.make_token(user_id) for user_id in users]))

    try:
        await connect_all([f"warm-up-{number}" for number in range(WARM_UP_CONNECTIONS)])
        await asyncio.sleep(MEMORY_DELAY / 2)
        before, started, meter = resident_bytes(pid), time.monotonic(), Meter(system.pids)
        await connect_all([f"idle-{number}" for number in range(count)])
        took, usage = time.monotonic() - started, meter.stop()
        await asyncio.sleep(MEMORY_DELAY)
        growth = resident_bytes(pid) - before
        progress(1.0)
        return ConnectionFigures(
            title=title or f"{count:,} idle",
            connections=count,
            seconds=took,
            kilobytes_each=growth / count / 1024,
            usage=usage,
            dropped=sum(socket.closed.done() for socket in sockets),
        )
    finally:
        for socket in sockets:
            socket.close()


@asynccontextmanager
async def _traffic(system: SystemUnderTest, connect: Connect, seen_every: int) -> AsyncIterator[Traffic]:
    """Conversations in which one message was sent each; garbage collection is off while they are in use."""
    async with asyncio.timeout(CONNECT_ALL_LIMIT):
        connected = await connect()
    traffic = Traffic(connected, seen_every=seen_every)
    limits = asyncio.create_task(traffic.enforce_limits())
    gc.collect()
    gc.disable()
    try:
        # Others see a conversation only once it has a message.
        for conversation in connected:
            traffic.send(conversation, 0)
        await traffic.drain(DRAIN_LIMIT)
        yield traffic
    finally:
        gc.enable()
        limits.cancel()
        await disconnect(connected)


async def _measure(
    system: SystemUnderTest,
    traffic: Traffic,
    progress: Progress,
    title: str,
    warm_up: float,
    seconds: float,
    *,
    disrupt: Disrupt | None = None,
    before_drain: Callable[[], object] = lambda: None,
) -> TrafficFigures:
    """Measure `seconds` of running traffic, fewer if it sends all it may, let it finish, and check its histories."""
    start, meter = time.monotonic(), Meter(system.pids)
    disruption = asyncio.ensure_future(disrupt()) if disrupt is not None else None
    await _wait(seconds, progress, warm_up + seconds, already=warm_up, ends=lambda: traffic.is_full)
    end, usage = time.monotonic(), meter.stop()
    before_drain()
    if disruption is not None:
        await disruption
    await traffic.drain(DRAIN_LIMIT)
    clients = {client for conversation in traffic.conversations for client in conversation.clients}
    lost_pushes = system.may_reconnect and any(client.resyncs for client in clients)
    expects_pushes = disrupt is None and not lost_pushes
    done, ack, delivery = measured(traffic.sent, start, end)
    return TrafficFigures(
        title=title,
        rate=done / (end - start),
        done=done,
        ack=ack,
        delivery=delivery,
        usage=usage,
        errors=traffic.errors,
        reconnects=sum(client.reconnects for client in clients),
        expects_pushes=expects_pushes,
        verdict=await _check(system, traffic, expect_pushes=expects_pushes),
    )


async def _check(system: SystemUnderTest, traffic: Traffic, *, expect_pushes: bool) -> Verdict:
    """The checker's verdict. Headers and counts are projections, so they get `SETTLE_LIMIT` seconds to catch up.

    A message without an ack is no complaint: an overloaded system may still be answering when the run ends.
    """
    deadline = time.monotonic() + SETTLE_LIMIT
    while True:
        histories = Histories(traffic.sent, await _read_store(system, traffic))
        verdict = check(histories, expect_acks=False, expect_pushes=expect_pushes)
        if verdict.count(WRONG_UNREAD) == 0 or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(0.5)


async def _read_store(system: SystemUnderTest, traffic: Traffic) -> Stored:
    if system.read_store is not None:
        return await system.read_store(traffic.conversations)
    return _as_acked(traffic)


def _as_acked(traffic: Traffic) -> Stored:
    """What a system that stores nothing would have stored, according to its acks."""
    messages = [
        StoredMessage(sent.acks[0].id, sent.conversation_id, sent.acks[0].seq, sent.sender_id, sent.client_message_id)
        for sent in traffic.sent
        if sent.acks
    ]
    newest = {message.conversation_id: message for message in sorted(messages, key=lambda message: message.seq)}
    return Stored(messages, {name: Header(name, message.seq, message.id) for name, message in newest.items()})


async def _wait(
    seconds: float,
    progress: Progress,
    total: float,
    already: float = 0.0,
    ends: Callable[[], bool] = lambda: False,
) -> None:
    """Sleep, or until it `ends`, and report the share of the `total` seconds that is over."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds and not ends():
        progress((already + passed) / total)
        await asyncio.sleep(min(0.5, seconds - passed))
