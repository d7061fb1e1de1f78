"""A thousand clients that lose their edge at the same moment."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from picows import WSError

from infra.bench.load.client import CallFailed, Socket, open_socket
from tests.faults.probe import call

#: Clients, how many connect at a time before the storm, and the longest pause before a client tries again, seconds.
CLIENTS, AT_A_TIME, LONGEST_PAUSE = 1_000, 50, 2.0
#: Seconds after which a storm counts as never ending.
STORM_LIMIT = 120.0


async def storm(
    edge: str, others: list[str], token: Callable[[str], str], strike: Callable[[], Awaitable[None]]
) -> str:
    """Connect everyone to one edge, strike, wait until all have a snapshot elsewhere; returns a remark."""
    name = secrets.token_hex(3)
    users = [f"storm{number}-{name}" for number in range(CLIENTS)]
    sockets: list[Socket] = []
    for start in range(0, CLIENTS, AT_A_TIME):
        some = users[start : start + AT_A_TIME]
        sockets += await asyncio.gather(*(open_socket(edge, token(user_id)) for user_id in some))
    struck = time.monotonic()
    await strike()
    async with asyncio.timeout(STORM_LIMIT):
        waits = await asyncio.gather(
            *(
                _come_back(socket, user_id, others, token, struck)
                for socket, user_id in zip(sockets, users, strict=True)
            )
        )
    waits.sort()
    return (
        f"{CLIENTS:,} clients back with a snapshot: half after {waits[CLIENTS // 2]:.1f} s, all after {waits[-1]:.1f} s"
    )


async def _come_back(lost: Socket, user_id: str, edges: list[str], token: Callable[[str], str], struck: float) -> float:
    """Reconnect with a back-off until there is a snapshot; returns how long after the strike that was."""
    await asyncio.shield(lost.closed)
    pause = 0.1
    while True:
        with suppress(OSError, WSError, TimeoutError, CallFailed):
            socket = await open_socket(random.choice(edges), token(user_id))
            try:
                await call(socket, "list_conversations", {})
                return time.monotonic() - struck
            finally:
                # Those who are back stay until the others are, as people do.
                asyncio.get_running_loop().call_later(10, socket.close)
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(2 * pause, LONGEST_PAUSE)
