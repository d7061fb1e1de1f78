"""Sends messages in conversations, retries them, and notes acks and pushes for the checker of histories."""

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson

from infra.bench.histories import Ack, SentMessage
from infra.bench.load.light_client import Client, Conversation

#: Seconds after which an unanswered message is sent again (longer than an edge's own reply limit).
ACK_LIMIT = 12.0
#: Seconds after its ack until a message counts as never delivered.
DELIVERY_LIMIT = 5.0
#: First and longest pause before a retry, seconds; half of each is random.
RETRY_FIRST, RETRY_LONGEST = 0.1, 2.0
#: Seconds between two looks at the time limits.
SWEEP = 0.25
#: Messages of one run: each takes about 1 KB of memory until the histories are compared.
MAX_MESSAGES = 500_000

#: Like a line that people write: 60 characters.
BODY = "the build is green again, shall we look at the review today?"

_NEW_MESSAGE = b'42["new_message"'


class Traffic:
    """All messages of one run.

    A message is done when it was acked ok and its push has arrived at all other clients of its conversation, when an
    error ruled out a retry, or when a push is overdue. It is sent again, with the same client_message_id, after a
    retryable error, a lost connection, or `ACK_LIMIT` seconds without an ack. `on_done` is called once for each
    message, with its conversation.
    """

    def __init__(self, conversations: Sequence[Conversation], *, seen_every: int = 0) -> None:
        self.conversations = conversations
        #: In the order sent; the client_message_id is the run's prefix and the index.
        self.sent: list[SentMessage] = []
        #: Codes of all tries that failed, retried or not.
        self.errors: Counter[str] = Counter()
        self.on_done: Callable[[Conversation], None] | None = None
        self._open: dict[int, Conversation] = {}
        #: A run's own, as a conversation may have messages of earlier runs.
        self._prefix = f"{secrets.token_hex(4)}-"
        #: Pushes that an open message of a group still waits for, once the first has come.
        self._awaited: dict[int, int] = {}
        self._seen_every = seen_every
        for conversation in conversations:
            for client in conversation.clients:
                client.on_push = partial(self._take_push, client)

    @property
    def is_full(self) -> bool:
        """Whether the run has sent as many messages as it may."""
        return len(self.sent) >= MAX_MESSAGES

    def send(self, conversation: Conversation, member: int) -> None:
        """Send a new message from one of a conversation's clients, named by its index."""
        number = len(self.sent)
        client = conversation.clients[member]
        self.sent.append(
            SentMessage(
                conversation.id,
                client.user_id,
                f"{self._prefix}{number}",
                due_at=time.monotonic(),
                connection=client.reconnects,
                place=number,
            )
        )
        self._open[number] = conversation
        self._transmit(number, member)

    async def enforce_limits(self) -> None:
        """Retry what is not acked in time, and give up pushes that are overdue, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for number, conversation in list(self._open.items()):
                message = self.sent[number]
                if message.acked_at:
                    if now > message.acked_at + DELIVERY_LIMIT:
                        self._finish(number)
                elif message.tried_at and now > message.tried_at + ACK_LIMIT:
                    self._fail(message, "no answer")
                    self._retry(number, self._member(conversation, message))

    async def drain(self, seconds: float) -> None:
        """Wait until everything is done, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:  # noqa: ASYNC110 -- an event would cost every message something
                    await asyncio.sleep(0.05)

    def _member(self, conversation: Conversation, message: SentMessage) -> int:
        return next(member for member, client in enumerate(conversation.clients) if client.user_id == message.sender_id)

    def _transmit(self, number: int, member: int) -> None:
        conversation = self._open.get(number)
        if conversation is None:
            return
        message = self.sent[number]
        message.tries += 1
        message.tried_at = time.monotonic()
        text = (
            f'["send_message",{{"conversation_id":"{conversation.id}","client_message_id":"{message.client_message_id}",'
            f'"body":"{BODY}"}}]'
        )
        if not conversation.clients[member].emit(text, partial(self._take_ack, number, member, message.tries)):
            self._fail(message, "not connected")
            self._retry(number, member)

    def _take_ack(self, number: int, member: int, attempt: int, ack: dict[str, Any]) -> None:
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
            self._retry(number, member)
        else:
            message.refusal = error["code"]
            # A pause keeps a system that refuses everything from being asked in a tight loop.
            asyncio.get_running_loop().call_later(RETRY_FIRST, self._finish, number)

    def _fail(self, message: SentMessage, code: str) -> None:
        message.failures.append(code)
        self.errors[code] += 1

    def _retry(self, number: int, member: int) -> None:
        message = self.sent[number]
        message.tried_at = 0.0
        pause = min(RETRY_FIRST * 2 ** (message.tries - 1), RETRY_LONGEST) * random.uniform(0.5, 1.0)
        asyncio.get_running_loop().call_later(pause, self._transmit, number, member)

    def _take_push(self, client: Client, packet: bytes) -> None:
        if not packet.startswith(_NEW_MESSAGE):
            return
        pushed = orjson.loads(packet[2:])[1]["message"]
        client_message_id = pushed["client_message_id"]
        if not client_message_id.startswith(self._prefix):
            return
        number = int(client_message_id[len(self._prefix) :])
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
        """Count a push; with two clients the first is the last."""
        conversation = self._open.get(number)
        if conversation is None or len(conversation.clients) == 2:
            return True
        self._awaited[number] = self._awaited.get(number, len(conversation.clients) - 1) - 1
        return self._awaited[number] == 0

    def _see(self, client: Client, message: dict[str, Any]) -> None:
        text = f'["message_seen",{{"conversation_id":"{message["conversation_id"]}","seq":{message["seq"]}}}]'
        client.emit(text, self._take_seen_ack)

    def _take_seen_ack(self, ack: dict[str, Any]) -> None:
        if not ack["ok"]:
            self.errors[f"message_seen: {ack['error']['code']}"] += 1

    def _finish(self, number: int) -> None:
        conversation = self._open.pop(number, None)
        self._awaited.pop(number, None)
        if conversation is not None and self.on_done is not None:
            self.on_done(conversation)
