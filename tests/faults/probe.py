"""A newcomer's whole visit: what tells whether Warren works, from connecting to being heard."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import orjson
from picows import WSError

from infra.bench.load.client import CallFailed, Socket, open_socket
from tests.faults.recovery import Probe

#: Seconds between two probes, and until one is given up.
PROBE_EVERY, PROBE_LIMIT = 0.5, 5.0
#: Newcomers take turns, so that presence does not grow with the length of a run.
NEWCOMERS = 12


class Prober:
    """Sends newcomers to one edge after the other; each says a word to the anchor, who must hear it."""

    def __init__(self, name: str, anchor_id: str, edges: Callable[[], list[str]], token: Callable[[str], str]) -> None:
        self.probes: list[Probe] = []
        #: The client message id of whatever the anchor hears is put here.
        self.heard: set[str] = set()
        self._numbers = itertools.count()
        self._name = name
        self._anchor_id = anchor_id
        self._edges = edges
        self._token = token

    async def run(self) -> None:
        """Probe until cancelled; another run goes on where this one was cancelled."""
        for number in self._numbers:
            began = time.monotonic()
            ok = False
            with contextlib.suppress(OSError, WSError, TimeoutError, CallFailed):
                async with asyncio.timeout(PROBE_LIMIT):
                    await self._visit(number)
                ok = True
            self.probes.append(Probe(began, time.monotonic(), ok))
            await asyncio.sleep(max(0.0, began + PROBE_EVERY - time.monotonic()))

    async def _visit(self, number: int) -> None:
        edges = self._edges()
        user_id = f"newcomer{number % NEWCOMERS}-{self._name}"
        socket = await open_socket(edges[number % len(edges)], self._token(user_id))
        try:
            started = await call(socket, "start_conversation", {"participant_ids": [self._anchor_id]})
            await call(socket, "list_conversations", {})
            word = f"probe-{number}"
            message = {
                "conversation_id": started["conversation"]["id"],
                "client_message_id": word,
                "body": "Is anybody there?",
            }
            await call(socket, "send_message", message)
            while word not in self.heard:  # noqa: ASYNC110 - rarely more than one look
                await asyncio.sleep(0.01)
        finally:
            socket.close()


async def call(socket: Socket, event: str, payload: dict[str, Any]) -> Any:
    """Send an event and return the data of its ack. Raises CallFailed."""
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    text = orjson.dumps([event, payload]).decode()
    if not socket.emit(text, lambda ack: None if answer.done() else answer.set_result(ack)):
        raise CallFailed(event, {"code": "disconnected"})
    ack = await answer
    if not ack["ok"]:
        raise CallFailed(event, ack["error"])
    return ack["data"]
