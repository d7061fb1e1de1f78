"""Fixtures of handlers and adapters: an empty database, an empty virtual host, and clients of both."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from pydantic import SecretStr
from pymongo.monitoring import CommandListener

from infra.broker.declare import declare_topology
from infra.broker.publisher import Publisher
from infra.local.services import Services, create_vhost, delete_vhost
from infra.settings import WorkerSettings
from infra.store.client import Store
from tests.support.command_counter import CommandCounter
from tests.support.runner_bench import Bench
from tests.support.waiting import cancelled
from tests.support.worker_settings import MakeSettings


@pytest.fixture
def vhost(services: Services) -> Iterator[str]:
    """The AMQP URL of an empty virtual host."""
    name = f"integration_{secrets.token_hex(6)}"
    yield create_vhost(services, name)
    delete_vhost(services, name)


@pytest.fixture
def make_settings(services: Services) -> MakeSettings:
    """Settings of a worker on an empty database; the broker's URL only where a test gives one."""
    database = f"integration_{secrets.token_hex(6)}"

    def make(**changes: object) -> WorkerSettings:
        values = {"mongo_url": SecretStr(services.mongo_url), "mongo_database": database, **changes}
        return WorkerSettings(**values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def counter() -> CommandCounter:
    """Counts what is sent to the store."""
    return CommandCounter()


@pytest_asyncio.fixture(params=["motor", "pymongo"])
async def either_store(make_settings: MakeSettings, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store with its indexes, once through each driver."""
    async for store in _open(make_settings(mongo_driver=request.param)):
        yield store


@pytest_asyncio.fixture
async def store(make_settings: MakeSettings, counter: CommandCounter) -> AsyncIterator[Store]:
    """A store with its indexes, and a listener that counts commands."""
    async for store in _open(make_settings(), counter):
        yield store


async def _open(settings: WorkerSettings, *listeners: CommandListener) -> AsyncIterator[Store]:
    store = Store(settings, listeners)
    await store.prepare()
    yield store
    await store.client.drop_database(settings.mongo_database)
    await store.close()


@pytest.fixture
def settings(vhost: str, make_settings: MakeSettings) -> WorkerSettings:
    """Settings of a worker on an empty virtual host and an empty database."""
    return make_settings(amqp_url=SecretStr(vhost))


@pytest_asyncio.fixture
async def publisher(settings: WorkerSettings) -> AsyncIterator[Publisher]:
    """A publisher that is connected, after it has declared the topology."""
    publisher = Publisher(settings, "test", declare_topology)
    running = asyncio.create_task(publisher.link.run())
    await asyncio.wait_for(publisher.link.up.wait(), 10)
    yield publisher
    await cancelled(running)


@pytest_asyncio.fixture
async def bench(vhost: str, make_settings: MakeSettings, store: Store) -> AsyncIterator[Bench]:
    """A bench whose publisher is connected."""
    bench = Bench(make_settings(amqp_url=SecretStr(vhost)), store)
    await asyncio.wait_for(bench.publisher.link.up.wait(), 10)
    yield bench
    await bench.close()
