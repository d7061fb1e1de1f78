"""A thousand clients that lose their edge at the same moment."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from picows import WSError

from infra.bench.load.light_client import CallFailed, Socket, open_socket

#: Clients, how many connect at a time before the storm, and the longest pause before a client tries again, seconds.
CLIENTS, AT_A_TIME, LONGEST_PAUSE = 1_000, 50, 2.0
#: Seconds until every client must have a snapshot again.
STORM_LIMIT = 120.0
#: Seconds that a client stays after its snapshot, as people do, so that the other edges carry all of them.
STAY = 10.0


async def reconnect_storm(
    edge: str, others: list[str], token: Callable[[str], str], kill: Callable[[], Awaitable[None]]
) -> str:
    """Connect all clients to one edge, kill it, wait until all have a snapshot from another; returns a note."""
    name = secrets.token_hex(3)
    users = [f"storm{number}-{name}" for number in range(CLIENTS)]
    sockets: list[Socket] = []
    for start in range(0, CLIENTS, AT_A_TIME):
        some = users[start : start + AT_A_TIME]
        sockets += await asyncio.gather(*(open_socket(edge, token(user_id)) for user_id in some))
    killed = time.monotonic()
    await kill()
    async with asyncio.timeout(STORM_LIMIT):
        waits = await asyncio.gather(
            *(
                _reconnect(socket, user_id, others, token, killed)
                for socket, user_id in zip(sockets, users, strict=True)
            )
        )
    waits.sort()
    half, last = waits[CLIENTS // 2], waits[-1]
    return f"{CLIENTS:,} clients have a snapshot again: half after {half:.1f} s, all after {last:.1f} s"


async def _reconnect(lost: Socket, user_id: str, edges: list[str], token: Callable[[str], str], killed: float) -> float:
    """Reconnect with a back-off until there is a snapshot; returns the seconds since the kill."""
    await asyncio.shield(lost.closed)
    pause = 0.1
    while True:
        with suppress(OSError, WSError, TimeoutError, CallFailed):
            socket = await open_socket(random.choice(edges), token(user_id))
            try:
                await socket.call("list_conversations", {})
                return time.monotonic() - killed
            finally:
                asyncio.get_running_loop().call_later(STAY, socket.close)
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(2 * pause, LONGEST_PAUSE)
