"""Runs handlers side by side on real MongoDB, in every order of their store calls.

Each actor is one worker that handles one batch. It stops in front of every store call; the schedule says whose call
goes next. With two actors of m and n calls there are (m+n)! / (m! n!) orders: they are tried one after the other, up
to a bound, and beyond it a seeded sample. An actor may also die in front of any call; what it handled is then handled
once more by another worker, as the broker delivers it again.

The idea is that of systematic concurrency testing (CHESS, Musuvathi et al., OSDI 2008), with store calls as the only
points where actors can take turns: nothing else is shared between workers.
"""

import asyncio
import copy
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from infra.store.client import Store

#: Seconds that an actor has from one store call to the next.
STEP_LIMIT = 10.0

#: One worker's batch: gets the store that it must use.
Work = Callable[[Store], Awaitable[object]]


class Died(BaseException):
    """Raised in an actor in place of a store call: its process is gone. No `except Exception` catches it."""


@dataclass
class Call:
    """A store call that waits for its turn."""

    actor: str
    what: str
    turn: "asyncio.Future[bool]"


@dataclass
class Actor:
    """A running worker, its waiting calls, and whether it ended."""

    name: str
    work: Work
    task: "asyncio.Task[object]" = field(init=False)
    waiting: list[Call] = field(default_factory=list)

    def start(self, store: Store) -> None:
        """Begin; the actor stops at its first store call."""
        self.task = asyncio.create_task(self._run(gated(store, self)))

    async def _run(self, store: Store) -> None:
        with suppress(Died):
            await self.work(store)

    async def stop_at(self, what: str) -> None:
        """Wait for the turn of one store call. Raises Died."""
        call = Call(self.name, what, asyncio.get_running_loop().create_future())
        self.waiting.append(call)
        try:
            lives = await call.turn
        finally:
            self.waiting.remove(call)
        if not lives:
            raise Died


@dataclass
class Run:
    """One order of calls: what was chosen, of how many, and what happened."""

    choices: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


@dataclass
class Explored:
    """How many orders were tried, and whether those are all there are."""

    runs: int
    exhausted: bool


async def explore(
    store: Store,
    actors: dict[str, Work],
    *,
    before: Work,
    after: Callable[[Store], Awaitable[None]],
    deaths: int = 0,
    at_most: int = 300,
    seed: int = 1,
) -> Explored:
    """Try orders of the actors' store calls; `before` prepares an empty store, `after` checks what is there.

    What `after` raises is raised again with the order that led to it. `deaths` actors may die in each run.
    """
    generator = random.Random(seed)
    prefix: list[int] | None = []
    runs = 0
    while prefix is not None and runs < at_most:
        run = await _run_once(store, actors, before, after, deaths, partial(_planned, prefix))
        runs += 1
        prefix = _next_prefix(run)
    exhausted = prefix is None
    for _ in range(0 if exhausted else at_most):
        await _run_once(store, actors, before, after, deaths, lambda index, width: generator.randrange(width))
        runs += 1
    return Explored(runs, exhausted)


def _planned(prefix: Sequence[int], index: int, width: int) -> int:
    # Two calls that an actor makes at once may arrive one after the other on a busy machine: then there are fewer
    # options than in the run before. The run goes on with the last of them, and notes that choice.
    return min(prefix[index], width - 1) if index < len(prefix) else 0


def _next_prefix(run: Run) -> list[int] | None:
    """The next order in depth-first search: the last choice that has a sibling takes it."""
    for index in reversed(range(len(run.choices))):
        if run.choices[index] + 1 < run.widths[index]:
            return [*run.choices[:index], run.choices[index] + 1]
    return None


async def _run_once(
    store: Store,
    actors: dict[str, Work],
    before: Work,
    after: Callable[[Store], Awaitable[None]],
    deaths: int,
    choose: Callable[[int, int], int],
) -> Run:
    await _empty(store)
    await before(store)
    run, living = Run(), [Actor(name, work) for name, work in actors.items()]
    for actor in living:
        actor.start(store)
    deaths_left = deaths
    try:
        while calls := await _stopped(living):
            options = [(call, True) for call in calls] + [(call, False) for call in calls if deaths_left]
            chosen = choose(len(run.choices), len(options))
            run.choices.append(chosen)
            run.widths.append(len(options))
            call, lives = options[chosen]
            run.story.append(f"{call.actor}: {call.what}" if lives else f"{call.actor} dies before: {call.what}")
            if lives:
                call.turn.set_result(True)
                await _until_moved(call, living)
            else:
                deaths_left -= 1
                again = _bury(call, living)
                living.append(again)
                again.start(store)
        for actor in living:
            if not actor.task.cancelled() and (error := actor.task.exception()) is not None:
                raise error
        await after(store)
    except BaseException as error:
        error.add_note("In this order:\n  " + "\n  ".join(run.story))
        raise
    finally:
        for actor in living:
            actor.task.cancel()
        await asyncio.wait([actor.task for actor in living])
    return run


def _bury(call: Call, living: list[Actor]) -> Actor:
    """Let an actor die, and have its batch delivered to another one."""
    dead = next(actor for actor in living if actor.name == call.actor)
    for waiting in [*dead.waiting]:
        waiting.turn.set_result(False)
    return Actor(f"{dead.name} again", dead.work)


async def _stopped(actors: Sequence[Actor]) -> list[Call]:
    """Wait until every actor has ended or stands in front of a store call; returns the calls."""
    deadline = time.monotonic() + STEP_LIMIT
    settled = 0
    while settled < 3:  # a call that an actor makes beside another one arrives in the same turn of the loop
        ready = all(actor.task.done() or any(not call.turn.done() for call in actor.waiting) for actor in actors)
        settled = settled + 1 if ready else 0
        if time.monotonic() > deadline:
            late = [actor.name for actor in actors if not actor.task.done() and not actor.waiting]
            raise AssertionError(f"{', '.join(late)} made no store call and did not end within {STEP_LIMIT:.0f} s.")
        await asyncio.sleep(0 if ready else 0.0005)
    return [call for actor in actors for call in actor.waiting if not call.turn.done()]


async def _until_moved(call: Call, actors: Sequence[Actor]) -> None:
    """Wait until the actor whose call was released has carried it out: it stops again, or ends."""
    actor = next(actor for actor in actors if actor.name == call.actor)
    deadline = time.monotonic() + STEP_LIMIT
    while call in actor.waiting and time.monotonic() < deadline:  # noqa: ASYNC110 - the driver ends it
        await asyncio.sleep(0)


async def _empty(store: Store) -> None:
    for name in COLLECTIONS:
        await getattr(store, name).delete_many({})


# --- The store that an actor uses -------------------------------------------------------------------------

COLLECTIONS = ("messages", "conversations", "inboxes", "users", "sessions", "edges")


def gated(store: Store, actor: Actor) -> Store:
    """The same store, whose every call waits for the actor's turn."""
    own = copy.copy(store)
    for name in COLLECTIONS:
        setattr(own, name, GatedCollection(getattr(store, name), actor))
    return own


class GatedCollection:
    """A collection whose calls stop first. Has what `infra.store` uses of one."""

    def __init__(self, collection: Any, actor: Actor) -> None:
        self._collection = collection
        self._actor = actor
        self.name: str = collection.name
        self.database = GatedDatabase(collection.database, actor)

    def find(self, *arguments: Any, **options: Any) -> "GatedCursor":
        """A query; it runs, and stops first, when it is read."""
        return GatedCursor(self._collection.find(*arguments, **options), self._actor, f"find {self.name}")

    async def aggregate(self, *arguments: Any, **options: Any) -> Any:
        """A pipeline."""
        await self._actor.stop_at(f"aggregate {self.name}")
        return await self._collection.aggregate(*arguments, **options)

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **options: Any) -> Any:
            await self._actor.stop_at(f"{operation} {self.name}")
            return await getattr(self._collection, operation)(*arguments, **options)

        return call


class GatedDatabase:
    """A database whose commands stop first."""

    def __init__(self, database: Any, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    async def command(self, command: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """A command, such as those that `insert_all` and `update_all` send."""
        name = next(iter(command))
        await self._actor.stop_at(f"{name} {command[name]}")
        return await self._database.command(command, *arguments, **options)


class GatedCursor:
    """A cursor that stops before it is read."""

    def __init__(self, cursor: Any, actor: Actor, what: str) -> None:
        self._cursor = cursor
        self._actor = actor
        self._what = what

    def __getattr__(self, refinement: str) -> Callable[..., "GatedCursor"]:
        def refine(*arguments: Any, **options: Any) -> "GatedCursor":
            return GatedCursor(getattr(self._cursor, refinement)(*arguments, **options), self._actor, self._what)

        return refine

    async def to_list(self, length: int | None) -> Any:
        """Read it."""
        await self._actor.stop_at(self._what)
        return await self._cursor.to_list(length)
