"""Workers that store messages, count and mark side by side: numbers are dense, and every projection is right."""

from collections.abc import Sequence

from contracts.codec import Item
from contracts.counting import inbox_state
from infra.store.client import Store
from infra.store.conversations import Conversations
from tests.interleavings.exploration import Work, explore
from tests.support.handlers import conversation
from tests.support.sample_commands import seen, send
from workers.effects import Effects
from workers.persistence import Persistence
from workers.unread import Unread

ADA, BOB = "ada", "bob"


class Chat:
    """One conversation, which each order of calls begins anew, and the commands that are handled in it."""

    def __init__(self) -> None:
        self.id = ""
        self.effects: list[Effects] = []

    async def begin(self, store: Store) -> None:
        """Ada and Bob have a conversation with one message, which Bob has not read."""
        self.effects.clear()
        self.id = await conversation(store, ADA, BOB)
        await Unread(store)((await Persistence(store)([send(ADA, self.id, "m1")])).facts)

    def persistence(self, *ids: str, by: str = ADA) -> Work:
        """A worker that stores these messages, all in one batch."""

        async def work(store: Store) -> None:
            self.effects.append(await Persistence(store)([send(by, self.id, id) for id in ids]))

        return work

    async def is_right(self, store: Store) -> None:
        """Check the log, the header, and each inbox, once every fact is counted as well."""
        facts: Sequence[Item] = [fact for effects in self.effects for fact in effects.facts]
        await Unread(store)([*facts, *reversed(facts)])
        log = await store.messages.find({"conversation_id": self.id}).sort("seq", 1).to_list(None)
        assert [message["seq"] for message in log] == list(range(1, len(log) + 1)), "numbers are dense"
        ids = [message["client_message_id"] for message in log]
        assert len(ids) == len(set(ids)), "each message is stored once"
        header = (await Conversations(store).headers([self.id]))[self.id]
        assert header.last is not None
        assert (header.last_seq, header.last["id"]) == (len(log), log[-1]["_id"]), "the header shows the newest"
        for user_id in (ADA, BOB):
            watermark = header.watermark(user_id).seq
            own = [message["seq"] for message in log if message["sender_id"] == user_id]
            assert max(own, default=0) <= watermark <= len(log), f"{user_id} has read what they sent"
            entry = await store.inboxes.find_one({"_id": {"u": user_id, "c": self.id}})
            unread = entry["state"]["n"] if entry else 0
            assert unread == inbox_state(len(log), watermark)["n"], f"{user_id}'s count"
        sent = [ack for effects in self.effects for replies in effects.replies.values() for ack in replies]
        assert all('"ok":true' in reply.ack for reply in sent)


async def test_two_workers_store_in_one_conversation(store: Store) -> None:
    chat = Chat()
    await explore(
        store,
        {"one": chat.persistence("a", "b"), "two": chat.persistence("c", "m1")},
        before=chat.begin,
        after=chat.is_right,
        at_most=60,
    )


async def test_a_worker_dies_anywhere_while_another_stores(store: Store) -> None:
    chat = Chat()
    await explore(
        store,
        {"one": chat.persistence("a", "b"), "two": chat.persistence("c", by=BOB)},
        before=chat.begin,
        after=chat.is_right,
        deaths=1,
        at_most=60,
        seed=2,
    )


async def test_a_message_is_stored_counted_and_read_at_the_same_time(store: Store) -> None:
    # Given somebody who reads what is just being written
    chat = Chat()

    async def reader(store: Store) -> None:
        chat.effects.append(await Unread(store)([seen(BOB, chat.id, 1)]))

    # Then all is right in the end, in whatever order it happens and whoever dies
    await explore(
        store,
        {"writer": chat.persistence("a"), "reader": reader},
        before=chat.begin,
        after=chat.is_right,
        deaths=1,
        at_most=60,
        seed=3,
    )
