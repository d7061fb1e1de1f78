"""Faults of MongoDB: the only mongod killed, or the primary of a replica set."""

import asyncio
import secrets
import time
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import pymongo

from tests.faults.context import DOWN, FROZEN, Context, Fault
from tests.faults.member_proxy import MemberProxy
from tests.faults.symptoms import Symptom

#: Seconds that the election of a chosen member may take, and that processes take to find it; and seconds after which
#: every worker knows that a killed primary is gone.
ELECTED, SETTLED, NOTICED = 60.0, 3.0, 1.0

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


async def lose_commit_point(context: Context) -> None:
    """SIGKILL a primary when its ack has left and the others have the write and do not know that it is committed.

    First the write is a message, then a new group. Nobody sends more in the first conversation, so that nothing repairs
    a wrong count; and somebody sends in the group at once.
    """
    for what in ("message", "group"):
        client, *others = context.traffic.clients[:6:2]  # clients that do not send message_seen
        user_ids = [other.user_id for other in others]
        quiet = await context.traffic.start_conversation(client, user_ids, f"quiet {what}")
        proxy = await _make_first_primary(context)
        marker = f"marker {secrets.token_hex(8)}"
        async with context.traffic.paused():
            if what == "message":
                proxy.stop_after(marker.encode(), copies=2)  # its insert, and the preview in its header
                await context.traffic.send(client, quiet, marker)
                killed_at = await _kill_stopped(context, proxy)
            else:
                proxy.stop_after(marker.encode(), copies=1)
                group = {"participant_ids": user_ids, "title": marker}
                started = (await client.call("start_conversation", group))["conversation"]["id"]
                killed_at = await _kill_stopped(context, proxy)
                context.traffic.conversations.append(started)
                await context.traffic.send(client, started)
        await _restart_first(context, killed_at)


async def lose_insert(context: Context) -> None:
    """SIGKILL a primary after it inserted a message that nobody else has, and before the worker updates the header."""
    client, *others = context.traffic.clients[:6:2]
    quiet = await context.traffic.start_conversation(client, [other.user_id for other in others], "quiet")
    proxy = await _make_first_primary(context)
    marker = f"marker {secrets.token_hex(8)}"
    killed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def kill() -> None:
        killed.set_result(await _kill_first(context, proxy))
        await asyncio.sleep(NOTICED)

    proxy.stop_before_insert(marker.encode(), kill)
    await context.traffic.send(client, quiet, marker)
    await context.traffic.send(client, quiet, "after it")
    await _restart_first(context, killed.result())


async def _make_first_primary(context: Context) -> MemberProxy:
    """Make the member behind the proxy the primary; returns the proxy."""
    proxy = context.environment.first_member
    assert proxy is not None
    first = context.environment.members[0]

    def step_up() -> None:
        url = f"mongodb://{first.address}/?directConnection=true"
        deadline = time.monotonic() + ELECTED
        with pymongo.MongoClient[dict[str, Any]](url) as client:
            while not client.admin.command("hello")["isWritablePrimary"]:
                with suppress(pymongo.errors.PyMongoError):
                    client.admin.command("replSetStepUp")
                if time.monotonic() > deadline:
                    raise TimeoutError("The first member was not elected.")
                time.sleep(0.2)

    await asyncio.to_thread(step_up)
    # Warren's processes find it, and nothing waits from before.
    await asyncio.sleep(SETTLED)
    return proxy


async def _kill_stopped(context: Context, proxy: MemberProxy) -> float:
    """As `_kill_first`; complain unless the proxy has stopped the others after the write."""
    if not proxy.stopped:
        context.complaints.append("the other members were not stopped after the write")
    return await _kill_first(context, proxy)


async def _kill_first(context: Context, proxy: MemberProxy) -> float:
    """SIGKILL to the member behind the proxy; returns the time, monotonic seconds."""
    await asyncio.to_thread(context.environment.members[0].kill)
    proxy.pass_on()
    return time.monotonic()


async def _restart_first(context: Context, killed_at: float) -> None:
    await asyncio.sleep(max(0.0, killed_at + FROZEN - time.monotonic()))
    context.expect_recovery_without("the member", killed_at)
    await asyncio.to_thread(partial(context.environment.members[0].start, alone=False))


def _primary_port(context: Context) -> int:
    with pymongo.MongoClient[dict[str, object]](context.tenant.mongo_url) as client:
        client.admin.command("ping")
        assert client.primary is not None
        return client.primary[1]


BEHIND_PROXY: Literal["member behind proxy"] = "member behind proxy"

FAULTS = (
    Fault("kill-mongod", "SIGKILL to the only mongod, then a start", kill_mongod, (NO_PRIMARY,)),
    Fault("lose-primary", "SIGKILL to the primary of three", lose_primary, (NO_PRIMARY,), environment="replica set"),
    Fault(
        "lost-commit-point",
        "SIGKILL to a primary whose last commit the others do not know of, twice",
        lose_commit_point,
        (NO_PRIMARY,),
        environment=BEHIND_PROXY,
    ),
    Fault(
        "lost-insert",
        "SIGKILL to a primary between the insert of a message and the update of its header",
        lose_insert,
        (NO_PRIMARY,),
        environment=BEHIND_PROXY,
    ),
)
