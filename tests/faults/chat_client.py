"""A chat client that survives every fault, on the official Python library: it retries, reconnects and takes snapshots.

It does what docs/protocol.md asks of a client, and no more: the same `client_message_id` in every try, a back-off with
jitter, another edge when one does not answer, a snapshot on every `session_ready`, and `list_messages` on a gap.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import socketio

from infra.bench.histories import Ack, ClientView, Counts, SentMessage

Json = Any

#: Seconds without an ack after which a connection counts as dead; an edge itself answers `timeout` after 10.
ACK_LIMIT = 12.0
#: Seconds that a connection attempt may take.
CONNECT_LIMIT = 10.0
#: Seconds that closing a connection may take before the client abandons it.
CLOSE_LIMIT = 15.0
#: First and longest pause before a retry, seconds; half of each is random.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

#: The ack of a call whose connection ended, and of a call that got no answer in time.
DISCONNECTED: Json = {"ok": False, "error": {"code": "disconnected", "retryable": True, "retry_after_ms": 0}}
NO_ANSWER: Json = {"ok": False, "error": {"code": "no answer", "retryable": True, "retry_after_ms": 0}}


class RefusedForGood(Exception):
    """Raised when an event is answered with an error that rules out a retry."""


class Connection:
    """One Socket.IO connection until its end; what the library reports after that is ignored."""

    def __init__(self, number: int, http: aiohttp.ClientSession) -> None:
        self.number = number
        self.ended = asyncio.Event()
        self.on_push: Callable[[str, Json], None] = lambda name, payload: None
        self._waiting: set[asyncio.Future[Json]] = set()
        self._sio = socketio.AsyncClient(reconnection=False, handle_sigint=False, http_session=http)
        self._sio.on("*", self._take)
        self._sio.on("disconnect", self._on_disconnect)

    async def open(self, url: str, token: str) -> None:
        """Connect. Raises socketio.exceptions.ConnectionError or TimeoutError."""
        async with asyncio.timeout(CONNECT_LIMIT):
            await self._sio.connect(url, auth={"token": token}, transports=["websocket"], wait_timeout=CONNECT_LIMIT)

    async def call(self, event: str, payload: Json, seconds: float = ACK_LIMIT) -> Json:
        """Send an event and return its whole ack, or DISCONNECTED, or NO_ANSWER."""
        if self.ended.is_set():
            return DISCONNECTED
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting.add(answer)
        try:
            await self._sio.emit(
                event, payload, callback=lambda *ack: None if answer.done() else answer.set_result(ack[0])
            )
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            return NO_ANSWER
        except socketio.exceptions.BadNamespaceError:
            self.end()
            return DISCONNECTED
        finally:
            self._waiting.discard(answer)

    def end(self) -> None:
        """Ignore what follows; each call that waits for an ack gets DISCONNECTED."""
        self.ended.set()
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(DISCONNECTED)

    async def close(self) -> None:
        """End, and close the connection if the other side answers in time."""
        self.end()
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._sio.disconnect()

    async def _on_disconnect(self, *_: object) -> None:
        self.end()

    def _take(self, name: str, *arguments: Json) -> None:
        if not self.ended.is_set():
            self.on_push(name, arguments[0] if arguments else None)


class ChatClient:
    """One user with one connection at a time, and a new one whenever it ends."""

    def __init__(
        self, user_id: str, edges: Callable[[], list[str]], token: str, http: aiohttp.ClientSession, first_edge: int = 0
    ) -> None:
        self.user_id = user_id
        self.view = ClientView(user_id)
        self.snapshots = 0
        self.reconnects = -1
        #: The user of each push that said offline.
        self.offline_pushes: list[str] = []
        self.watermarks: list[tuple[str, str, int]] = []
        #: Sentences about what was refused for good, which no fault excuses.
        self.refusals: list[str] = []
        self.on_message: Callable[[str, Json], None] = lambda conversation_id, message: None
        self.ready = asyncio.Event()
        self._edges = edges
        self._token = token
        self._http = http
        self._next_edge = first_edge
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._numbers = itertools.count(1)
        self._places = itertools.count(1)
        self._snapshot: asyncio.Task[None] | None = None
        self._filling: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    # --- Connection ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and connect again whenever the connection ends."""
        self._running = asyncio.create_task(self._stay_connected())

    async def stop(self) -> None:
        """Close and stay closed."""
        if self._running is not None:
            self._running.cancel()
        for task in [self._snapshot, *self._tasks]:
            if task is not None:
                task.cancel()
        if self._connection is not None:
            await self._connection.close()

    async def _stay_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            connection = Connection(next(self._numbers), self._http)
            connection.on_push = self._take
            urls = self._edges()
            url = urls[self._next_edge % len(urls)]
            try:
                await connection.open(url, self._token)
            except (socketio.exceptions.ConnectionError, TimeoutError, aiohttp.ClientError, OSError):
                self.run_in_background(connection.close())
                self._next_edge += 1
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._connection = connection
            self.reconnects += 1
            self._connected.set()
            await connection.ended.wait()
            self._connected.clear()
            self.ready.clear()
            self.run_in_background(connection.close())
            self._next_edge += 1
            await asyncio.sleep(random.uniform(0, FIRST_PAUSE))

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to send on."""
        return self._connected.is_set()

    async def call(self, event: str, payload: Json) -> Json:
        """Send an event, again on any connection until it is acked; return the data of the ok ack.

        Raises RefusedForGood when a retry would not change the answer.
        """
        pause = FIRST_PAUSE
        while True:
            ack = await self._try(event, payload)
            if ack["ok"]:
                return ack["data"]
            if not ack["error"]["retryable"]:
                self.refusals.append(f"{event} of {self.user_id} was refused: {ack['error']}")
                raise RefusedForGood(self.refusals[-1])
            pause = await _pause(pause, ack)

    async def _try(self, event: str, payload: Json) -> Json:
        await self._connected.wait()
        connection = self._connection
        assert connection is not None
        ack = await connection.call(event, payload)
        if ack is NO_ANSWER:
            connection.end()
        return ack

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this as a task. What it is refused for good is in `refusals`; any other error is a bug."""
        task = asyncio.create_task(_unless_refused(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Writing and reading ------------------------------------------------------------------------------

    async def send(self, message: SentMessage, body: str) -> None:
        """Send a message until it is acked, and note every answer."""
        payload = {
            "conversation_id": message.conversation_id,
            "client_message_id": message.client_message_id,
            "body": body,
        }
        pause = FIRST_PAUSE
        while True:
            await self._connected.wait()
            assert self._connection is not None
            message.tries += 1
            if message.tries == 1:
                # Nothing awaits between here and the socket, so the socket carries messages in the order of places.
                message.connection, message.place = self._connection.number, next(self._places)
            ack = await self._try("send_message", payload)
            if ack["ok"]:
                self._acked(message, ack["data"]["message"])
                return
            message.failures.append(ack["error"]["code"])
            if not ack["error"]["retryable"]:
                message.refusal = ack["error"]["code"]
                return
            pause = await _pause(pause, ack)

    def _acked(self, message: SentMessage, acked: Json) -> None:
        message.acks.append(Ack(acked["id"], acked["seq"], acked["sent_at"]))
        message.acked_at = message.acked_at or time.monotonic()
        self._show(acked)

    async def repeat(self, message: SentMessage, body: str) -> None:
        """Send an acked message again, as a client that crashed may; the ack must be the same."""
        payload = {
            "conversation_id": message.conversation_id,
            "client_message_id": message.client_message_id,
            "body": body,
        }
        self._acked(message, (await self.call("send_message", payload))["message"])

    async def mark_seen(self, conversation_id: str) -> None:
        """Send `message_seen` up to the last message before a gap."""
        seq = self.view.conversations[conversation_id].contiguous
        data = await self.call("message_seen", {"conversation_id": conversation_id, "seq": seq})
        self.watermarks.append((conversation_id, self.user_id, data["last_read_seq"]))
        view = self.view.conversations[conversation_id]
        view.apply_count(data)
        view.apply_read(self.user_id, data["last_read_seq"])

    async def counts(self) -> Counts:
        """List all conversations once more, without a change to the view."""
        conversations, total = await self._conversations()
        return Counts(self.user_id, {each["id"]: each["unread_count"] for each in conversations}, total)

    async def online(self, user_ids: Sequence[str]) -> dict[str, bool]:
        """Which of these users `get_presence` says are online; at most 100 users."""
        presence = (await self.call("get_presence", {"user_ids": list(user_ids)}))["presence"]
        return {each["user_id"]: each["online"] for each in presence}

    # --- Pushes and snapshots -----------------------------------------------------------------------------

    def _take(self, name: str, payload: Json) -> None:
        conversations = self.view.conversations
        match name:
            case "session_ready":
                self._begin_snapshot()
            case "new_message":
                self._show(payload["message"])
                self.on_message(payload["message"]["conversation_id"], payload["message"])
            case "conversation_updated":
                conversation = payload["conversation"]
                conversations[conversation["id"]].apply_conversation(conversation, self.user_id)
                self.view.apply_participants(conversation)
            case "unread_updated":
                conversations[payload["conversation_id"]].apply_count(payload)
                conversations[payload["conversation_id"]].apply_read(self.user_id, payload["last_read_seq"])
            case "message_seen":
                conversations[payload["conversation_id"]].apply_read(payload["user_id"], payload["last_read_seq"])
            case "presence_updated":
                self.view.online[payload["user_id"]] = payload["online"]
                if not payload["online"]:
                    self.offline_pushes.append(payload["user_id"])

    def _show(self, message: Json) -> None:
        view = self.view.conversations[message["conversation_id"]]
        view.apply_message(message)
        if view.last_seq > len(view.messages) and message["conversation_id"] not in self._filling:
            self._filling.add(message["conversation_id"])
            self.run_in_background(self._fill(message["conversation_id"]))

    async def _fill(self, conversation_id: str) -> None:
        """Load the messages of a gap after a pause: pushes overtake each other, and the missing one may be next."""
        view = self.view.conversations[conversation_id]
        await asyncio.sleep(0.25)
        try:
            while view.last_seq > len(view.messages):
                await self._load(conversation_id)
        finally:
            self._filling.discard(conversation_id)

    async def _load(self, conversation_id: str) -> None:
        view = self.view.conversations[conversation_id]
        more = True
        while more:
            payload = {"conversation_id": conversation_id, "after_seq": view.contiguous, "limit": 100}
            page = await self.call("list_messages", payload)
            for message in page["messages"]:
                view.apply_message(message)
            more = page["has_more"]

    def _begin_snapshot(self) -> None:
        if self._snapshot is not None:
            self._snapshot.cancel()
        self._snapshot = asyncio.create_task(_unless_refused(self._take_snapshot()))

    async def _take_snapshot(self) -> None:
        conversations, _ = await self._conversations()
        for conversation in conversations:
            self.view.conversations[conversation["id"]].apply_conversation(conversation, self.user_id)
            self.view.apply_participants(conversation)
        for conversation in conversations:
            await self._load(conversation["id"])
        self.snapshots += 1
        self.ready.set()

    async def _conversations(self) -> tuple[list[Json], int]:
        found: list[Json] = []
        payload: dict[str, Json] = {"limit": 100}
        while True:
            data = await self.call("list_conversations", payload)
            found += data["conversations"]
            if data["next_cursor"] is None:
                return found, data["total_unread"]
            payload["cursor"] = data["next_cursor"]


async def _unless_refused(work: Coroutine[Any, Any, None]) -> None:
    with suppress(RefusedForGood):
        await work


async def _pause(pause: float, ack: Json) -> float:
    """Wait before a retry, at least as long as the server asked for; returns the next pause."""
    least = min(ack["error"].get("retry_after_ms", 0) / 1000, 1.0)
    await asyncio.sleep(max(least, random.uniform(pause / 2, pause)))
    return min(2 * pause, LONGEST_PAUSE)
