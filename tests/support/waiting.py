"""Waiting until something is true, with a limit: no test sleeps and hopes."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

#: Seconds that something may take that takes milliseconds on an idle machine; tests share theirs.
PATIENCE = 15.0
#: Seconds between two looks: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1


async def eventually(
    predicate: Callable[[], Any], *, within: float = PATIENCE, sentence: str | Callable[[], str]
) -> Any:
    """Look until the predicate, plain or async, returns something true, and return that.

    Fails with the sentence: what should have been.

    An AssertionError that the predicate raises means not yet; the last one is shown.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    failure: AssertionError | None = None
    while True:
        try:
            found = predicate()
            result = await found if inspect.isawaitable(found) else found
            failure = None
            if result:
                return result
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            said = sentence if isinstance(sentence, str) else sentence()
            raise AssertionError(f"Not within {within:g} s: {said}") from failure
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it has ended. Fails after `PATIENCE` seconds.

    Once may not be enough: PyMongo waits with `asyncio.wait_for`, which swallows a cancellation in Python 3.11.
    """
    async with asyncio.timeout(PATIENCE):
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
