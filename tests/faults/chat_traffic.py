"""The traffic of a run: clients in pairs and groups that send at a steady rate, and users who come and go."""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from typing import Any

import aiohttp

from infra.bench.histories import Counts, SentMessage
from infra.local.stack import Stack
from tests.faults.chat_client import ChatClient, RefusedForGood
from tests.faults.probe import Prober
from tests.faults.recovery import Probe
from tests.faults.visits import Visits

#: Clients of a run, and how many of them form a group.
CLIENTS, GROUP = 20, 5
#: Messages that one client sends a second, and how many of them may wait for their acks.
RATE, IN_FLIGHT = 4.0, 8
#: One message of so many is sent again after its ack, and one push of so many is answered with `message_seen`.
REPEAT_EVERY, SEEN_EVERY = 40, 8
#: Seconds until every client has a snapshot, and until every message must be acked.
CONNECT_LIMIT, DRAIN_LIMIT = 60.0, 60.0
#: Seconds that an edge waits by default before it reports that a user is gone.
GRACE = 5.0


class ChatTraffic:
    """The clients of a run, and all that they sent."""

    def __init__(
        self,
        stack: Stack,
        http: aiohttp.ClientSession,
        rng: random.Random,
        clients: int = CLIENTS,
        *,
        grace: float = GRACE,
    ) -> None:
        """`grace` is the edges' `WARREN_SESSION_GRACE`."""
        self.sent: list[SentMessage] = []
        self.conversations: list[str] = []
        self._stack = stack
        self._http = http
        self._rng = rng
        self._name = secrets.token_hex(3)
        self.clients = [self._client(f"user{number}", number) for number in range(clients)]
        self._conversations_of: dict[str, list[str]] = {client.user_id: [] for client in self.clients}
        #: The client that probes send messages to.
        self._probed = self._client("probed", 0)
        self._prober = Prober(self._name, self._probed.user_id, self._edges, stack.token)
        self.visits = Visits(self._name, self._edges, stack.token, rng, grace=grace)
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight: set[asyncio.Task[None]] = set()

    def _edges(self) -> list[str]:
        return self._stack.edge_urls

    def _client(self, label: str, edge: int) -> ChatClient:
        user_id = f"{label}-{self._name}"
        return ChatClient(user_id, self._edges, self._stack.token(user_id), self._http, edge)

    @property
    def probes(self) -> list[Probe]:
        """The visits of new users, oldest first."""
        return self._prober.probes

    @property
    def connected(self) -> set[str]:
        """Every user who is connected now. A user of a probe is not: each visit is short."""
        clients = {client.user_id for client in (*self.clients, self._probed) if client.is_connected}
        return clients | self.visits.connected

    # --- Before and after ---------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect all clients, start their conversations, and send a first message in each."""
        everyone = [*self.clients, self._probed]
        for client in everyone:
            client.start()
        async with asyncio.timeout(CONNECT_LIMIT):
            await asyncio.gather(*(client.ready.wait() for client in everyone), self.visits.arrive())
            await asyncio.gather(*(self._start_busy(members) for members in _pairs_and_groups(self.clients)))
            await asyncio.gather(
                *(
                    self.start_conversation(client, [user_id])
                    for client, user_id in zip(cycle(self.clients), self.visits.user_ids, strict=False)
                )
            )
        self._probed.on_message = lambda _, message: self._prober.received.add(message["client_message_id"])
        for client in self.clients[1::2]:
            client.on_message = self._seen_sender(client)

    async def _start_busy(self, members: list[ChatClient]) -> None:
        """Start a conversation that all its members send in."""
        first, *others = members
        conversation_id = await self.start_conversation(first, [other.user_id for other in others])
        for client in members:
            self._conversations_of[client.user_id].append(conversation_id)

    async def start_conversation(self, client: ChatClient, others: list[str], title: str | None = None) -> str:
        """Start a conversation and send its first message; returns its id. The checker judges it like all others."""
        payload: dict[str, Any] = {"participant_ids": others}
        if title is not None:
            payload["title"] = title
        conversation_id: str = (await client.call("start_conversation", payload))["conversation"]["id"]
        self.conversations.append(conversation_id)
        await self.send(client, conversation_id)
        return conversation_id

    async def drain(self) -> None:
        """Send no more, and wait until every message is acked and the visits have ended, within limits."""
        for task in self._tasks:
            task.cancel()
        finishing = asyncio.create_task(self.visits.finish())
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=DRAIN_LIMIT)
        await finishing

    async def counts(self) -> list[Counts]:
        """What the server counts for every client."""
        return list(await asyncio.gather(*(client.counts() for client in self.clients)))

    async def disconnect(self) -> None:
        """Close every connection."""
        for task in (*self._tasks, *self._in_flight):
            task.cancel()
        await asyncio.gather(self.visits.stop(), *(client.stop() for client in (*self.clients, self._probed)))

    # --- During the run -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Let all clients send, probe with new users, and let the visitors come and go."""
        self._start_sending()
        self.visits.start()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """A block in which only the fault sends, so that a worker has that in a batch of its own."""
        for task in self._tasks:
            task.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=DRAIN_LIMIT)
        yield
        self._start_sending()

    def _start_sending(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_sending(client)) for client in self.clients]
        self._tasks.append(asyncio.create_task(self._prober.run()))

    async def _keep_sending(self, client: ChatClient) -> None:
        """Send at a steady rate into the client's conversations; wait for acks only when too many are due."""
        mine: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) / RATE)
            if len(mine) < IN_FLIGHT:
                task = asyncio.create_task(self.send(client, self._rng.choice(self._conversations_of[client.user_id])))
                for tasks in (mine, self._in_flight):
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

    async def send(self, client: ChatClient, conversation_id: str, body: str = "") -> None:
        """Send one message until it is acked."""
        number = len(self.sent) + 1
        message = SentMessage(conversation_id, client.user_id, f"m{number}", due_at=time.monotonic())
        self.sent.append(message)
        body = body or f"message {number}"
        await client.send(message, body)
        if number % REPEAT_EVERY == 0 and message.acks:
            with suppress(RefusedForGood):
                await client.repeat(message, body)

    def _seen_sender(self, client: ChatClient) -> Callable[[str, Any], None]:
        """Takes a client's messages, and answers some of them with `message_seen`."""
        sending: set[str] = set()

        async def send_seen(conversation_id: str) -> None:
            try:
                await client.mark_seen(conversation_id)
            finally:
                sending.discard(conversation_id)

        def on_message(conversation_id: str, _: object) -> None:
            if conversation_id not in sending and self._rng.random() < 1 / SEEN_EVERY:
                sending.add(conversation_id)
                client.run_in_background(send_seen(conversation_id))

        return on_message


def _pairs_and_groups(clients: list[ChatClient]) -> list[list[ChatClient]]:
    """Pairs of neighbours, who begin on different edges, and groups over all edges."""
    pairs = [clients[start : start + 2] for start in range(0, len(clients) - 1, 2)]
    step = max(1, len(clients) // GROUP)
    groups = [clients[start::step] for start in range(step)]
    return pairs + [group for group in groups if len(group) > 2]
