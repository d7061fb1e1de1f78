"""Totals that workers read side by side: the one with the highest version is what the store ends with."""

from collections.abc import Sequence

import orjson

from contracts.codec import Item
from infra.store.client import Store
from infra.store.inboxes import Inboxes
from tests.interleavings.exploration import Work, explore
from tests.support.handlers import acks, conversation
from tests.support.sample_commands import list_conversations, seen, send
from workers.effects import Effects
from workers.history import History
from workers.persistence import Persistence
from workers.unread import Unread

ADA, BOB, CLEO = "ada", "bob", "cleo"


class Totals:
    """Bob's two conversations, with Ada and with Cleo, and every total that he is sent."""

    def __init__(self) -> None:
        self.with_ada = self.with_cleo = ""
        self.from_ada: Sequence[Item] = ()
        self.from_cleo: Sequence[Item] = ()
        #: (version, total)
        self.sent: list[tuple[int, int]] = []

    async def begin(self, store: Store) -> None:
        """Ada and Cleo have written to Bob, and nothing is counted yet."""
        self.sent.clear()
        self.with_ada = await conversation(store, ADA, BOB)
        self.with_cleo = await conversation(store, CLEO, BOB)
        self.from_ada = (
            await Persistence(store)([send(ADA, self.with_ada, "a1"), send(ADA, self.with_ada, "a2")])
        ).facts
        self.from_cleo = (await Persistence(store)([send(CLEO, self.with_cleo, "c1")])).facts

    def counter(self, name: str) -> Work:
        """A worker that counts one of the two conversations."""

        async def work(store: Store) -> None:
            self._collect(await Unread(store)(getattr(self, name)))

        return work

    async def reader(self, store: Store) -> None:
        """A worker that carries out that Bob has seen Ada's first message."""
        self._collect(await Unread(store)([seen(BOB, self.with_ada, 1)]))

    async def lister(self, store: Store) -> None:
        """A worker that lists Bob's newest conversation, with the total of both."""
        command = list_conversations(BOB, limit=1)
        self._note(acks(await History(store)([command]))[command.request]["data"])

    def _collect(self, effects: Effects) -> None:
        for push in effects.pushes:
            if push.event == "unread_updated" and push.to == [BOB]:
                self._note(orjson.loads(push.payload))
        for ack in acks(effects).values():
            self._note(ack["data"])

    def _note(self, payload: dict[str, int]) -> None:
        self.sent.append((payload["total_version"], payload["total_unread"]))

    async def newest_is_right(self, store: Store) -> None:
        """Whatever order they arrive in, a client ends with the store's total."""
        newest = max(version for version, _ in self.sent)
        ends = {total for version, total in self.sent if version == newest}
        total = (await Inboxes(store).totals([BOB]))[BOB]
        assert ends == {total.unread}, f"sent: {sorted(self.sent)}"
        assert newest <= total.version


async def test_two_workers_count_two_conversations_of_one_user(store: Store) -> None:
    totals = Totals()
    await explore(
        store,
        {"one": totals.counter("from_ada"), "two": totals.counter("from_cleo")},
        before=totals.begin,
        after=totals.newest_is_right,
        deaths=1,
        at_most=20,
    )


async def test_a_user_reads_and_lists_while_two_workers_count(store: Store) -> None:
    # Given two workers that count, and a user who reads in one conversation and lists both
    totals = Totals()
    # When their store calls run in different orders, then the newest total that was sent is what is stored
    await explore(
        store,
        {
            "one": totals.counter("from_ada"),
            "two": totals.counter("from_cleo"),
            "reader": totals.reader,
            "lister": totals.lister,
        },
        before=totals.begin,
        after=totals.newest_is_right,
        at_most=20,
        seed=2,
    )
