"""`python -m workers KIND`: one worker process. Starts, runs until SIGTERM, stops in order."""

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
from contracts.topology import HISTORY, PERSISTENCE, PRESENCE, TYPING, UNREAD, Queue
from infra import gc, logs, tracing
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
from workers.routing import Router
from workers.runner import Handler, Runner
from workers.sending import Sender
from workers.unread import Unread

log = logging.getLogger(__name__)

#: Seconds that the store has to answer when /readyz is asked, and that its answer counts for those who ask next.
STORE_PATIENCE, STORE_ASKED_EVERY = 2.0, 1.0

#: What each worker consumes, and with which handler. Presence also looks after leases (see `run`).
WORKERS: dict[str, list[tuple[Queue, Callable[[Store], Handler]]]] = {
    "persistence": [(PERSISTENCE, Persistence)],
    "unread": [(UNREAD, Unread)],
    "presence": [(PRESENCE, Presence), (TYPING, TypingNotices)],
    "history": [(HISTORY, History)],
}


async def run(kind: str, settings: WorkerSettings) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    name = f"{kind} {socket.gethostname()}:{os.getpid()}"
    log.info("Worker %s starts.", name)
    tracing.start(settings, kind, name)
    store = Store(settings, tracing.current.store_listeners())
    publisher = Publisher(settings, name)
    runners: list[Runner] = []
    # A worker that has nothing to do would not notice by itself.
    store_reason = cached(_store_reason(store), STORE_ASKED_EVERY)

    async def readiness() -> str | None:
        if stopping.is_set():
            return "stopping"
        if not runners:
            return "the store has not answered yet"
        links = (publisher.link, *(runner.link for runner in runners))
        reasons = [*(link.not_ready_reason for link in links), *(runner.not_ready_reason for runner in runners)]
        return next((reason for reason in reasons if reason is not None), None) or await store_reason()

    health = asyncio.create_task(HealthServer(settings.worker_host, settings.worker_port, readiness).run())
    tasks = [health, asyncio.create_task(monitor_event_loop())]
    try:
        if not await _unless(stopping, _store_ready(store)):
            return
        for queue, make in WORKERS[kind]:
            # A source per runner: each numbers its own frames, so that an edge can tell when one is missing.
            router = Router(SessionDirectory(store), source=f"{name} {queue.name} {os.urandom(4).hex()}")
            handler = make(store)
            sender = Sender(publisher, router)
            runner = Runner(
                queue, _in_one_term(store, handler), sender=sender, settings=settings, check_store=store.check_writes
            )
            runners.append(runner)
            if isinstance(handler, Presence):
                tasks.append(
                    asyncio.create_task(
                        sweep(
                            handler,
                            sender.send_frames,
                            one_term=store.one_term,
                            lease_seconds=settings.lease_seconds,
                            consuming=runner.link.up.is_set,
                        )
                    )
                )
        links = [asyncio.create_task(link.run()) for link in (publisher.link, *(r.link for r in runners))]
        loops = [asyncio.create_task(runner.run()) for runner in runners]
        gc.tune()
        await asyncio.wait([asyncio.create_task(stopping.wait()), *loops], return_when=asyncio.FIRST_COMPLETED)
        log.info("Stopping.")
        # 1. Take no more. 2. Finish, publish and ack the batch in hand. 3. Close, whatever is left over.
        for runner in runners:
            await runner.stop()
        _, late = await asyncio.wait(loops, timeout=settings.stop_timeout)
        if late:
            log.warning("%d batches were not finished in time; they will be delivered again.", len(late))
        tasks += [*loops, *links]
        for loop in loops:
            if loop.done() and not loop.cancelled() and (error := loop.exception()) is not None:
                raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=5)
        await store.close()


def _in_one_term(store: Store, handler: Handler) -> Handler:
    """A handler whose reads show everything that was acknowledged before: see `Store.one_term`."""

    async def handle(items: Sequence[Item]) -> Effects:
        async with store.one_term():
            return await handler(items)

    return handle


def _store_reason(store: Store) -> Readiness:
    """Ask the store for a sign of life, and say what is wrong when there is none in time."""

    async def reason() -> str | None:
        try:
            async with asyncio.timeout(STORE_PATIENCE):
                await store.ping()
        except StoreUnavailable as error:
            return f"the store is away: {error}"
        except TimeoutError:
            return f"the store is away: no answer within {STORE_PATIENCE:g} s"
        return None

    return reason


async def _store_ready(store: Store) -> None:
    """Wait until the store answers."""
    attempt = 0
    while True:
        try:
            await store.prepare()
            return
        except StoreUnavailable as error:
            attempt += 1
            log.warning("Waiting for MongoDB: %s", error)
            await asyncio.sleep(backoff(attempt))


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, or give it up when the process is told to stop; returns whether it was done."""
    doing, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait([doing, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not doing.done():
        doing.cancel()
        with suppress(asyncio.CancelledError):
            await doing
        return False
    await doing
    return True


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
