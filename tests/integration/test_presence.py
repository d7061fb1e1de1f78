"""Presence: who is online where, whatever order reports arrive in, and edges that come and go."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from contracts.errors import StoreUnavailable
from contracts.reports import SessionClose, SessionOpen, SessionsDrop
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks, conversation, pushes
from tests.support.sample_commands import EDGE, alive, closed, opened, send
from tests.support.waiting import cancelled, eventually
from workers import presence as presence_module
from workers.effects import Effects
from workers.persistence import Persistence
from workers.presence import Presence, session_change, sweep


async def is_online(store: Store, user_id: str) -> bool:
    user = await store.users.find_one({"_id": user_id})
    return bool(user["online"])


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_opens_and_closes_end_the_same_in_any_order(store: Store, order: tuple[int, ...]) -> None:
    # Given what an edge reported, in the order of its versions
    changes: list[SessionOpen | SessionClose] = [
        opened("ada", version=1),
        closed("ada", version=2),
        opened("ada", version=3),
        closed("ada", version=4),
    ]

    # When it arrives in another order, then the newest report counts
    sessions = SessionDirectory(store)
    for index in order:
        await sessions.record([session_change(changes[index])])
    assert await sessions.locate(["ada"]) == []

    # And what arrives again changes nothing
    await sessions.record([session_change(opened("ada", version=5))])
    for index in order:
        await sessions.record([session_change(changes[index])])
    assert [session.edge_id for session in await sessions.locate(["ada"])] == [EDGE]


async def test_the_store_behaves_alike_through_both_drivers(either_store: Store) -> None:
    """The whole of one message's walk through handlers, once with each client of MongoDB."""

    # Given a conversation
    chat = await conversation(either_store, "ada", "bob")

    # When a message is written, twice
    effects = await Persistence(either_store)([send("ada", chat, "m1"), send("ada", chat, "m1")])

    # Then it is answered, and its readers are found
    assert len(acks(effects)) == 2
    assert {session.user_id for session in await SessionDirectory(either_store).locate(["ada", "bob"])} == {
        "ada",
        "bob",
    }

    # And who closed is offline
    await Presence(either_store)([closed("ada"), alive()])
    assert not await is_online(either_store, "ada")
    assert await SessionDirectory(either_store).expired_leases(lease_seconds=60) == {}


async def test_a_user_on_two_edges_goes_offline_with_the_last_one(store: Store) -> None:
    presence = Presence(store)
    await presence([opened("ada", edge_id="e1"), opened("ada", edge_id="e2")])
    await presence([closed("ada", edge_id="e1")])
    assert await is_online(store, "ada")
    await presence([closed("ada", edge_id="e2")])
    assert not await is_online(store, "ada")


async def test_only_those_who_share_a_conversation_that_they_can_see_are_told(store: Store) -> None:
    friends = await conversation(store, "ada", "bob")
    await conversation(store, "ada", "ghosted", opened_by_all=False)
    await Persistence(store)([send("ada", friends, "hello")])
    effects = await Presence(store)([closed("ada")])
    (update,) = pushes(effects, "presence_updated")
    assert update.to == ["bob"]
    assert orjson.loads(update.payload)["online"] is False
    effects = await Presence(store)([opened("ada", version=3)])
    assert orjson.loads(pushes(effects, "presence_updated")[0].payload)["online"] is True


async def test_a_second_device_is_no_news(store: Store) -> None:
    chat = await conversation(store, "ada", "bob")
    await Persistence(store)([send("ada", chat, "hello")])
    effects = await Presence(store)([opened("ada", edge_id="e2")])
    assert pushes(effects, "presence_updated") == []


async def test_who_comes_back_within_the_grace_never_was_away(store: Store) -> None:
    presence = Presence(store)
    await presence([opened("ada")])
    await presence([closed("ada", grace_ms=60_000)])
    assert await is_online(store, "ada")
    await presence([opened("ada", version=3, edge_id="e2")])
    assert (await store.users.find_one({"_id": "ada"})).get("offline_due") is None


async def test_an_edge_that_was_dropped_is_told_so_and_one_that_is_known_is_not(store: Store) -> None:
    # Given an edge that holds a user
    presence = Presence(store)
    first = alive(epoch=1)
    await presence([first])
    await presence([opened("ada", epoch=1)])
    second = alive(epoch=1)
    known = acks(await presence([second]))[second.request]["data"]["known"]

    # When its sessions are dropped, and it registers again under a new epoch
    await presence([SessionsDrop(edge_id=EDGE, request=0, at=0, epoch=1)])
    third = alive(epoch=1)
    after_loss = acks(await presence([third]))[third.request]["data"]["known"]
    await presence([opened("ada", epoch=2, version=2)])
    fourth = alive(epoch=2)
    registered_again = acks(await presence([fourth]))[fourth.request]["data"]["known"]

    # Then each renewal told it whether it was known
    assert (known, after_loss, registered_again) == (True, False, True)


async def test_a_late_report_of_a_loss_spares_what_was_registered_since(store: Store) -> None:
    presence = Presence(store)
    await presence([opened("ada", epoch=1), opened("bob", epoch=1)])
    await presence([opened("ada", epoch=2, version=2)])
    await presence([SessionsDrop(edge_id=EDGE, request=0, at=0, epoch=1)])
    assert [session.user_id for session in await SessionDirectory(store).locate(["ada", "bob"])] == ["ada"]


async def test_users_of_a_lost_edge_stay_online_for_a_grace(store: Store) -> None:
    presence = Presence(store)
    await presence([opened("ada", epoch=1)])
    await presence([SessionsDrop(edge_id=EDGE, request=0, at=0, epoch=1)])
    assert await is_online(store, "ada")
    await store.users.update_one({"_id": "ada"}, {"$set": {"offline_due": datetime.now(UTC)}})
    await presence.set_due_offline()
    assert not await is_online(store, "ada")


@asynccontextmanager
async def in_any_term() -> AsyncIterator[None]:
    yield


class Sweeping:
    """A sweep that runs, with a lease of 0.3 s."""

    def __init__(self, presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence_module, "SWEEP_INTERVAL", 0.02)
        self.consuming = True
        self.sent: list[Effects] = []
        self._task = asyncio.create_task(
            sweep(
                presence,
                self._send,
                one_term=in_any_term,
                lease_seconds=0.3,
                consuming=lambda: self.consuming,
                behind=lambda: False,
            )
        )

    async def _send(self, effects: Effects) -> bool:
        self.sent.append(effects)
        return True

    async def stop(self) -> None:
        await cancelled(self._task)


async def test_a_lapsed_lease_takes_its_users_offline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    presence = Presence(store)
    await presence([alive(epoch=1), opened("ada", epoch=1)])
    await store.edges.update_one({"_id": EDGE}, {"$set": {"renewed_at": datetime.now(UTC) - timedelta(seconds=30)}})
    sweeping = Sweeping(presence, monkeypatch)

    async def gone() -> bool:
        return not await is_online(store, "ada")

    await eventually(gone, within=10, sentence="ada is offline once the lease of her edge lapsed")
    await sweeping.stop()


async def test_no_lease_is_judged_by_a_worker_that_was_away_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage of the presence workers, edges' signs of life still wait in the queue."""

    # Given an edge whose lease has run out, and a worker that could not consume
    presence = Presence(store)
    await presence([alive(epoch=1), opened("ada", epoch=1)])
    await store.edges.update_one({"_id": EDGE}, {"$set": {"renewed_at": datetime.now(UTC) - timedelta(seconds=30)}})
    judged: list[float] = []

    async def note(lease_seconds: float) -> None:
        judged.append(lease_seconds)

    monkeypatch.setattr(presence, "drop_expired_edges", note)
    sweeping = Sweeping(presence, monkeypatch)
    sweeping.consuming = False
    await eventually(lambda: sweeping.sent == [] and not judged, within=1, sentence="nothing is judged")

    # When it consumes again
    sweeping.consuming = True
    await eventually(lambda: len(sweeping.sent) >= 3, within=10, sentence="the sweep runs again")

    # Then it judges no lease before a whole lease has passed
    assert judged == [], "a lease was judged before the worker had been up for one"
    await eventually(lambda: judged, within=10, sentence="leases are judged again after a whole lease")
    await sweeping.stop()


async def test_a_store_that_was_away_starts_the_wait_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a sweep that meets a store that is away
    presence = Presence(store)
    failing = True
    judged: list[float] = []

    async def set_due_offline() -> Effects:
        if failing:
            raise StoreUnavailable("no primary")
        return Effects()

    async def note(lease_seconds: float) -> None:
        judged.append(lease_seconds)

    monkeypatch.setattr(presence, "set_due_offline", set_due_offline)
    monkeypatch.setattr(presence, "drop_expired_edges", note)
    sweeping = Sweeping(presence, monkeypatch)
    await asyncio.sleep(0)

    # When the store is back
    failing = False
    await eventually(lambda: len(sweeping.sent) >= 3, within=10, sentence="the sweep goes on when the store is back")

    # Then no lease is judged yet
    assert judged == []
    await sweeping.stop()


async def test_the_cost_of_a_batch_does_not_depend_on_its_size(store: Store, counter: CommandCounter) -> None:
    # Given a worker that has begun
    presence = Presence(store)
    await presence([opened("warm")])
    counter.take()

    # When one user comes, and then eighty, then the store is asked the same
    await presence([opened("ada")])
    one = counter.take()
    await presence([opened(f"user-{n}") for n in range(80)])
    assert counter.take() == one

    # And so it is when they go
    await presence([closed("ada")])
    one = counter.take()
    await presence([closed(f"user-{n}") for n in range(80)])
    assert counter.take() == one
