"""The life of an attacking connection, and how to lead many of them until the attack's time is over."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from tests.abuse.attack import End, Target, person
from tests.support.raw_tcp import RawTCP, client_frame, raw_tcp

#: Seconds until an attacker who was closed connects again, and between two portions of a flood.
RECONNECT_PAUSE, PORTION = 1.0, 0.05
#: What an edge says to an attacker instead of closing.
ANSWERS = (b'"rate_limited"', b'"too_large"', b"HTTP/1.1 4")


class Attacking:
    """One connection of an attacker."""

    def __init__(self, target: Target, end: End, raw: RawTCP) -> None:
        self.target = target
        self.raw = raw
        self.answered_at: float | None = None
        self._end = end
        self._closed = asyncio.Event()

    async def send(self, data: bytes) -> None:
        """Send bytes, if the edge still takes them."""
        if not self._closed.is_set():
            with suppress(ConnectionError):
                await asyncio.wait_for(self.raw.send(data), PORTION)
                self._end.sent_bytes += len(data)

    async def flood(self, data: bytes, rate: float) -> None:
        """Send the same bytes at so many bytes a second until the connection ends."""
        portion = data * max(1, round(rate * PORTION / len(data)))
        pause = len(portion) / rate
        while not await self.is_closed(pause):
            with suppress(TimeoutError):
                await self.send(portion)

    async def trickle(self, frames: Iterable[bytes], per_second: float) -> None:
        """Send one frame after the other, so many a second, until they or the connection end."""
        for frame in frames:
            if await self.is_closed(1 / per_second):
                return
            with suppress(TimeoutError):
                await self.send(frame)

    async def is_closed(self, within: float) -> bool:
        """Wait so long for the edge to close the connection."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), within)
        return self._closed.is_set()

    async def hold(self) -> None:
        """Do nothing until the edge closes the connection."""
        await self._closed.wait()

    async def read(self) -> None:
        """Take what the edge sends, and note when it answers or closes. `lead` runs it beside the offence."""
        with suppress(ConnectionError):
            while chunk := await self.raw.reader.read(1 << 16):
                if self.answered_at is None and any(answer in chunk for answer in ANSWERS):
                    self.answered_at = time.monotonic()
        self._closed.set()


Offence = Callable[[Attacking], Awaitable[None]]
Opening = Callable[[RawTCP, Target], Awaitable[None]]


async def without_token(raw: RawTCP, target: Target) -> None:
    """Open a WebSocket and show no token."""
    await raw.upgrade()


async def with_token(raw: RawTCP, target: Target) -> None:
    """Open a WebSocket as a user of one's own."""
    await raw.upgrade(target.token())


def event(name: str, payload: object) -> bytes:
    """The frame of an event that wants an ack."""
    return client_frame("text", b"421" + json.dumps([name, payload], ensure_ascii=False).encode())


async def start_conversation(raw: RawTCP, target: Target) -> str:
    """Open a WebSocket as a user of one's own, and start a conversation; return its id."""
    await raw.upgrade(target.token())
    await raw.send(event("start_conversation", {"participant_ids": [person(0)]}))
    await raw.reader.readuntil(b'"conversation":{"id":"')
    return (await raw.reader.readuntil(b'"'))[:-1].decode()


async def without_upgrade(raw: RawTCP, target: Target) -> None:
    """Leave it at the TCP connection."""


async def lead(
    target: Target, offence: Offence, *, opening: Opening = with_token, connections: int = 1, reads: bool = True
) -> End:
    """Offend on so many connections at once, and again on a new one a second after the edge has closed one."""
    end = End()
    until = time.monotonic() + target.seconds
    count = 0

    async def again_and_again(delay: float) -> None:
        nonlocal count
        await asyncio.sleep(delay)
        while time.monotonic() < until - RECONNECT_PAUSE:
            with suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
                async with raw_tcp(target.port, target.host) as raw:
                    await opening(raw, target)
                    end.connections += 1
                    count += 1
                    end.most_open = max(end.most_open, count)
                    try:
                        await _offend(Attacking(target, end, raw), offence, end, until, reads=reads)
                    finally:
                        count -= 1
            await asyncio.sleep(RECONNECT_PAUSE)

    # Not all in one moment: it is their number that counts.
    spread = min(1.0, target.seconds / 4)
    await asyncio.gather(*(again_and_again(number * spread / connections) for number in range(connections)))
    return end


async def _offend(attacking: Attacking, offence: Offence, end: End, until: float, *, reads: bool) -> None:
    began = time.monotonic()
    if not reads:
        attacking.raw.pause()
    async with _running(attacking.read()) as reading, _running(offence(attacking)) as offending:
        await asyncio.wait([reading], timeout=max(0.0, until - time.monotonic()))
        how_long = time.monotonic() - began
        if offending.done() and (error := offending.exception()):
            raise error
        if attacking.answered_at is not None:
            end.note("answered", attacking.answered_at - began)
        else:
            end.note("closed" if reading.done() else "open", how_long)


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator["asyncio.Future[None]"]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
