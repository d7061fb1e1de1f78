"""Chat messages between pairs or groups of users: sent, retried, acked, delivered, written down for the checker."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from infra.bench.history import Ack, SentMessage
from infra.bench.load.client import Client
from infra.bench.load.system import SystemUnderTest

#: Seconds after which an unanswered message is sent again (longer than an edge's own reply limit).
ACK_LIMIT = 12.0
#: Seconds after its ack until a message counts as never delivered.
DELIVERY_LIMIT = 5.0
#: First and longest pause before a retry, seconds; half of each is random.
RETRY_FIRST, RETRY_LONGEST = 0.1, 2.0
#: How often time limits are looked at, seconds.
SWEEP = 0.25
#: Pairs that are set up at the same time.
SETUP_AT_ONCE = 50

#: Like a line that people write: 60 characters.
BODY = "the build is green again, shall we look at the review today?"

_NEW_MESSAGE = b'42["new_message"'


@dataclass(eq=False)
class Pair:
    """Two users on different edges (when there are two) and their direct conversation; or more, and their group."""

    clients: tuple[Client, ...]
    conversation_id: str = ""


class Traffic:
    """Everything that is sent in one run.

    A message is done when it was acked ok and its push has arrived at all other sockets, when it was refused for good,
    or when a push is overdue. It is sent again, with the same client_message_id, after a retryable error, a lost
    connection or silence. `on_done` is called once for each, with the pair that it belongs to.
    """

    def __init__(self, pairs: Sequence[Pair], *, seen_every: int = 0) -> None:
        self.pairs = pairs
        #: In the order sent; the index is the client_message_id.
        self.sent: list[SentMessage] = []
        #: Codes of all errors answered, retried or not.
        self.errors: Counter[str] = Counter()
        self.on_done: Callable[[Pair], None] | None = None
        self._open: dict[int, Pair] = {}
        #: Pushes that an open message of a group still waits for, once the first has come.
        self._awaited: dict[int, int] = {}
        self._seen_every = seen_every
        for pair in pairs:
            for client in pair.clients:
                client.on_push = partial(self._take_push, client)

    @property
    def in_flight(self) -> int:
        """Messages that are not done."""
        return len(self._open)

    def send(self, pair: Pair, side: int) -> None:
        """Send one new message from one side of a pair (0 or 1), or one member of a group."""
        number = len(self.sent)
        now = time.monotonic()
        sender = pair.clients[side].user_id
        self.sent.append(SentMessage(pair.conversation_id, sender, str(number), due_at=now, place=number))
        self._open[number] = pair
        self._transmit(number, side)

    async def watch(self) -> None:
        """Hold the time limits, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for number, pair in list(self._open.items()):
                message = self.sent[number]
                if message.acked_at:
                    if now > message.acked_at + DELIVERY_LIMIT:
                        self._finish(number)
                elif message.tried_at and now > message.tried_at + ACK_LIMIT:
                    self._fail(message, "no answer")
                    self._retry(number, self._side(pair, message))

    async def drain(self, seconds: float) -> None:
        """Wait until everything is done, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:  # noqa: ASYNC110 -- an event would cost every message something
                    await asyncio.sleep(0.05)

    def _side(self, pair: Pair, message: SentMessage) -> int:
        return next(side for side, client in enumerate(pair.clients) if client.user_id == message.sender_id)

    def _transmit(self, number: int, side: int) -> None:
        pair = self._open.get(number)
        if pair is None:
            return
        message = self.sent[number]
        message.tries += 1
        message.tried_at = time.monotonic()
        text = (
            f'["send_message",{{"conversation_id":"{pair.conversation_id}","client_message_id":"{number}",'
            f'"body":"{BODY}"}}]'
        )
        if not pair.clients[side].emit(text, partial(self._take_ack, number, side, message.tries)):
            self._fail(message, "not connected")
            self._retry(number, side)

    def _take_ack(self, number: int, side: int, attempt: int, ack: dict[str, Any]) -> None:
        message = self.sent[number]
        if ack["ok"]:
            acked = ack["data"]["message"]
            message.acks.append(Ack(acked["id"], acked["seq"]))
            if message.acked_at:
                return
            message.acked_at = time.monotonic()
            if message.delivered_at:
                self._finish(number)
            return
        error = ack["error"]
        self._fail(message, error["code"])
        if message.acked_at or attempt != message.tries or number not in self._open:
            return
        if error["retryable"]:
            self._retry(number, side)
        else:
            message.refusal = error["code"]
            # A pause, so that a system which refuses everything is not asked in a tight loop.
            asyncio.get_running_loop().call_later(RETRY_FIRST, self._finish, number)

    def _fail(self, message: SentMessage, code: str) -> None:
        message.failures.append(code)
        self.errors[code] += 1

    def _retry(self, number: int, side: int) -> None:
        message = self.sent[number]
        message.tried_at = 0.0
        pause = min(RETRY_FIRST * 2 ** (message.tries - 1), RETRY_LONGEST) * random.uniform(0.5, 1.0)
        asyncio.get_running_loop().call_later(pause, self._transmit, number, side)

    def _take_push(self, client: Client, packet: bytes) -> None:
        if not packet.startswith(_NEW_MESSAGE):
            return
        pushed = orjson.loads(packet[2:])[1]["message"]
        number = int(pushed["client_message_id"])
        message = self.sent[number]
        if message.delivered_at or message.sender_id == client.user_id:
            return
        if not self._is_last_push(number):
            return
        message.delivered_at = time.monotonic()
        if self._seen_every and pushed["seq"] % self._seen_every == 0:
            self._see(client, pushed)
        if message.acked_at:
            self._finish(number)

    def _is_last_push(self, number: int) -> bool:
        """Count a push; in a pair the first is the last."""
        pair = self._open.get(number)
        if pair is None or len(pair.clients) == 2:
            return True
        self._awaited[number] = self._awaited.get(number, len(pair.clients) - 1) - 1
        return self._awaited[number] == 0

    def _see(self, client: Client, message: dict[str, Any]) -> None:
        text = f'["message_seen",{{"conversation_id":"{message["conversation_id"]}","seq":{message["seq"]}}}]'
        client.emit(text, self._take_seen_ack)

    def _take_seen_ack(self, ack: dict[str, Any]) -> None:
        if not ack["ok"]:
            self.errors[f"message_seen: {ack['error']['code']}"] += 1

    def _finish(self, number: int) -> None:
        pair = self._open.pop(number, None)
        self._awaited.pop(number, None)
        if pair is not None and self.on_done is not None:
            self.on_done(pair)


async def connect_pairs(system: SystemUnderTest, count: int, user_prefix: str = "pair", size: int = 2) -> list[Pair]:
    """Connect `count` pairs, or groups of `size`, neighbours at neighbouring edges, and start their conversations.

    `user_prefix` begins their ids. Runs on one store need different prefixes, as their messages have the same numbers.
    """
    edges = system.edge_urls
    pairs = [
        Pair(
            tuple(
                Client(edges[(number + place) % len(edges)], f"{user_prefix}-{number}-{place}", system.make_token)
                for place in range(size)
            )
        )
        for number in range(count)
    ]
    gate = asyncio.Semaphore(SETUP_AT_ONCE)

    async def set_up(pair: Pair) -> None:
        async with gate:
            await asyncio.gather(*(client.start() for client in pair.clients))
            await start_conversation(pair)

    try:
        async with asyncio.TaskGroup() as group:
            for pair in pairs:
                group.create_task(set_up(pair))
    except BaseExceptionGroup as failed:
        await disconnect_pairs(pairs)
        raise failed.exceptions[0] from None
    return pairs


async def connect_everyone(system: SystemUnderTest, side: int, user_prefix: str = "everyone") -> list[Pair]:
    """Connect `side` pairs and let each on one side talk with all on the other: `side` squared conversations."""
    met = await connect_pairs(system, side, user_prefix)
    others = [Pair((one.clients[0], two.clients[1])) for one in met for two in met if one is not two]
    try:
        for pair in others:
            await start_conversation(pair)
    except BaseException:
        await disconnect_pairs(met)
        raise
    return met + others


async def start_conversation(pair: Pair) -> None:
    """Let the first of a connected pair or group start its conversation. Raises CallFailed."""
    first, *others = pair.clients
    started = await first.call("start_conversation", {"participant_ids": [other.user_id for other in others]})
    pair.conversation_id = started["conversation"]["id"]


async def disconnect_pairs(pairs: Sequence[Pair]) -> None:
    """Close every socket."""
    await asyncio.gather(*(client.stop() for client in {client for pair in pairs for client in pair.clients}))
