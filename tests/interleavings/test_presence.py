"""Whoever comes and goes, in whatever order workers see it: online is who is connected, and nobody else."""

from contracts.reports import SessionsDrop
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.interleavings.exploration import explore
from tests.support.sample_commands import EDGE, alive, closed, opened
from workers.presence import Presence, session_change


async def prepared(store: Store) -> None:
    await Presence(store)([alive(EDGE), alive("edge-2")])


async def online_is_who_is_connected(store: Store) -> None:
    """After the sweeps that follow, the directory and the users' documents say the same."""
    # Whatever grace is left ends now
    await store.users.update_many({"offline_due": {"$exists": True}}, [{"$set": {"offline_due": "$$NOW"}}])
    presence = Presence(store)
    for _ in range(3):
        await presence.set_due_offline()
    connected = {session.user_id for session in await SessionDirectory(store).locate(["ada", "bob"])}
    documents = await store.users.find({}).to_list(None)
    online = {document["_id"] for document in documents if document.get("online")}
    assert online == connected, f"online: {sorted(online)}, connected: {sorted(connected)}"


async def test_an_open_and_the_close_that_follows_it_are_handled_side_by_side(store: Store) -> None:
    # When two workers handle them in any order, then online is who is connected
    explored = await explore(
        store,
        {
            "opener": lambda store: Presence(store)([opened("ada", version=1)]),
            "closer": lambda store: Presence(store)([closed("ada", version=2)]),
        },
        before=prepared,
        after=online_is_who_is_connected,
        at_most=60,
    )
    assert explored.runs > 30


async def test_a_worker_dies_anywhere_and_its_batch_is_delivered_again(store: Store) -> None:
    async def ada_is_connected(store: Store) -> None:
        await prepared(store)
        await Presence(store)([opened("ada", version=1)])

    await explore(
        store,
        {"dropper": lambda store: Presence(store)([SessionsDrop(edge_id=EDGE, request=0, at=0, epoch=1)])},
        before=ada_is_connected,
        after=online_is_who_is_connected,
        deaths=1,
    )


async def test_a_schedule_is_made_judged_and_cancelled_at_the_same_time(store: Store) -> None:
    # Given a user who has left one edge
    async def ada_left_edge_1(store: Store) -> None:
        await prepared(store)
        presence = Presence(store)
        await presence([opened("ada", version=1)])
        await SessionDirectory(store).record([session_change(closed("ada", version=2))])
        await store.users.update_one({"_id": "ada"}, [{"$set": {"offline_due": "$$NOW", "schedule_id": "first"}}])

    # When three workers handle what follows in any order, then online is who is connected
    await explore(
        store,
        {
            "sweep": lambda store: Presence(store).set_due_offline(),
            "closer": lambda store: Presence(store)([closed("ada", version=2)]),
            "opener": lambda store: Presence(store)([opened("ada", edge_id="edge-2", version=1)]),
        },
        before=ada_left_edge_1,
        after=online_is_who_is_connected,
        at_most=60,
    )
