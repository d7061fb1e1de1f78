"""`/readyz` says by name why a process cannot serve, for as long as it cannot, and `/metrics` shows it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from infra.local.mongod import Mongod
from infra.local.rabbitmq import RabbitNode
from infra.local.services import Services
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.local.tenant import Tenant
from tests.support.scrape import metric
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def services(tmp_path: Path) -> AsyncIterator[tuple[RabbitNode, Mongod]]:
    """A broker and a store of the test's own."""
    node, mongod = RabbitNode(tmp_path / "rabbitmq"), Mongod(tmp_path / "mongod")
    await asyncio.gather(asyncio.to_thread(node.start), asyncio.to_thread(mongod.start))
    yield node, mongod
    await asyncio.gather(asyncio.to_thread(node.stop), asyncio.to_thread(mongod.kill))


async def says(process: Process, answer: str) -> bool:
    """Whether /readyz says this, and with the status that goes with it."""
    async with httpx.AsyncClient(trust_env=False) as http:
        found = await http.get(f"{process.url}/readyz")
    assert (found.status_code == 200) == (found.text == "ready\n")
    return answer in found.text


async def test_each_trouble_with_broker_and_store_is_told_by_its_name(services: tuple[RabbitNode, Mongod]) -> None:
    node, mongod = services
    found = Services(node.amqp_url, node.management_url, mongod.url, started_by_us=True)
    own = Tenant(found, "readiness", node.amqp_url, mongod.url, "readiness")
    async with Stack(own, edges=1) as stack:
        (edge,) = stack.edges

        # When the store is stalled, then idle workers report it, and report when it is back
        mongod.pause()
        for process in set(stack.processes) - {edge}:
            await eventually(
                lambda process=process: says(process, "the store is away: no answer within 2 s"),  # type: ignore[misc]
                sentence=f"{process.name} says that the store is away",
            )
        mongod.resume()
        for process in stack.processes:
            await eventually(
                lambda process=process: says(process, "ready"),  # type: ignore[misc]
                sentence=f"{process.name} serves again",
            )

        # When the broker runs short of memory, then an edge cannot take anything, and knows why
        await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0.00001")
        short = "the broker blocks publishers: it has a memory or disk alarm"
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
