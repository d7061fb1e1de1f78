"""Inboxes: per user and conversation the unread count, so that a user's total is one cheap sum.

An entry's `state` is {v, n} with n = last_seq - last_read_seq and v = last_seq + last_read_seq. Both parts of v
only grow, so the state with the highest v is the newest and `$max` keeps it: written in any order, any number
of times, the end is the same.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pymongo import UpdateOne

from infra.store import Store, aggregate, guarded, upsert_all
from workers.stores.conversations import Header


@dataclass(frozen=True)
class Entry:
    """What one user has unread in one conversation, as a header read in one piece says."""

    user_id: str
    conversation_id: str
    last_seq: int
    read_seq: int

    @property
    def state(self) -> dict[str, int]:
        """The version and the number, in the order in which $max compares them."""
        return {"v": self.last_seq + self.read_seq, "n": self.last_seq - self.read_seq}


def entry_of(header: Header, user_id: str) -> Entry:
    """The entry that a header implies for one participant."""
    return Entry(user_id, header.id, header.last_seq, min(header.read(user_id).seq, header.last_seq))


class Inboxes:
    """Reads and writes of `inboxes`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._inboxes = store.inboxes

    async def write(self, entries: Iterable[Entry]) -> None:
        """Store entries; an older one never replaces a newer one."""
        operations = [
            UpdateOne(
                {"_id": {"u": entry.user_id, "c": entry.conversation_id}},
                {"$max": {"state": entry.state}, "$setOnInsert": {"user_id": entry.user_id}},
                upsert=True,
            )
            for entry in entries
        ]
        if operations:
            async with guarded():
                await upsert_all(self._inboxes, operations)

    async def totals(self, user_ids: Collection[str]) -> dict[str, int]:
        """The unread messages of each user, over all conversations."""
        pipeline = [
            {"$match": {"user_id": {"$in": list(user_ids)}, "state.n": {"$gt": 0}}},
            {"$group": {"_id": "$user_id", "n": {"$sum": "$state.n"}}},
        ]
        async with guarded():
            found = await aggregate(self._inboxes, pipeline)
        return dict.fromkeys(user_ids, 0) | {row["_id"]: row["n"] for row in found}
