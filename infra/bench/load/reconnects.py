"""Kills an edge with many clients, and measures how long it takes until all of them are ready on another one."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from picows import WSError

from infra.bench.load.light_client import Socket, open_socket
from infra.bench.load.scenarios import CONNECTING_AT_ONCE, Progress
from infra.bench.load.system import SystemUnderTest

#: Pause after a failed connect, seconds.
RETRY = 0.1


async def reconnect(
    system: SystemUnderTest, progress: Progress, *, kill: Callable[[], Awaitable[None]], count: int = 2000
) -> float:
    """Seconds from the kill of the first edge until `count` clients on it are `session_ready` on the last one.

    `kill` ends the first edge; if that is the only one, it starts it again.
    """
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    sockets: list[Socket] = []

    async def connect(url: str, token: str) -> None:
        while True:
            async with gate:
                try:
                    sockets.append(await open_socket(url, token))
                except (OSError, WSError, TimeoutError):
                    await asyncio.sleep(RETRY)
                else:
                    progress(0.5 * len(sockets) / count)
                    return

    async def connect_all(url: str) -> None:
        await asyncio.gather(*(connect(url, token) for token in tokens))

    async def move(socket: Socket, token: str) -> None:
        await socket.closed
        await connect(system.edge_urls[-1], token)

    tokens = [system.make_token(f"reconnect-{number}") for number in range(count)]
    try:
        await connect_all(system.edge_urls[0])
        moving = [move(socket, token) for socket, token in zip(sockets.copy(), tokens, strict=True)]
        started = time.monotonic()
        await asyncio.gather(kill(), *moving)
        return time.monotonic() - started
    finally:
        for socket in sockets:
            socket.close()
