"""A stack tells when one of its processes ended by itself."""

import os
import signal

import pytest

from infra.local.errors import ProcessError
from infra.local.stack import Stack
from infra.local.tenant import Tenant


async def run_a_worker_that_is_killed(tenant: Tenant, error: Exception | None = None) -> None:
    """Have a block in which a worker is ended by somebody else; the error, if any, is raised in it."""
    async with Stack(tenant, edges=0, workers={"history": 1}, name="ends_by_itself") as stack:
        (worker,) = stack.workers["history"]
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
        if error is not None:
            raise error


async def test_a_process_that_ends_by_itself_fails_the_block(tenant: Tenant) -> None:
    message = r"history-1 was ended by SIGKILL, by itself\.\nEnd of history-1\.jsonl:\n.+"
    with pytest.raises(ProcessError, match=message):
        await run_a_worker_that_is_killed(tenant)


async def test_an_error_of_the_block_comes_first_and_names_who_ended(tenant: Tenant) -> None:
    with pytest.raises(ValueError, match="of the test") as caught:
        await run_a_worker_that_is_killed(tenant, ValueError("of the test"))
    assert any("history-1 was ended by SIGKILL, by itself" in note for note in caught.value.__notes__)


async def test_an_end_that_was_asked_for_is_none(tenant: Tenant) -> None:
    async with Stack(tenant, edges=0, workers={"history": 2}, name="ends_as_told") as stack:
        killed, removed = stack.workers["history"]
        await stack.kill(killed)
        await stack.remove(removed)
        assert stack.processes == stack.workers["history"] == [killed]
