"""Runs all of Warren in a terminal until Ctrl-C: shows its logs, restarts what ends, and stops it in order."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from infra.local.errors import LocalServiceError
from infra.local.log_console import LogConsole
from infra.local.supervisor import Process, Stage, Supervisor

#: Seconds until every process has to be ready.
READY_LIMIT = 30.0

#: Seconds that edges, and then workers, get to stop before they are killed.
STOP_LIMIT = 5.0

#: Seconds within which a stopping edge moves its sockets away: on one machine a slow spread serves nobody.
DRAIN_SECONDS = 2

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def until_interrupted(name: str) -> Iterator[None]:
    """Make Ctrl-C, SIGTERM and SIGHUP end the block, and say how it ended: by one of them, or by an error."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except LocalServiceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"{name} is stopped.")


def run(edges: Sequence[Process], workers: Sequence[Process], banner: str) -> None:
    """Run these processes until one of STOP_SIGNALS, and stop them in order; the banner is shown once all are ready.

    Raises KeyboardInterrupt once all are stopped, or ProcessError when one is not ready in time.
    """
    for process in (*workers, *edges):
        process.log.unlink(missing_ok=True)
    asyncio.run(_run(edges, workers, banner))
    raise KeyboardInterrupt


async def _run(edges: Sequence[Process], workers: Sequence[Process], banner: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopping.set))
    console = LogConsole([*workers, *edges])
    supervisor = Supervisor(say=console.warn)
    for stage, processes in ((Stage.WORKERS, workers), (Stage.EDGES, edges)):
        for process in processes:
            supervisor.add(process, stage)
    following = asyncio.create_task(console.follow())
    try:
        console.say(f"Starting {len(workers)} workers and {len(edges)} edges.")
        ready = await _unless(stopping, supervisor.start(READY_LIMIT))
        if ready and await _unless(stopping, console.until_quiet()):
            console.say(banner)
            await _unless(stopping, supervisor.keep_running())
    finally:
        # A second Ctrl-C changes nothing: what follows takes a few seconds and has limits of its own.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        console.say("Stopping: edges, then workers, then the services started here.")
        await supervisor.stop(STOP_LIMIT)
        following.cancel()
        await asyncio.wait([following])


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless `stopping` is set before its end; return whether it was done. Its error is raised."""
    stop, doing = asyncio.create_task(stopping.wait()), asyncio.create_task(work)
    await asyncio.wait([stop, doing], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if doing.done():
        await doing
        return True
    doing.cancel()
    await asyncio.wait([doing])
    return False


def write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """Write settings as a shell reads them with `.`, for its owner only."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    write_private(file, "".join(lines))


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    file.touch(mode=0o600)
    file.write_text(text)


def use_environment(file: Path, command: str) -> str:
    """The line that runs one of `python -m infra`'s commands in another terminal with these settings."""
    return f". {os.path.relpath(file)} && {os.path.relpath(sys.executable)} -m infra {command}"
