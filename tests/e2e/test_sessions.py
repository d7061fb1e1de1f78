"""Sessions: whoever is connected gets what is pushed, and whoever has left is offline, whatever happens in between."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiormq
import pymongo
import pytest
from websockets.asyncio.client import connect

from contracts.topology import COMMANDS, PRESENCE
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.local.tenant import Tenant
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.raw_websocket import RawSocket, raw_socket
from tests.support.socketio_client import Json
from tests.support.waiting import eventually

#: Seconds that publishing is impossible.
OUTAGE = 18.0


async def online(people: People, user_ids: list[str]) -> set[str]:
    """Those of the users who are shown as online."""
    asking = await people.connect(people.name("asking"))
    found: set[str] = set()
    for start in range(0, len(user_ids), 100):
        answer = await asking.call("get_presence", user_ids=user_ids[start : start + 100])
        found |= {presence["user_id"] for presence in answer["presence"] if presence["online"]}
    return found


async def connected(stack: Stack, edge: Process, user_ids: list[str], exit_stack: AsyncExitStack) -> list[RawSocket]:
    """A bare socket of each user with its `session_ready`, a few at a time."""
    sockets: list[RawSocket] = []
    for start in range(0, len(user_ids), 50):
        entering = [
            exit_stack.enter_async_context(raw_socket(edge, stack.token(user_id)))
            for user_id in user_ids[start : start + 50]
        ]
        sockets += await asyncio.gather(*entering)
    return sockets


@pytest.mark.slow
async def test_users_who_return_as_their_grace_ends_are_open_in_the_directory(people: People, stack: Stack) -> None:
    grace = 1.0
    async with extra_edge(stack, {"WARREN_SESSION_GRACE": str(grace)}) as edge, AsyncExitStack() as exit_stack:
        url = edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
        returned: list[str] = []
        for _ in range(4):
            # Given users who leave together, and are about to return: their WebSockets are open, without a token
            user_ids = [people.name("u") for _ in range(100)]
            async with AsyncExitStack() as first_visit:
                await connected(stack, edge, user_ids, first_visit)
                left = time.monotonic()
            waiting = await asyncio.gather(
                *(exit_stack.enter_async_context(connect(url, compression=None, proxy=None)) for _ in user_ids)
            )

            # When they return as their grace ends
            async def come_back(socket: RawSocket, token: str, at: float) -> None:
                await asyncio.sleep(at - time.monotonic())
                await socket.send("40" + json.dumps({"token": token}))
                await socket.receive('42["session_ready"')

            await asyncio.gather(
                *(
                    come_back(RawSocket(socket), stack.token(user_id), left + grace + random.uniform(-0.05, 0.1))
                    for socket, user_id in zip(waiting, user_ids, strict=True)
                )
            )
            returned += user_ids

        # Then all of them are online, after everything that their edge reported
        await people.settle(await people.connect(people.name("last"), edge))
        assert await online(people, returned) == set(returned)


@asynccontextmanager
async def no_reports_of_closes(tenant: Tenant) -> AsyncIterator[None]:
    """Let the broker have no queue for reports of closed sessions, so that it refuses them."""
    connection = await aiormq.connect(tenant.amqp_url)
    channel = await connection.channel()
    await channel.queue_unbind(PRESENCE.name, COMMANDS, "session.close")
    try:
        yield
    finally:
        await channel.queue_bind(PRESENCE.name, COMMANDS, "session.close")
        await connection.close()


@pytest.mark.slow
async def test_everyone_who_left_while_nothing_could_be_published_is_offline_afterwards(
    people: People, stack: Stack, tenant: Tenant
) -> None:
    user_ids = [people.name("u") for _ in range(400)]
    async with extra_edge(stack, {"WARREN_SESSION_GRACE": "0.1"}) as edge, AsyncExitStack() as exit_stack:
        # Given 400 users on an edge
        await connected(stack, edge, user_ids, exit_stack)
        assert await online(people, user_ids) == set(user_ids)

        # When they leave while the broker refuses the reports of that
        async with no_reports_of_closes(tenant):
            await exit_stack.aclose()
            await asyncio.sleep(OUTAGE)

        # Then all are offline soon after it takes them
        async def all_are_offline() -> bool:
            return not await online(people, user_ids)

        await eventually(all_are_offline, within=10, sentence="all are offline")


@pytest.mark.slow
@pytest.mark.parametrize("clock_went_back_by", [0, 3_600_000], ids=["in order", "clock went back"])
async def test_an_edge_with_a_fixed_id_restarts_and_its_users_with_it(
    people: People, stack: Stack, tenant: Tenant, clock_went_back_by: int
) -> None:
    # Given an edge whose id is a setting, and two users, of whom one will return
    edge_id = people.name("fixed")
    async with extra_edge(stack, {"WARREN_EDGE_ID": edge_id}) as edge:
        ada = await people.connect(people.name("ada"))
        returns, goes = [await people.connect(people.name(label), edge) for label in ("returns", "goes")]
        for other in (returns, goes):
            await people.chat(ada, other)

        # When it is killed and restarts, perhaps with a clock that is behind what the killed process had
        await stack.kill(edge)
        with pymongo.MongoClient[Json](tenant.mongo_url) as client:
            store = client[tenant.database]
            for collection, query in ((store.sessions, {"edge_id": edge_id}), (store.edges, {"_id": edge_id})):
                changed = collection.update_many(query, {"$inc": {"epoch": clock_went_back_by}})
                assert changed.matched_count
        await stack.restart(edge)
        ada.mark()
        back = await people.connect(returns.user_id, edge)

        # Then who returned gets pushes
        conversation_id = await people.start(ada, back)

        async def reaches_back() -> bool:
            message = await people.say(ada, conversation_id)
            return any(push.payload.get("message") == message for push in back.pushes)

        await eventually(reaches_back, sentence="a message reaches the user who returned")
        # And who did not is offline, although the edge renews its lease under the same id
        gone = await ada.push("presence_updated", user_id=goes.user_id, within=30)
        assert gone["online"] is False
        assert await online(people, [returns.user_id, goes.user_id]) == {returns.user_id}
