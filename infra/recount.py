"""Rebuilds projections from what they project: headers from messages, inbox entries from headers.

While people chat, a projection is always a moment behind, and that is no drift. With `settle`, only what differs at two
looks, some seconds apart and with the same wrong content, counts.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import typer
from pymongo import UpdateOne

from contracts.counting import inbox_state
from contracts.errors import StoreUnavailable
from infra import logs, metrics
from infra.settings import Settings, load
from infra.shell import console, run, serve
from infra.store import Document, Store, aggregate, find_all, guarded

log = logging.getLogger(__name__)

#: Conversations that are looked at together.
CHUNK = 200
#: Seconds between the two looks of a recount that is repeated.
SETTLE = 5.0

#: An inbox entry by (user, conversation).
Key = tuple[str, str]
K = TypeVar("K")


@dataclass
class Recount:
    """What a recount found; a healthy system that is at rest has no differences."""

    conversations: int = 0
    headers_differed: int = 0
    inboxes_differed: int = 0


@dataclass
class Differences:
    """What is wrong now, by whose it is: the wrong content, and the update that sets it right."""

    headers: dict[str, tuple[Document | None, UpdateOne]] = field(default_factory=dict)
    inboxes: dict[Key, tuple[Document | None, UpdateOne]] = field(default_factory=dict)


async def recount_all(store: Store, *, settle: float = 0.0) -> Recount:
    """Compare, repair, and count differences. Safe beside running workers: nothing is ever set back.

    `settle` is seconds after which a difference must still be there to count; 0 counts and repairs it at once.
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
            differences = await _differences(store, ids)
            if settle and (differences.headers or differences.inboxes):
                await asyncio.sleep(settle)
                again = await _differences(store, ids)
                differences = Differences(
                    _still(differences.headers, again.headers), _still(differences.inboxes, again.inboxes)
                )
            await _repair(store, differences)
            result.conversations += len(ids)
            result.headers_differed += len(differences.headers)
            result.inboxes_differed += len(differences.inboxes)
            after = ids[-1]


def _still(
    before: Mapping[K, tuple[Document | None, UpdateOne]], now: Mapping[K, tuple[Document | None, UpdateOne]]
) -> dict[K, tuple[Document | None, UpdateOne]]:
    """What is wrong in the same way as before; what has moved meanwhile was only late."""
    return {key: found for key, found in now.items() if key in before and before[key][0] == found[0]}


async def _differences(store: Store, ids: list[str]) -> Differences:
    newest = await _newest_messages(store, ids)
    # Entries before headers: a header read later is at least as new as any entry that is right.
    entries = {
        (entry["_id"]["u"], entry["_id"]["c"]): entry["state"]
        for entry in await find_all(store.inboxes, {"_id.c": {"$in": ids}})
    }
    found = Differences()
    for header in await find_all(store.conversations, {"_id": {"$in": ids}}):
        message = newest.get(header["_id"])
        last_seq = header["last"]["seq"] if header.get("last") else 0
        if message is not None and message["seq"] > last_seq:
            last_seq = message["seq"]
            repair = {"last": _header_of(message), "updated_at": message["sent_at"]}
            found.headers[header["_id"]] = (header.get("last"), UpdateOne({"_id": header["_id"]}, {"$max": repair}))
        if not last_seq:
            continue
        for participant in header["participants"]:
            key = (participant["user_id"], header["_id"])
            state = inbox_state(last_seq, participant["read"]["seq"])
            if entries.get(key, {"n": 0})["n"] != state["n"]:
                found.inboxes[key] = (entries.get(key), _entry_repair(key, entries.get(key), state))
    return found


async def _repair(store: Store, differences: Differences) -> None:
    if differences.headers:
        await store.conversations.bulk_write([repair for _, repair in differences.headers.values()], ordered=False)
    if differences.inboxes:
        await store.inboxes.bulk_write([repair for _, repair in differences.inboxes.values()], ordered=False)


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


# --- The command ------------------------------------------------------------------------------------------


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    every: Annotated[
        float, typer.Option(help="Seconds between two recounts, until SIGTERM; 0 = one, and then end.", min=0)
    ] = 0,
    port: Annotated[int, typer.Option(help="With --every: port of /metrics; 0 = none.", min=0, max=65_535)] = 0,
    host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
) -> None:
    """Rebuild every header's newest message and every inbox from the messages; print how many differed."""
    run(_repeat(every, host, port) if every else _once(as_json=as_json))


async def _once(*, as_json: bool) -> None:
    store = Store(load(Settings))
    try:
        result = await recount_all(store)
    finally:
        await store.close()
    if as_json:
        sys.stdout.write(json.dumps(result.__dict__) + "\n")
    else:
        console.print(
            f"{result.conversations} conversations: {result.headers_differed} headers and "
            f"{result.inboxes_differed} inbox entries differed."
        )


async def _repeat(every: float, host: str, port: int) -> None:
    """Recount again and again, and export what was found. What is only late does not count."""
    settings = load(Settings)
    logs.configure("recount", settings.log_level)
    store = Store(settings)
    trouble: str | None = "nothing was counted yet"

    async def readiness() -> str | None:
        return trouble

    async def count() -> None:
        nonlocal trouble
        while True:
            try:
                _export(await recount_all(store, settle=SETTLE))
                trouble = None
            except StoreUnavailable as error:
                trouble = f"the store is away: {error}"
                log.warning("The recount waits for the store: %s", error)
            await asyncio.sleep(every)

    try:
        await serve(count(), readiness, host=host, port=port)
    finally:
        await store.close()


def _export(result: Recount) -> None:
    metrics.RECOUNT_DIFFERENCES.labels("header").set(result.headers_differed)
    metrics.RECOUNT_DIFFERENCES.labels("inbox").set(result.inboxes_differed)
    metrics.RECOUNT_CONVERSATIONS.set(result.conversations)
    metrics.RECOUNT_FINISHED.set_to_current_time()
    log.info("%s", result)
