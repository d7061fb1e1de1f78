"""Rebuilds projections from what they project: headers from messages, inbox entries from headers."""

from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne

from contracts.counting import inbox_state
from infra.store import Document, Store, aggregate, find_all, guarded

#: Conversations that are looked at together.
CHUNK = 200


@dataclass
class Recount:
    """What a recount found; a healthy system that is at rest has no differences."""

    conversations: int = 0
    headers_differed: int = 0
    inboxes_differed: int = 0


async def recount_all(store: Store) -> Recount:
    """Compare, repair, and count differences. Safe beside running workers: nothing is ever set back.

    Raises StoreUnavailable.
    """
    result = Recount()
    after = ""
    async with guarded():
        while True:
            query = {"_id": {"$gt": after}}
            cursor = store.conversations.find(query, {"_id": 1}).sort("_id", 1).limit(CHUNK)
            ids = [document["_id"] for document in await cursor.to_list(None)]
            if not ids:
                return result
            await _recount(store, ids, result)
            result.conversations += len(ids)
            after = ids[-1]


async def _recount(store: Store, ids: list[str], result: Recount) -> None:
    newest = await _newest_messages(store, ids)
    # Entries before headers: a header read later is at least as new as any entry that is right.
    entries = {
        (entry["_id"]["u"], entry["_id"]["c"]): entry["state"]
        for entry in await find_all(store.inboxes, {"_id.c": {"$in": ids}})
    }
    headers = await find_all(store.conversations, {"_id": {"$in": ids}})
    header_repairs: list[UpdateOne] = []
    inbox_repairs: list[UpdateOne] = []
    for header in headers:
        message = newest.get(header["_id"])
        last_seq = header["last"]["seq"] if header.get("last") else 0
        if message is not None and message["seq"] > last_seq:
            last_seq = message["seq"]
            repair = {"last": _header_of(message), "updated_at": message["sent_at"]}
            header_repairs.append(UpdateOne({"_id": header["_id"]}, {"$max": repair}))
        if not last_seq:
            continue
        for participant in header["participants"]:
            key = (participant["user_id"], header["_id"])
            state = inbox_state(last_seq, participant["read"]["seq"])
            if entries.get(key, {"n": 0})["n"] != state["n"]:
                inbox_repairs.append(_entry_repair(key, entries.get(key), state))
    result.headers_differed += len(header_repairs)
    result.inboxes_differed += len(inbox_repairs)
    if header_repairs:
        await store.conversations.bulk_write(header_repairs, ordered=False)
    if inbox_repairs:
        await store.inboxes.bulk_write(inbox_repairs, ordered=False)


async def _newest_messages(store: Store, ids: list[str]) -> dict[str, Document]:
    pipeline: list[dict[str, Any]] = [
        {"$match": {"conversation_id": {"$in": ids}}},
        {"$sort": {"conversation_id": 1, "seq": -1}},
        {"$group": {"_id": "$conversation_id", "message": {"$first": "$$ROOT"}}},
    ]
    return {row["_id"]: row["message"] for row in await aggregate(store.messages, pipeline)}


def _header_of(message: Document) -> Document:
    return {
        "seq": message["seq"],
        "id": message["_id"],
        "sender_id": message["sender_id"],
        "preview": message["body"][:120],
        "sent_at": message["sent_at"],
    }


def _entry_repair(key: tuple[str, str], found: Document | None, right: dict[str, int]) -> UpdateOne:
    user_id, conversation_id = key
    entry = {"u": user_id, "c": conversation_id}
    if found is None or found["v"] < right["v"]:
        return UpdateOne({"_id": entry}, {"$max": {"state": right}, "$setOnInsert": {"user_id": user_id}}, upsert=True)
    # It claims more than there is. Only this very state is replaced: a worker's newer one stays.
    return UpdateOne({"_id": entry, "state": found}, {"$set": {"state": right}})
