"""Many users who connect, leave and return at times that a fault chooses."""

import asyncio
import secrets
import time
from contextlib import suppress

from infra.bench.load.light_client import open_socket
from tests.faults.context import Context
from tests.faults.visits import FAILED, Visitor

#: Connections that a group opens at a time.
AT_A_TIME = 25
#: Seconds until everybody must be connected.
ARRIVE_LIMIT = 60.0


class VisitorGroup:
    """Users of one fault. Those who are connected at the end stay until the run is over."""

    def __init__(self, context: Context, users: int) -> None:
        self._context = context
        name = secrets.token_hex(3)
        ids = [f"group{number}-{name}" for number in range(users)]
        self._visitors = [Visitor(number, user_id, context.stack.token(user_id)) for number, user_id in enumerate(ids)]
        context.groups.append(self._visitors)
        context.held.callback(self.leave)

    @property
    def connected(self) -> set[str]:
        """Who is connected now."""
        return {visitor.user_id for visitor in self._visitors if visitor.is_connected}

    async def arrive(self) -> None:
        """Connect everybody, some at a time. Raises TimeoutError."""
        async with asyncio.timeout(ARRIVE_LIMIT):
            for start in range(0, len(self._visitors), AT_A_TIME):
                some = self._visitors[start : start + AT_A_TIME]
                await asyncio.gather(*(self._arrive(visitor) for visitor in some))

    def leave(self) -> None:
        """Disconnect everybody."""
        for visitor in self._visitors:
            visitor.leave()

    async def leave_within(self, seconds: float) -> None:
        """Disconnect one after the other in that time."""
        for visitor in self._visitors:
            visitor.leave()
            await asyncio.sleep(seconds / len(self._visitors))

    async def return_after(self, seconds: float, spread: float) -> None:
        """Connect again so long after each one left, give or take a random part of `spread`. Raises TimeoutError."""
        async with asyncio.timeout(seconds + ARRIVE_LIMIT):
            await asyncio.gather(*(self._return(visitor, seconds, spread) for visitor in self._visitors))

    async def _return(self, visitor: Visitor, seconds: float, spread: float) -> None:
        moment = visitor.left_at + seconds + self._context.rng.uniform(-spread, spread)
        await asyncio.sleep(moment - time.monotonic())
        await self._arrive(visitor)

    async def _arrive(self, visitor: Visitor) -> None:
        edges = self._context.stack.edge_urls
        while not visitor.is_connected:
            with suppress(*FAILED):
                await visitor.arrive(edges[visitor.number % len(edges)])


async def look_in(context: Context, users: int, seconds: float) -> None:
    """Let users connect one after the other in that time. Each leaves after a moment, with `session_ready` or not."""
    edges, name = context.stack.edge_urls, secrets.token_hex(3)

    async def visit(number: int) -> None:
        user_id = f"short{number}-{name}"
        with suppress(*FAILED):
            async with asyncio.timeout(context.rng.uniform(0.05, 0.3)):
                socket = await open_socket(edges[number % len(edges)], context.stack.token(user_id))
            socket.close()
        context.left_at = time.monotonic()

    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(visit(number))
            await asyncio.sleep(seconds / users)
