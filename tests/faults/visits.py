"""Users who come and go during a run: for a moment, at the grace time, or until their edge fails."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

from picows import WSError

from infra.bench.load.light_client import CallFailed, Socket, open_socket

#: Users of a run who come and go. Every third stays until the connection is lost, and does not return.
VISITORS = 12
#: Shortest and longest visit, seconds, and seconds that one may take to begin.
SHORTEST, LONGEST, CONNECT_LIMIT = 0.05, 1.0, 10.0
#: How many seconds before or after the end of the grace a visitor returns.
CLOSE_TO_GRACE = 0.1
#: Seconds until everybody who stays at the end of a run must be connected.
FINISH_LIMIT = 30.0

#: What an attempt to connect may fail with while parts are down.
FAILED = (OSError, WSError, TimeoutError, CallFailed)


class Visitor:
    """One user who connects and disconnects."""

    def __init__(self, number: int, user_id: str, token: str) -> None:
        self.number = number
        self.user_id = user_id
        #: When the last connection was closed, monotonic seconds.
        self.left_at = 0.0
        self._token = token
        self._socket: Socket | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection with `session_ready`."""
        return self._socket is not None and not self._socket.closed.done()

    async def arrive(self, edge_url: str) -> None:
        """Connect and wait for `session_ready`. Raises one of FAILED."""
        async with asyncio.timeout(CONNECT_LIMIT):
            self._socket = await open_socket(edge_url, self._token)

    async def until_lost(self) -> None:
        """Wait until the other side closes the connection."""
        assert self._socket is not None
        await asyncio.shield(self._socket.closed)

    def leave(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self.left_at = None, time.monotonic()


class Visits:
    """All visitors of a run."""

    def __init__(
        self,
        name: str,
        edges: Callable[[], list[str]],
        token: Callable[[str], str],
        rng: random.Random,
        *,
        grace: float,
        visitors: int = VISITORS,
    ) -> None:
        """`grace` is how long an edge waits before it reports that a user is gone, seconds."""
        self.grace = grace
        self._edges = edges
        self._rng = rng
        users = [f"visitor{number}-{name}" for number in range(visitors)]
        self._visitors = [Visitor(number, user_id, token(user_id)) for number, user_id in enumerate(users)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def user_ids(self) -> list[str]:
        """Everybody, connected or not."""
        return [visitor.user_id for visitor in self._visitors]

    @property
    def connected(self) -> set[str]:
        """Who is connected now."""
        return {visitor.user_id for visitor in self._visitors if visitor.is_connected}

    @property
    def left_at(self) -> float:
        """When the last one disconnected, monotonic seconds."""
        return max((visitor.left_at for visitor in self._visitors), default=0.0)

    async def arrive(self) -> None:
        """Connect everybody. Raises TimeoutError."""
        async with asyncio.timeout(FINISH_LIMIT):
            await asyncio.gather(*(self._arrive(visitor) for visitor in self._visitors))

    def start(self) -> None:
        """Let everybody come and go."""
        self._tasks = [
            asyncio.create_task(self._stay(visitor) if visitor.number % 3 == 0 else self._come_and_go(visitor))
            for visitor in self._visitors
        ]

    async def finish(self) -> None:
        """End all visits. Every second user returns at the grace time and stays. Raises TimeoutError."""
        await self._stop_tasks()
        for visitor in self._visitors:
            visitor.leave()
        async with asyncio.timeout(self.grace + FINISH_LIMIT):
            await asyncio.gather(*(self._return_at_grace(visitor) for visitor in self._visitors[::2]))

    async def stop(self) -> None:
        """Disconnect everybody."""
        await self._stop_tasks()
        for visitor in self._visitors:
            visitor.leave()

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stay(self, visitor: Visitor) -> None:
        if not visitor.is_connected:  # In a second run, of those who did not stay after the first.
            await self._arrive(visitor)
        await visitor.until_lost()
        visitor.leave()

    async def _come_and_go(self, visitor: Visitor) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(SHORTEST, LONGEST))
            visitor.leave()
            at_grace = self.grace + self._rng.uniform(-CLOSE_TO_GRACE, CLOSE_TO_GRACE)
            await asyncio.sleep(self._rng.choice((at_grace, self._rng.uniform(0.2, 2 * self.grace))))
            await self._arrive(visitor)

    async def _return_at_grace(self, visitor: Visitor) -> None:
        await asyncio.sleep(self.grace + self._rng.uniform(-CLOSE_TO_GRACE, CLOSE_TO_GRACE))
        await self._arrive(visitor)

    async def _arrive(self, visitor: Visitor) -> None:
        while True:
            with suppress(*FAILED):
                await visitor.arrive(self._rng.choice(self._edges()))
                return
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
