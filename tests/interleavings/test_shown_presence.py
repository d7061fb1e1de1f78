"""A view of a conversation that leaves late never shows an old presence for good."""

import orjson
import pytest

from contracts.codec import Item
from infra.store.client import Store
from infra.store.sessions import SessionDirectory
from tests.interleavings.exploration import Work, explore
from tests.support.handlers import conversation
from tests.support.sample_commands import closed, opened, send
from workers.effects import Effects
from workers.persistence import Persistence
from workers.presence import Presence

ADA, BOB = "ada", "bob"


class Picture:
    """What Bob's client shows of Ada: the presence that arrived last."""

    def __init__(self) -> None:
        self.chat = ""
        self.ada_is_online = False

    def starting(self, *, online: bool) -> Work:
        """A conversation of Ada and Bob without a message. Ada is online or has left."""

        async def begin(store: Store) -> None:
            self.chat = await conversation(store, ADA, BOB)
            if not online:
                await Presence(store)([closed(ADA, version=2)])
            # Whatever happened until now is pushed
            await store.users.update_many({}, {"$unset": {"changed_at": "", "unpushed": "", "push_again": ""}})
            self.ada_is_online = online

        return begin

    async def writer(self, store: Store) -> None:
        """A worker that stores the first message, and shows the conversation to Bob."""
        await self._deliver(await Persistence(store)([send(BOB, self.chat, "m1")]), store)

    def presence(self, item: Item) -> Work:
        """A worker that handles a report of Ada's edge."""

        async def work(store: Store) -> None:
            await self._deliver(await Presence(store)([item]), store)

        return work

    async def _deliver(self, effects: Effects, store: Store) -> None:
        """Send pushes as the runner does: the look-up of sessions is where a worker may be slow."""
        await SessionDirectory(store).locate([BOB])
        for push in effects.pushes:
            payload = orjson.loads(push.payload)
            if push.event == "conversation_updated" and BOB in push.to:
                (ada,) = [part for part in payload["conversation"]["participants"] if part["user"]["id"] == ADA]
                self.ada_is_online = ada["online"]
            if push.event == "presence_updated" and BOB in push.to and payload["user_id"] == ADA:
                self.ada_is_online = payload["online"]
        for follow_up in effects.after_frames:
            await follow_up()

    async def is_right(self, store: Store) -> None:
        """After the sweeps that follow, Bob sees what the store says."""
        for _ in range(2):
            await store.users.update_many({"changed_at": {"$type": "date"}}, [{"$set": {"changed_at": LONG_AGO}}])
            await self._deliver(await Presence(store).push_again(), store)
        ada = await store.users.find_one({"_id": ADA})
        assert self.ada_is_online == ada["online"]


LONG_AGO = {"$subtract": ["$$NOW", 60_000]}


@pytest.mark.parametrize(
    ("online", "report"), [(False, opened(ADA, version=3)), (True, closed(ADA, version=3))], ids=["comes", "goes"]
)
async def test_someone_comes_or_goes_while_the_first_message_is_stored(
    store: Store, online: bool, report: Item
) -> None:
    picture = Picture()
    await explore(
        store,
        {"writer": picture.writer, "presence": picture.presence(report)},
        before=picture.starting(online=online),
        after=picture.is_right,
        at_most=30,
    )
