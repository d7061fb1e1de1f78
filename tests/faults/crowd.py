"""The people of a run: pairs and groups that talk without pause, through whatever happens."""

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp

from infra.bench.history import Counts, SentMessage
from infra.local.stack import Stack
from tests.faults.chatter import Chatter, RefusedForGood
from tests.faults.probe import Prober
from tests.faults.recovery import Probe

#: People of a run, and how many form a group beside the pairs.
PEOPLE, GROUP = 20, 5
#: Messages that one person sends a second, and that may wait for their ack.
RATE, IN_FLIGHT = 4.0, 8
#: One message of so many is sent again after its ack, and one push of so many is answered with `message_seen`.
REPEAT_EVERY, SEE_EVERY = 40, 8
#: Seconds until everyone is connected and has a snapshot, and until everything sent must be acked.
GATHER_LIMIT, ACK_LIMIT = 60.0, 60.0


class Crowd:
    """Everyone of a run, and everything that they sent and saw."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession, rng: random.Random, people: int = PEOPLE) -> None:
        self.sent: list[SentMessage] = []
        self.conversations: list[str] = []
        self._stack = stack
        self._http = http
        self._rng = rng
        self._name = secrets.token_hex(3)
        self.people = [self._person(f"person{number}", number) for number in range(people)]
        self._rooms: dict[str, list[str]] = {person.user_id: [] for person in self.people}
        self._anchor = self._person("anchor", 0)
        self._prober = Prober(self._name, self._anchor.user_id, self._edges, stack.token)
        self._tasks: list[asyncio.Task[None]] = []
        self._on_their_way: set[asyncio.Task[None]] = set()

    def _edges(self) -> list[str]:
        return self._stack.edge_urls

    def _person(self, label: str, edge: int) -> Chatter:
        user_id = f"{label}-{self._name}"
        return Chatter(user_id, self._edges, self._stack.token(user_id), self._http, edge)

    @property
    def probes(self) -> list[Probe]:
        """What newcomers met, oldest first."""
        return self._prober.probes

    # --- Before and after ---------------------------------------------------------------------------------

    async def gather(self) -> None:
        """Connect everyone, start the pairs and the groups, and say a first word in each."""
        everyone = [*self.people, self._anchor]
        for person in everyone:
            person.start()
        async with asyncio.timeout(GATHER_LIMIT):
            await asyncio.gather(*(person.ready.wait() for person in everyone))
            await asyncio.gather(*(self._form(circle) for circle in _circles(self.people)))
        self._anchor.on_message = lambda _, message: self._prober.heard.add(message["client_message_id"])
        for number, person in enumerate(self.people):
            if number % 2:
                person.on_message = self._reader(person)

    async def _form(self, circle: list[Chatter]) -> None:
        first, *others = circle
        asked = {"participant_ids": [other.user_id for other in others]}
        conversation_id = (await first.call("start_conversation", asked))["conversation"]["id"]
        self.conversations.append(conversation_id)
        await self._send(first, conversation_id)
        for person in circle:
            self._rooms[person.user_id].append(conversation_id)

    async def settle(self) -> int:
        """Send no more, and wait until everything sent is acked; returns how much is not."""
        for task in self._tasks:
            task.cancel()
        if self._on_their_way:
            await asyncio.wait(self._on_their_way, timeout=ACK_LIMIT)
        return len(self._on_their_way)

    async def counts(self) -> list[Counts]:
        """What the server tells everyone who asks."""
        return list(await asyncio.gather(*(person.counts() for person in self.people)))

    async def leave(self) -> None:
        """Close every connection."""
        for task in (*self._tasks, *self._on_their_way):
            task.cancel()
        await asyncio.gather(*(person.stop() for person in (*self.people, self._anchor)))

    # --- Meanwhile ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Everyone talks, and newcomers come and go."""
        self._tasks = [asyncio.create_task(self._talk(person)) for person in self.people]
        self._tasks.append(asyncio.create_task(self._prober.run()))

    async def _talk(self, person: Chatter) -> None:
        """Send at a steady pace into one's conversations, without waiting for acks as long as few are due."""
        mine: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) / RATE)
            if len(mine) < IN_FLIGHT:
                task = asyncio.create_task(self._send(person, self._rng.choice(self._rooms[person.user_id])))
                for tasks in (mine, self._on_their_way):
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

    async def _send(self, person: Chatter, conversation_id: str) -> None:
        number = len(self.sent) + 1
        message = SentMessage(conversation_id, person.user_id, f"m{number}", due_at=time.monotonic())
        self.sent.append(message)
        await person.send(message, f"message {number}")
        if number % REPEAT_EVERY == 0 and message.acks:
            with suppress(RefusedForGood):
                await person.repeat(message, f"message {number}")

    def _reader(self, person: Chatter) -> Callable[[str, Any], None]:
        """Someone who reads: now and then, what is shown has been on screen."""
        reading: set[str] = set()

        async def see(conversation_id: str) -> None:
            try:
                await person.see(conversation_id)
            finally:
                reading.discard(conversation_id)

        def on_message(conversation_id: str, _: object) -> None:
            if conversation_id not in reading and self._rng.random() < 1 / SEE_EVERY:
                reading.add(conversation_id)
                person.spawn(see(conversation_id))

        return on_message


def _circles(people: list[Chatter]) -> list[list[Chatter]]:
    """Pairs of neighbours, who begin on different edges, and groups from all over."""
    pairs = [people[start : start + 2] for start in range(0, len(people) - 1, 2)]
    step = max(1, len(people) // GROUP)
    groups = [people[start::step] for start in range(step)]
    return pairs + [group for group in groups if len(group) > 2]
