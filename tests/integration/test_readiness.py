"""`/readyz` says by name why a process cannot serve, for as long as it cannot, and `/metrics` shows it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from infra.local import RabbitNode
from tests.e2e.metrics import metric
from tests.support.services import PrivateRun
from tests.support.stack import Process, Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RabbitNode]:
    """A broker of the test's own."""
    node = RabbitNode(tmp_path / "rabbitmq")
    await asyncio.to_thread(node.start)
    yield node
    await asyncio.to_thread(node.stop)


async def says(process: Process, answer: str) -> bool:
    """Whether /readyz says this, and with the status that goes with it."""
    async with httpx.AsyncClient(trust_env=False) as http:
        found = await http.get(f"{process.url}/readyz")
    assert (found.status_code == 200) == (found.text == "ready\n")
    return answer in found.text


async def test_each_trouble_with_the_broker_is_told_by_its_name(node: RabbitNode, run: PrivateRun) -> None:
    async with Stack(replace(run, amqp_url=node.amqp_url, name=f"{run.name}_readiness"), edges=1) as stack:
        (edge,) = stack.edges

        # When the broker runs short of memory, then an edge cannot take anything, and knows why
        await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0.00001")
        short = "the broker takes no messages: its memory or disk runs short"
        await eventually(lambda: says(edge, short), within=30, sentence="the edge says that the broker is short")
        assert await metric(edge, "warren_broker_blocked", connection="publish") == 1
        assert await metric(edge, "warren_broker_up", connection="publish") == 1
        await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "absolute", "2GiB")
        await eventually(lambda: says(edge, "ready"), within=30, sentence="the edge serves again")
        assert await metric(edge, "warren_broker_blocked", connection="publish") == 0

        # When it is gone, then everybody says so, and comes back with it
        await asyncio.to_thread(node.kill)
        for process in stack.processes:
            await eventually(
                lambda process=process: says(process, "no connection to the broker"),  # type: ignore[misc]
                within=30,
                sentence=f"{process.name} says that the broker is gone",
            )
            assert await metric(process, "warren_broker_up") == 0
        await asyncio.to_thread(node.start)
        for process in stack.processes:
            await eventually(
                lambda process=process: says(process, "ready"),  # type: ignore[misc]
                within=60,
                sentence=f"{process.name} serves again",
            )
