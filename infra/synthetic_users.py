"""The canary: two synthetic users, each with a socket of its own, send messages to each other and measure every step.

One round is one message: it is sent through one edge, acked, delivered through the other edge, marked as seen, and
counted. The users take turns as the sender. Every wait has a limit, a lost socket reconnects with back-off, and a
failed round is counted by its cause.
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
#: Seconds after the start in which a missing connection does not fail a round.
START_LIMIT = 2.0
#: Successful rounds in a row before an unread count is checked. A message whose round failed may be stored later, and
#: then it counts.
SETTLED_ROUNDS = 10

Json = dict[str, Any]


class RoundFailed(Exception):
    """Raised when a step of a round fails. The text names the step; it is a label of a metric."""


@dataclass(frozen=True)
class Account:
    """A synthetic user: its id, the URL of its edge, and a function that returns a token for each connection."""

    user_id: str
    edge: str
    token: Callable[[], str]


class SyntheticUser:
    """One synthetic user's socket. It reconnects with back-off whenever the connection is lost."""

    def __init__(self, account: Account) -> None:
        self.user_id = account.user_id
        self._account = account
        self._sio = self._client()
        #: Set while the socket is connected and has `session_ready`.
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
                log.warning(
                    "%s cannot connect to %s; trying again: %s", self.user_id, self._account.edge, error or "no answer"
                )
            finally:
                self._set_not_ready()
                with suppress(asyncio.CancelledError, Exception):
                    async with asyncio.timeout(ANSWER_LIMIT):
                        await self._sio.disconnect()
            attempt += 1
            await asyncio.sleep(backoff(attempt))

    def _client(self) -> Any:
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        client.on("session_ready", self._on_session_ready)
        client.on("new_message", self._on_new_message)
        client.on("disconnect", self._on_disconnect)
        return client

    async def _connect(self) -> None:
        self._lost.clear()
        # A new client for each connection: a connect that timed out leaves tasks in the old one.
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

    async def call(self, event: str, **payload: Any) -> Json:
        """Send an event and return the data of its ack. Raises RoundFailed."""
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
        """A future of the message's arrival at this socket: the time by `time.perf_counter`, and the seq."""
        self._expected.clear()
        arrival = self._expected[client_message_id] = asyncio.get_running_loop().create_future()
        return arrival

    def _on_session_ready(self, _: Json) -> None:
        self.ready.set()
        metrics.CANARY_SOCKETS.labels(self.user_id).set(1)

    def _on_new_message(self, push: Json) -> None:
        message = push["message"]
        arrival = self._expected.pop(message["client_message_id"], None)
        if arrival is not None and not arrival.done():
            arrival.set_result((time.perf_counter(), message["seq"]))

    def _on_disconnect(self, reason: str) -> None:
        log.warning("%s lost its connection to %s; reconnecting: %s", self.user_id, self._account.edge, reason)
        self._set_not_ready()
        self._lost.set()

    def _set_not_ready(self) -> None:
        self.ready.clear()
        metrics.CANARY_SOCKETS.labels(self.user_id).set(0)


class Canary:
    """Two synthetic users that take turns, one round every `interval` seconds.

    `on_stored` is called with the conversation id and the seq of each message. It returns whether it has deleted the
    conversation. `not_ready_reason` says why the last round failed, or is None.
    """

    def __init__(
        self, accounts: tuple[Account, Account], interval: float, on_stored: Callable[[str, int], Awaitable[bool]]
    ) -> None:
        self._users = [SyntheticUser(account) for account in accounts]
        self._interval = interval
        self._on_stored = on_stored
        self._conversation: str | None = None
        self._successes = 0
        self.not_ready_reason: str | None = "no message was sent yet"

    async def run(self) -> None:
        """Run rounds until cancelled."""
        sockets = [asyncio.create_task(user.run()) for user in self._users]
        try:
            await self._run_rounds()
        finally:
            for socket in sockets:
                socket.cancel()
            await asyncio.wait(sockets, timeout=ANSWER_LIMIT)

    async def _run_rounds(self) -> None:
        due = time.monotonic()
        sender, receiver = self._users
        with suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT):
                await asyncio.gather(sender.ready.wait(), receiver.ready.wait())
        while True:
            try:
                await self._round(sender, receiver)
                self._successes += 1
                self._report(None)
                metrics.CANARY_ROUNDS.labels("ok").inc()
            except RoundFailed as failure:
                self._successes = 0
                self._report(str(failure))
                metrics.CANARY_ROUNDS.labels(str(failure)).inc()
            sender, receiver = receiver, sender
            # After a round that took longer than the interval, the next one starts at once; missed rounds are skipped.
            due = max(due + self._interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def _report(self, reason: str | None) -> None:
        if reason != self.not_ready_reason:
            if reason is None:
                log.info("Rounds succeed.")
            else:
                log.warning("A round failed: %s.", reason)
        self.not_ready_reason = reason

    async def _round(self, sender: SyntheticUser, receiver: SyntheticUser) -> None:
        """Send one message and mark it as seen. Raises RoundFailed."""
        if not receiver.ready.is_set():
            raise RoundFailed("not connected")
        if self._conversation is None:
            started = await sender.call("start_conversation", participant_ids=[receiver.user_id])
            self._conversation = started["conversation"]["id"]
        conversation = self._conversation
        id = f"canary-{time.time_ns()}"
        arrival = receiver.expect(id)
        sent = time.perf_counter()
        try:
            await sender.call("send_message", conversation_id=conversation, client_message_id=id, body="canary")
        except RoundFailed as failure:
            if str(failure) == "send_message: not_found":  # an operator deleted the conversation
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
        count = await receiver.call("message_seen", conversation_id=conversation, seq=seq)
        _observe("seen", time.perf_counter() - marked)
        if count["unread_count"] and self._successes >= SETTLED_ROUNDS:
            metrics.CANARY_WRONG_COUNTS.labels(receiver.user_id).inc()
            raise RoundFailed("wrong count")
        if await self._on_stored(conversation, seq):
            self._conversation = None


def _observe(step: str, seconds: float) -> None:
    metrics.CANARY_SECONDS.labels(step).observe(seconds)
