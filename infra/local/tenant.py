"""A tenant of the local services: a virtual host and a database that nobody else uses."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import pymongo

from infra.local.services import Services, create_vhost, delete_vhost, using_services

#: Seconds that removing a database may take.
DROP_LIMIT = 20.0


@dataclass(frozen=True)
class Tenant:
    """Where the messages and documents of one test run or measurement are; nothing else uses it."""

    services: Services
    #: Name of the virtual host and of the database; also fit for a folder of logs.
    name: str
    amqp_url: str
    mongo_url: str
    database: str


@asynccontextmanager
async def local_services() -> AsyncIterator[Services]:
    """Run the local services for the length of a block, without blocking the event loop.

    They stop with the last block that uses them, so hold one around several tenants.
    """
    with ExitStack() as held:
        try:
            yield await asyncio.to_thread(held.enter_context, using_services())
        finally:
            await asyncio.to_thread(held.close)


@asynccontextmanager
async def temporary_tenant(prefix: str = "test") -> AsyncIterator[Tenant]:
    """Start the services unless they run, yield a new virtual host and database on them, and remove both afterwards."""
    async with local_services() as services:
        name = f"{prefix}_{os.getpid()}_{secrets.token_hex(4)}"
        try:
            amqp_url = await asyncio.to_thread(create_vhost, services, name)
            yield Tenant(services, name, amqp_url, services.mongo_url, name)
        finally:
            try:
                await asyncio.to_thread(delete_vhost, services, name)
            finally:
                await asyncio.to_thread(_drop_database, services.mongo_url, name)


def _drop_database(mongo_url: str, name: str) -> None:
    with pymongo.timeout(DROP_LIMIT), pymongo.MongoClient[dict[str, object]](mongo_url) as client:
        client.drop_database(name)
