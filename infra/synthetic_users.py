"""The canary's two birds: synthetic users, each with a socket of its own, who chat with each other.

One round is one message: sent at one edge, acked, delivered at the other, marked as seen there, and counted. The two
take turns. Every wait has a limit, and a lost socket comes back with back-off; a round that fails is counted by why.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import socketio

from contracts.errors import WarrenError
from infra import metrics
from infra.backoff import backoff

log = logging.getLogger(__name__)

#: Seconds to wait for a connection with its `session_ready`, and for each answer in a round.
CONNECT_LIMIT, ANSWER_LIMIT = 10.0, 10.0
#: Seconds from the start in which not to be connected is no failure yet.
START = 2.0
#: Rounds in a row that must have gone well before a count is held against it: a message that was given up may still be
#: stored, and then it counts.
CALM = 10

Json = dict[str, Any]


class RoundFailed(Exception):
    """Raised when a message did not do all that it should; the text says at which step, and is a metric's label."""


@dataclass(frozen=True)
class Account:
    """A synthetic user, the edge that it talks through, and where its next token comes from."""

    user_id: str
    edge: str
    token: Callable[[], str]


class Bird:
    """One synthetic user's socket. It connects again, with back-off, whenever it is lost."""

    def __init__(self, account: Account) -> None:
        self.user_id = account.user_id
        self._account = account
        self._sio = self._client()
        self.ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._expected: dict[str, asyncio.Future[tuple[float, int]]] = {}
        metrics.CANARY_SOCKETS.labels(self.user_id).set(0)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        attempt = 0
        while True:
            try:
                await self._connect()
                attempt = 0
                await self._lost.wait()
            except (socketio.exceptions.SocketIOError, OSError, TimeoutError, WarrenError) as error:
                log.warning("%s cannot connect to %s: %s", self.user_id, self._account.edge, error or "no answer")
            finally:
                self._not_ready()
                with suppress(asyncio.CancelledError, Exception):
                    async with asyncio.timeout(ANSWER_LIMIT):
                        await self._sio.disconnect()
            attempt += 1
            await asyncio.sleep(backoff(attempt))

    def _client(self) -> Any:
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        client.on("session_ready", self._on_ready)
        client.on("new_message", self._on_message)
        client.on("disconnect", self._on_disconnect)
        return client

    async def _connect(self) -> None:
        self._lost.clear()
        # A fresh one: what a connect that was given up leaves in the library is nobody's business any more.
        self._sio = self._client()
        async with asyncio.timeout(CONNECT_LIMIT):
            await self._sio.connect(
                self._account.edge,
                auth={"token": self._account.token()},
                transports=["websocket"],
                wait_timeout=CONNECT_LIMIT,
            )
            await self.ready.wait()
        log.info("%s is connected to %s.", self.user_id, self._account.edge)

    async def ask(self, event: str, **payload: Any) -> Json:
        """Send an event and return its ack's data. Raises RoundFailed."""
        if not self.ready.is_set():
            raise RoundFailed("not connected")
        try:
            ack = await self._sio.call(event, payload, timeout=ANSWER_LIMIT)
        except socketio.exceptions.SocketIOError as error:
            raise RoundFailed(f"no ack of {event}") from error
        if not ack["ok"]:
            raise RoundFailed(f"{event}: {ack['error']['code']}")
        data: Json = ack["data"]
        return data

    def expect(self, client_message_id: str) -> "asyncio.Future[tuple[float, int]]":
        """When a message arrives here, by `time.perf_counter`, and its seq."""
        self._expected.clear()
        arrival = self._expected[client_message_id] = asyncio.get_running_loop().create_future()
        return arrival

    def _on_ready(self, _: Json) -> None:
        self.ready.set()
        metrics.CANARY_SOCKETS.labels(self.user_id).set(1)

    def _on_message(self, push: Json) -> None:
        message = push["message"]
        arrival = self._expected.pop(message["client_message_id"], None)
        if arrival is not None and not arrival.done():
            arrival.set_result((time.perf_counter(), message["seq"]))

    def _on_disconnect(self, reason: str) -> None:
        log.warning("%s lost its connection to %s: %s", self.user_id, self._account.edge, reason)
        self._not_ready()
        self._lost.set()

    def _not_ready(self) -> None:
        self.ready.clear()
        metrics.CANARY_SOCKETS.labels(self.user_id).set(0)


class Canary:
    """Two birds that take turns, a round every `interval` seconds.

    `on_stored` gets the conversation and the seq of each message, and says whether it removed the conversation.
    """

    def __init__(
        self, accounts: tuple[Account, Account], interval: float, on_stored: Callable[[str, int], Awaitable[bool]]
    ) -> None:
        self._birds = [Bird(account) for account in accounts]
        self._interval = interval
        self._on_stored = on_stored
        self._conversation: str | None = None
        self._calm = 0
        #: Why the last round failed, or None.
        self.not_ready_reason: str | None = "no message was sent yet"

    async def run(self) -> None:
        """Chat until cancelled."""
        sockets = [asyncio.create_task(bird.run()) for bird in self._birds]
        try:
            await self._chat()
        finally:
            for socket in sockets:
                socket.cancel()
            await asyncio.wait(sockets, timeout=ANSWER_LIMIT)

    async def _chat(self) -> None:
        due = time.monotonic()
        sender, receiver = self._birds
        with suppress(TimeoutError):
            async with asyncio.timeout(START):
                await asyncio.gather(sender.ready.wait(), receiver.ready.wait())
        while True:
            try:
                await self._round(sender, receiver)
                self._calm += 1
                self._say(None)
                metrics.CANARY_ROUNDS.labels("ok").inc()
            except RoundFailed as failure:
                self._calm = 0
                self._say(str(failure))
                metrics.CANARY_ROUNDS.labels(str(failure)).inc()
            sender, receiver = receiver, sender
            # A round that took longer than the interval is followed at once, by one and not by all that were missed.
            due = max(due + self._interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def _say(self, reason: str | None) -> None:
        if reason != self.not_ready_reason:
            log.log(
                logging.WARNING if reason else logging.INFO,
                "%s",
                f"A round failed: {reason}" if reason else "All is well.",
            )
        self.not_ready_reason = reason

    async def _round(self, sender: Bird, receiver: Bird) -> None:
        """One message there, and the word that it was seen. Raises RoundFailed."""
        if not receiver.ready.is_set():
            raise RoundFailed("not connected")
        if self._conversation is None:
            started = await sender.ask("start_conversation", participant_ids=[receiver.user_id])
            self._conversation = started["conversation"]["id"]
        conversation = self._conversation
        id = f"canary-{time.time_ns()}"
        arrival = receiver.expect(id)
        sent = time.perf_counter()
        try:
            await sender.ask("send_message", conversation_id=conversation, client_message_id=id, body="tweet")
        except RoundFailed as failure:
            if str(failure) == "send_message: not_found":  # somebody removed it
                self._conversation = None
            raise
        acked = time.perf_counter()
        _observe("ack", acked - sent)
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                delivered, seq = await arrival
        except TimeoutError:
            raise RoundFailed("no delivery") from None
        _observe("delivery", delivered - sent)
        marked = time.perf_counter()
        count = await receiver.ask("message_seen", conversation_id=conversation, seq=seq)
        _observe("seen", time.perf_counter() - marked)
        if count["unread_count"] and self._calm >= CALM:
            metrics.CANARY_WRONG_COUNTS.labels(receiver.user_id).inc()
            raise RoundFailed("wrong count")
        if await self._on_stored(conversation, seq):
            self._conversation = None


def _observe(step: str, seconds: float) -> None:
    metrics.CANARY_SECONDS.labels(step).observe(seconds)
