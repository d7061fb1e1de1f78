"""What every operator command shares: where it prints, and how it ends when something goes wrong in a known way."""

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

#: Seconds that SIGTERM gives the work in hand of a command that goes on until then.
STOP_LIMIT = 5.0


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one command; what goes wrong in a known way is one sentence, and an exit code that is not 0."""
    try:
        return asyncio.run(work)
    except WarrenError as error:
        sys.exit(str(error))


async def serve(work: Coroutine[Any, Any, None], readiness: Readiness, *, host: str, port: int) -> None:
    """Do the work until SIGTERM or SIGINT, and answer for it on a port (0 = none). Raises what the work raises."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    health = HealthServer(host, port, readiness).run()
    tasks = [asyncio.create_task(one) for one in (work, health, stopping.wait())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_LIMIT)
    for task in done:
        task.result()
