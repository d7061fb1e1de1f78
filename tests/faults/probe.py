"""Probes whether the whole of Warren works: new users connect, list, send, and reach another user."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable

from picows import WSError

from infra.bench.load.light_client import CallFailed, open_socket
from tests.faults.recovery import Probe

#: Seconds between the starts of two probes, and until a probe has failed.
PROBE_EVERY, PROBE_LIMIT = 0.5, 5.0
#: Users that take turns, so that presence does not grow with the length of a run.
USERS = 12


class Prober:
    """Sends new users to the edges in turn; each sends a message to the probed user, who must receive it."""

    def __init__(self, name: str, probed_id: str, edges: Callable[[], list[str]], token: Callable[[str], str]) -> None:
        self.probes: list[Probe] = []
        #: The client message ids of what the probed user received.
        self.received: set[str] = set()
        self._numbers = itertools.count()
        self._name = name
        self._probed_id = probed_id
        self._edges = edges
        self._token = token

    async def run(self) -> None:
        """Probe until cancelled. A second run continues the numbers of the first."""
        for number in self._numbers:
            began = time.monotonic()
            ok = False
            with contextlib.suppress(OSError, WSError, TimeoutError, CallFailed):
                async with asyncio.timeout(PROBE_LIMIT):
                    await self._probe(number)
                ok = True
            self.probes.append(Probe(began, time.monotonic(), ok))
            await asyncio.sleep(max(0.0, began + PROBE_EVERY - time.monotonic()))

    async def _probe(self, number: int) -> None:
        edges = self._edges()
        user_id = f"new{number % USERS}-{self._name}"
        socket = await open_socket(edges[number % len(edges)], self._token(user_id))
        try:
            started = await socket.call("start_conversation", {"participant_ids": [self._probed_id]})
            await socket.call("list_conversations", {})
            message_id = f"probe-{number}"
            message = {
                "conversation_id": started["conversation"]["id"],
                "client_message_id": message_id,
                "body": "Does this arrive?",
            }
            await socket.call("send_message", message)
            while message_id not in self.received:  # noqa: ASYNC110 - rarely more than one look
                await asyncio.sleep(0.01)
        finally:
            socket.close()
