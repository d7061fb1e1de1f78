"""`python -m workers KIND`: runs one worker. It starts, consumes until SIGTERM or SIGINT, and stops in order."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import typer
import uvloop

from contracts.codec import Item
from contracts.errors import StoreUnavailable
from contracts.topology import HISTORY, PERSISTENCE, PRESENCE, SEARCH, TYPING, UNREAD, Queue
from infra import gc_tuning, logs, tracing
from infra.backoff import backoff
from infra.broker.publisher import Publisher
from infra.health import HealthServer, Readiness, cached, monitor_event_loop
from infra.settings import SettingsError, WorkerSettings, load
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from workers.effects import Effects
from workers.history import History
from workers.persistence import Persistence
from workers.presence import Presence, TypingNotices, sweep
from workers.publishing import EffectsPublisher
from workers.routing import Router
from workers.runner import Handler, Runner, undivided
from workers.search import Search
from workers.turns import parts_of_reads
from workers.unread import Unread

log = logging.getLogger(__name__)

#: Seconds that the store has to answer a check of /readyz, and seconds for which the answer is cached.
STORE_CHECK_LIMIT, STORE_CHECK_INTERVAL = 2.0, 1.0
#: Seconds to wait at the end for all tasks.
STOP_LIMIT = 5.0

#: The queues that each worker consumes, with their handlers.
WORKERS: dict[str, list[tuple[Queue, Callable[[Store], Handler]]]] = {
    "persistence": [(PERSISTENCE, Persistence)],
    "unread": [(UNREAD, Unread)],
    "presence": [(PRESENCE, Presence), (TYPING, TypingNotices)],
    "history": [(HISTORY, History), (SEARCH, Search)],
}


class Worker:
    """The composition root of a worker: builds its parts, starts them, and stops them in order. Call `run` once."""

    def __init__(self, kind: str, name: str, settings: WorkerSettings, stopping: asyncio.Event) -> None:
        self._kind = kind
        self._name = name
        self._settings = settings
        self._stopping = stopping
        self._store = Store(settings, tracing.current.store_listeners())
        self._publisher = Publisher(settings, name)
        self._runners: list[Runner] = []
        # An idle worker uses the store only when /readyz checks it.
        self._check_store = cached(_store_check(self._store), STORE_CHECK_INTERVAL)

    async def run(self) -> None:
        """Run until `stopping` is set, then finish the current batches. Raises what a runner raises."""
        settings = self._settings
        health = HealthServer(settings.worker_host, settings.worker_port, self.readiness)
        tasks = [asyncio.create_task(health.run()), asyncio.create_task(monitor_event_loop())]
        try:
            if not await _run_unless(self._stopping, _prepare(self._store)):
                return
            for queue, make_handler in WORKERS[self._kind]:
                tasks += self._add_runner(queue, make_handler(self._store))
            links = [self._publisher.link, *(runner.link for runner in self._runners)]
            tasks += [asyncio.create_task(link.run()) for link in links]
            loops = [asyncio.create_task(runner.run()) for runner in self._runners]
            tasks += loops
            gc_tuning.tune()
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stopping, *loops], return_when=asyncio.FIRST_COMPLETED)
            await self._finish(loops)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_LIMIT)
            await self._store.close()

    def _add_runner(self, queue: Queue, handler: Handler) -> list[asyncio.Task[None]]:
        """Create the runner of a queue. Returns the tasks that its handler needs."""
        # Each runner is a source of its own: edges detect missing frames by the numbers of a source.
        source = f"{self._name} {queue.name} {os.urandom(4).hex()}"
        effects_publisher = EffectsPublisher(self._publisher, Router(SessionDirectory(self._store), source))
        runner = Runner(
            queue,
            handler if isinstance(handler, History | Search) else _in_one_term(self._store, handler),
            publisher=effects_publisher,
            settings=self._settings,
            check_store=self._store.check_writes,
            divide=parts_of_reads if isinstance(handler, History) else undivided,
        )
        self._runners.append(runner)
        tasks = [asyncio.create_task(effects_publisher.run())]
        if not isinstance(handler, Presence):
            return tasks
        work = sweep(
            handler,
            effects_publisher.publish_frames,
            one_term=self._store.one_term,
            lease_seconds=self._settings.lease_seconds,
            consuming=runner.link.up.is_set,
            behind=lambda: runner.is_behind,
        )
        return [*tasks, asyncio.create_task(work)]

    async def _finish(self, loops: list[asyncio.Task[None]]) -> None:
        """Cancel the consumers, then wait until the current batches are handled, published and acked."""
        log.info("Stopping.")
        for runner in self._runners:
            await runner.stop()
        _, late = await asyncio.wait(loops, timeout=self._settings.stop_timeout)
        if late:
            log.warning("%d batches were not finished in time; they will be redelivered.", len(late))
        for loop in loops:
            if loop.done() and not loop.cancelled() and (error := loop.exception()) is not None:
                raise error

    async def readiness(self) -> str | None:
        """Why this worker cannot work now, for /readyz; None when it can."""
        if self._stopping.is_set():
            return "stopping"
        if not self._runners:
            return "the store has not answered yet"
        links = (self._publisher.link, *(runner.link for runner in self._runners))
        reasons = [
            *(link.not_ready_reason for link in links),
            *(runner.not_ready_reason for runner in self._runners),
        ]
        return next((reason for reason in reasons if reason is not None), None) or await self._check_store()


def _in_one_term(store: Store, handler: Handler) -> Handler:
    """Run each batch of a handler in `Store.one_term`, so that its reads include all acknowledged writes.

    Handlers that only read do so themselves, because they answer when the store is away.
    """

    async def handle(items: Sequence[Item]) -> Effects:
        async with store.one_term():
            return await handler(items)

    return handle


def _store_check(store: Store) -> Readiness:
    """A function that returns why the store is away, or None."""

    async def check() -> str | None:
        try:
            async with asyncio.timeout(STORE_CHECK_LIMIT):
                await store.ping()
        except StoreUnavailable as error:
            return f"the store is away: {error}"
        except TimeoutError:
            return f"the store is away: no answer within {STORE_CHECK_LIMIT:g} s"
        return None

    return check


async def _prepare(store: Store) -> None:
    """Wait until the store answers and has its indexes."""
    attempt = 0
    while True:
        try:
            await store.prepare()
            return
        except StoreUnavailable as error:
            attempt += 1
            log.warning("The store is away; the worker waits for it: %s", error)
            await asyncio.sleep(backoff(attempt))


async def _run_unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work`, or cancel it when `stopping` is set. Returns whether it was finished."""
    working, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait([working, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not working.done():
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        return False
    await working
    return True


async def run(kind: str, settings: WorkerSettings) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    name = f"{kind} {socket.gethostname()}:{os.getpid()}"
    log.info("Worker %s starts.", name)
    tracing.start(settings, kind, name)
    await Worker(kind, name, settings, stopping).run()


def main(kind: str = typer.Argument(help=" | ".join(WORKERS))) -> None:
    """Run one worker."""
    if kind not in WORKERS:
        sys.exit(f"There is no worker called {kind}: choose one of {', '.join(WORKERS)}.")
    try:
        settings = load(WorkerSettings)
    except SettingsError as error:
        sys.exit(str(error))
    logs.configure(f"worker {kind}", settings.log_level)
    try:
        uvloop.run(run(kind, settings))
    except SettingsError as error:
        sys.exit(str(error))
    finally:
        tracing.current.stop()


if __name__ == "__main__":
    typer.run(main)
