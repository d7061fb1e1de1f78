"""The bystanders: one on each edge, who write to each other all the time, and newcomers on both edges."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Literal

import orjson

from infra.bench.load.light_client import Socket, open_socket
from infra.local.stack import Stack

#: Seconds between two messages of a bystander, and between two newcomers on an edge.
MESSAGE_EVERY, NEWCOMER_EVERY = 0.04, 0.5
#: Newcomers of an edge take turns, so that presence does not grow.
NEWCOMERS = 6
#: Milliseconds below which two figures of an idle machine differ by chance.
CHANCE = 10.0

Kind = Literal["ack", "push", "session_ready"]


@dataclass
class Wait:
    """One wait of a bystander, who is on the edge with this index."""

    kind: Kind
    edge: int
    began: float
    seconds: float | None = None


@dataclass(frozen=True)
class Figures:
    """Milliseconds of one phase: for each edge the 99th percentile of acks, and the longest wait of all."""

    p99: tuple[float, ...]
    longest: float
    longest_kind: str


@dataclass
class Bystanders:
    """Two people, and what they wait for."""

    stack: Stack
    waits: list[Wait] = field(default_factory=list)
    _pushes: dict[str, Wait] = field(default_factory=dict)

    def figures(self, since: float, until: float) -> Figures:
        """What they waited in a phase. A wait that has no end yet is as long as it has been."""
        waited = [
            (wait, 1000 * (time.monotonic() - wait.began if wait.seconds is None else wait.seconds))
            for wait in self.waits
            if since <= wait.began < until
        ]
        acks = [[ms for wait, ms in waited if wait.kind == "ack" and wait.edge == edge] for edge in (0, 1)]
        longest, milliseconds = max(waited, key=lambda each: each[1])
        return Figures(tuple(_p99(each) for each in acks), milliseconds, longest.kind)

    @asynccontextmanager
    async def chatting(self) -> AsyncIterator[None]:
        """Let them chat for the length of a block."""
        ids = [f"bystander-{self.stack.tenant.name}-{edge}" for edge in (0, 1)]
        urls = self.stack.edge_urls
        sockets = [await open_socket(urls[edge], self.stack.token(ids[edge]), self._hear) for edge in (0, 1)]
        started = await sockets[0].call("start_conversation", {"participant_ids": [ids[1]]}, 10.0)
        chat = str(started["conversation"]["id"])
        work = [self._write(sockets[edge], edge, chat) for edge in (0, 1)]
        work += [self._arrive(urls[edge], edge) for edge in (0, 1)]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for socket in sockets:
                socket.close()
            await asyncio.gather(*(socket.closed for socket in sockets))

    async def _write(self, socket: Socket, edge: int, chat: str) -> None:
        for number in itertools.count():
            word = f"{edge}-{number}-{time.monotonic_ns()}"
            message = {"conversation_id": chat, "client_message_id": word, "body": "tick"}
            now = time.monotonic()
            ack, push = Wait("ack", edge, now), Wait("push", 1 - edge, now)
            self.waits += [ack, push]
            self._pushes[word] = push

            def on_ack(answer: dict[str, object], ack: Wait = ack) -> None:
                if answer["ok"]:
                    ack.seconds = time.monotonic() - ack.began

            if not socket.emit(orjson.dumps(["send_message", message]).decode(), on_ack):
                raise ConnectionError(f"the bystander on edge {edge} was disconnected")
            await asyncio.sleep(MESSAGE_EVERY)

    def _hear(self, packet: bytes) -> None:
        if packet.startswith(b'42["new_message"'):
            word = orjson.loads(packet[2:])[1]["message"]["client_message_id"]
            if (push := self._pushes.pop(word, None)) is not None:
                push.seconds = time.monotonic() - push.began

    async def _arrive(self, url: str, edge: int) -> None:
        for number in itertools.count():
            ready = Wait("session_ready", edge, time.monotonic())
            self.waits.append(ready)
            user_id = f"newcomer-{self.stack.tenant.name}-{edge}-{number % NEWCOMERS}"
            socket = await open_socket(url, self.stack.token(user_id))
            ready.seconds = time.monotonic() - ready.began
            try:
                await asyncio.sleep(NEWCOMER_EVERY)
            finally:
                socket.close()
                await socket.closed


def _p99(milliseconds: Sequence[float]) -> float:
    return quantiles(milliseconds, n=100)[98] if len(milliseconds) > 1 else 0.0
