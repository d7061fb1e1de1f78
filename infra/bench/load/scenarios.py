"""The runs: closed loop, open loop, many idle connections. Each takes a system and returns figures.

Runs on one store need different `user_prefix`es, so that each has users and conversations of its own.
"""

import asyncio
import gc
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from infra.bench.checker import WRONG_UNREAD, Verdict, check
from infra.bench.history import Header, Histories, Store, StoredMessage
from infra.bench.load.client import Socket, open_socket
from infra.bench.load.figures import ConnectionFigures, TrafficFigures, measured
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.traffic import Pair, Traffic, connect_pairs, disconnect_pairs
from infra.bench.load.usage import Meter, resident_bytes

#: Is told how far a run is, 0 to 1.
Progress = Callable[[float], None]
#: Connects people and starts their conversations.
Connect = Callable[[], Awaitable[list[Pair]]]
#: Something that happens to the system during a run.
Disturbance = Callable[[], Awaitable[None]]

#: Seconds that messages in flight get to finish after a run.
DRAIN_LIMIT = 30.0
#: Seconds that projections get to catch up with the log before the checker's verdict is final.
SETTLE_LIMIT = 20.0
#: Handshakes under way at the same time when many connections are opened.
CONNECTING_AT_ONCE = 100
#: Connections opened before memory is measured: what an edge allocates once is not a connection's cost.
WARM_UP_CONNECTIONS = 200
#: Seconds of calm after the last connection before memory is measured.
QUIET = 5.0


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
    disturb: Disturbance | None = None,
) -> TrafficFigures:
    """Closed loop: `in_flight` messages are always under way, spread evenly over the pairs, both sides taking turns.

    With a `size` above 2 the pairs are groups of that many.
    """
    async with _traffic(system, lambda: connect_pairs(system, pairs, user_prefix, size), seen_every) as traffic:
        turns = {pair: itertools.cycle(range(size)) for pair in traffic.pairs}
        stop_at = time.monotonic() + warm_up + seconds

        def send_next(pair: Pair) -> None:
            if time.monotonic() < stop_at:
                traffic.send(pair, next(turns[pair]))

        traffic.on_done = send_next
        for pair in itertools.islice(itertools.cycle(traffic.pairs), in_flight):
            send_next(pair)
        await _wait(warm_up, progress, warm_up + seconds)
        return await _measure(
            system,
            traffic,
            progress,
            title or f"{in_flight} in flight",
            warm_up,
            seconds,
            disturb=disturb,
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
    background: Callable[[Sequence[Pair]], Awaitable[None]] | None = None,
) -> TrafficFigures:
    """Open loop: `rate` messages a second at even distances, whatever became of the earlier ones.

    `connect` makes other conversations than `pairs` direct ones. `background` runs from then on until it is cancelled.
    """
    async with _traffic(system, connect or (lambda: connect_pairs(system, pairs, user_prefix)), seen_every) as traffic:

        async def keep_sending() -> None:
            started = time.monotonic()
            for number in itertools.count():
                if (ahead := started + number / rate - time.monotonic()) > 0:
                    await asyncio.sleep(ahead)
                lap, place = divmod(number, len(traffic.pairs))
                traffic.send(traffic.pairs[place], lap % 2)

        sender = asyncio.create_task(keep_sending())
        background_task = asyncio.ensure_future(background(traffic.pairs)) if background is not None else None
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
        await asyncio.sleep(QUIET / 2)
        before, started, meter = resident_bytes(pid), time.monotonic(), Meter(system.pids)
        await connect_all([f"idle-{number}" for number in range(count)])
        took, usage = time.monotonic() - started, meter.stop()
        await asyncio.sleep(QUIET)
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
    """Connected pairs under a watch of time limits; garbage collection is off while they talk."""
    connected = await connect()
    traffic = Traffic(connected, seen_every=seen_every)
    watch = asyncio.create_task(traffic.watch())
    gc.collect()
    gc.disable()
    try:
        # Until the one who started it has written, a conversation does not exist for the other.
        for pair in connected:
            traffic.send(pair, 0)
        await traffic.drain(DRAIN_LIMIT)
        yield traffic
    finally:
        gc.enable()
        watch.cancel()
        await disconnect_pairs(connected)


async def _measure(
    system: SystemUnderTest,
    traffic: Traffic,
    progress: Progress,
    title: str,
    warm_up: float,
    seconds: float,
    *,
    disturb: Disturbance | None = None,
    before_drain: Callable[[], object] = lambda: None,
) -> TrafficFigures:
    """Measure `seconds` of traffic that is under way, let it finish, and have the checker look at all of it."""
    start, meter = time.monotonic(), Meter(system.pids)
    disturbing = asyncio.ensure_future(disturb()) if disturb is not None else None
    await _wait(seconds, progress, warm_up + seconds, already=warm_up)
    end, usage = time.monotonic(), meter.stop()
    before_drain()
    if disturbing is not None:
        await disturbing
    await traffic.drain(DRAIN_LIMIT)
    done, ack, delivery = measured(traffic.sent, start, end)
    return TrafficFigures(
        title=title,
        rate=done / (end - start),
        done=done,
        ack=ack,
        delivery=delivery,
        usage=usage,
        errors=traffic.errors,
        reconnects=sum(client.reconnects for pair in traffic.pairs for client in pair.clients),
        verdict=await _judge(system, traffic, expect_pushes=disturb is None),
    )


async def _judge(system: SystemUnderTest, traffic: Traffic, *, expect_pushes: bool) -> Verdict:
    """The checker's verdict; headers and counts that are behind get a moment to catch up, since they are projections.

    A message without an ack is no complaint: an overloaded system may still be answering when the run ends.
    """
    deadline = time.monotonic() + SETTLE_LIMIT
    conversations = [pair.conversation_id for pair in traffic.pairs]
    read_store = system.read_store or (lambda _: _as_acked(traffic))
    while True:
        histories = Histories(traffic.sent, await asyncio.to_thread(read_store, conversations))
        verdict = check(histories, expect_acks=False, expect_pushes=expect_pushes)
        if verdict.count(WRONG_UNREAD) == 0 or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(0.5)


def _as_acked(traffic: Traffic) -> Store:
    """What a system that stores nothing would have stored, by its acks."""
    messages = [
        StoredMessage(sent.acks[0].id, sent.conversation_id, sent.acks[0].seq, sent.sender_id, sent.client_message_id)
        for sent in traffic.sent
        if sent.acks
    ]
    newest = {message.conversation_id: message for message in sorted(messages, key=lambda message: message.seq)}
    return Store(messages, {name: Header(name, message.seq, message.id) for name, message in newest.items()})


async def _wait(seconds: float, progress: Progress, total: float, already: float = 0.0) -> None:
    """Sleep, telling how far the whole run is."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        progress((already + passed) / total)
        await asyncio.sleep(min(0.5, seconds - passed))
