"""What operator commands share: the console, and how they run and end."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from rich.console import Console

from contracts.errors import WarrenError
from infra.health import HealthServer, Readiness

T = TypeVar("T")

console = Console()

#: Seconds that a command has to end after SIGTERM.
STOP_LIMIT = 5.0


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command. An error that Warren raises ends it with one sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except WarrenError as error:
        sys.exit(str(error))


async def serve(work: Coroutine[Any, Any, None], readiness: Readiness, *, host: str, port: int) -> None:
    """Run `work` and its health endpoints on `port` (0 = no port) until SIGTERM or SIGINT. Raises what `work`
    raises."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    health = HealthServer(host, port, readiness).run()
    tasks = [asyncio.create_task(each) for each in (work, health, stopping.wait())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_LIMIT)
    for task in done:
        task.result()
