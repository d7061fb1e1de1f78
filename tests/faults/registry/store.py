"""Faults of MongoDB: the only mongod killed, or the primary of a replica set."""

import asyncio
import time
from functools import partial

import pymongo

from tests.faults.context import DOWN, FROZEN, Context, Fault
from tests.faults.symptoms import Symptom

NO_PRIMARY = Symptom("warren_store_up", "The store is away: it has no primary", becomes=0.0)


async def kill_mongod(context: Context) -> None:
    """SIGKILL the only mongod, and start it again."""
    (member,) = context.environment.members
    await asyncio.to_thread(member.kill)
    await asyncio.sleep(DOWN)
    await asyncio.to_thread(member.start)


async def lose_primary(context: Context) -> None:
    """SIGKILL the primary of a replica set of three, and start it again later."""
    port = await asyncio.to_thread(_primary_port, context)
    primary = next(member for member in context.environment.members if member.port == port)
    await asyncio.to_thread(primary.kill)
    lost_at = time.monotonic()
    await asyncio.sleep(FROZEN)
    context.expect_recovery_without("the member", lost_at)
    await asyncio.to_thread(partial(primary.start, alone=False))


def _primary_port(context: Context) -> int:
    with pymongo.MongoClient[dict[str, object]](context.tenant.mongo_url) as client:
        client.admin.command("ping")
        assert client.primary is not None
        return client.primary[1]


FAULTS = (
    Fault("kill-mongod", "SIGKILL to the only mongod, then a start", kill_mongod, (NO_PRIMARY,)),
    Fault("lose-primary", "SIGKILL to the primary of three", lose_primary, (NO_PRIMARY,), environment="replica set"),
)
