"""The `inboxes` collection: the unread count of each user in each conversation. A user's total is the sum.

`contracts.counting` defines an entry's `state`: the newest state has the highest version, and `$max` keeps it. So
entries may be written in any order and any number of times.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.counting import inbox_state
from infra.store.client import Store
from infra.store.conversations import Header
from infra.store.operations import Document, Update, find_all, read_snapshot, translated_errors, union, update_all

#: Users whose totals are read at once, so that the answer fits into one reply of the store.
TOTALS_AT_ONCE = 10_000


@dataclass(frozen=True)
class InboxEntry:
    """What one user has unread in one conversation, computed from a header that was read in one piece."""

    user_id: str
    conversation_id: str
    last_seq: int
    read_seq: int

    @property
    def state(self) -> Document:
        """The version and the count, in the order in which `$max` compares them; see `contracts.counting`."""
        return inbox_state(self.last_seq, self.read_seq)


@dataclass(frozen=True)
class Total:
    """A user's number of unread messages in all conversations. Of two totals the higher version is newer."""

    unread: int
    version: int


def entry_of(header: Header, user_id: str) -> InboxEntry:
    """The entry of one participant, computed from the header."""
    return InboxEntry(user_id, header.id, header.last_seq, header.watermark(user_id).seq)


class Inboxes:
    """Reads and writes `inboxes`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._inboxes = store.inboxes

    async def write(self, entries: Iterable[InboxEntry]) -> None:
        """Store entries. An older state never replaces a newer one."""
        operations = [
            Update(
                {"_id": {"u": entry.user_id, "c": entry.conversation_id}},
                {
                    "$max": {"state": entry.state},
                    "$setOnInsert": {"user_id": entry.user_id},
                },
                upsert=True,
            )
            for entry in entries
        ]
        if operations:
            async with translated_errors():
                await update_all(self._inboxes, operations)

    async def totals(self, user_ids: Collection[str]) -> dict[str, Total]:
        """The total of each user."""
        totals: dict[str, Total] = {}
        ids = list(user_ids)
        for start in range(0, len(ids), TOTALS_AT_ONCE):
            part = ids[start : start + TOTALS_AT_ONCE]
            pipeline = [
                {"$match": {"user_id": {"$in": part}, "state.n": {"$gt": 0}}},
                {"$group": {"_id": "$user_id", "n": {"$sum": "$state.n"}}},
            ]
            async with translated_errors():
                found, version = await read_snapshot(self._inboxes, pipeline)
            totals |= dict.fromkeys(part, Total(0, version))
            totals |= {row["_id"]: Total(row["n"], version) for row in found}
        return totals

    async def version(self) -> int:
        """The version of totals that are read now. What is read after this call is at least as new."""
        async with translated_errors():
            _, version = await read_snapshot(self._inboxes, [{"$match": {"_id": None}}])
        return version

    async def totals_outside(self, queries: Sequence[tuple[str, Collection[str]]]) -> list[int]:
        """For each (user, conversations): the user's number of unread messages in all other conversations."""
        pipelines: list[list[dict[str, Any]]] = []
        for user_id, conversation_ids in queries:
            known = [{"u": user_id, "c": conversation_id} for conversation_id in conversation_ids]
            match: Document = {"user_id": user_id, "state.n": {"$gt": 0}, "_id": {"$nin": known}}
            pipelines.append([{"$match": match}, {"$group": {"_id": None, "n": {"$sum": "$state.n"}}}])
        async with translated_errors():
            found = await union(self._inboxes, pipelines)
        return [sum(int(row["n"]) for row in rows) for rows in found]

    async def states(self, conversation_ids: Collection[str]) -> dict[tuple[str, str], Document]:
        """The states of all entries of these conversations, by (user, conversation)."""
        async with translated_errors():
            found = await find_all(self._inboxes, {"_id.c": {"$in": list(conversation_ids)}})
        return {(entry["_id"]["u"], entry["_id"]["c"]): entry["state"] for entry in found}

    async def replace(self, states: Mapping[tuple[str, str], tuple[Document, Document]]) -> None:
        """Replace the first state of each entry, by (user, conversation), by the second; keep any other state."""
        operations = [
            Update({"_id": {"u": user_id, "c": conversation_id}, "state": wrong}, {"$set": {"state": right}})
            for (user_id, conversation_id), (wrong, right) in states.items()
        ]
        if operations:
            async with translated_errors():
                await update_all(self._inboxes, operations)

    async def delete(self, conversation_id: str, user_ids: Collection[str]) -> None:
        """Remove the entries of these users for a conversation."""
        ids = [{"u": user_id, "c": conversation_id} for user_id in user_ids]
        async with translated_errors():
            await self._inboxes.delete_many({"_id": {"$in": ids}})
