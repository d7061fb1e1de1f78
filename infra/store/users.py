"""The `users` collection: profiles from tokens, who is online or blocked, and the search for users."""

import re
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.reports import SessionOpen
from infra.store.client import BLOCKED, CACHE_SECONDS, Store
from infra.store.operations import FIRST_BATCH, Document, Update, find_all, translated_errors, union, update_all

_WORDS = re.compile(r"[^\s,;]+")
#: Words of a name or a query that the search uses.
MAX_TERMS = 10


class Users:
    """Reads and writes `users`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._users = store.users
        self._checked: set[str] = set()
        self._blocked: set[str] = set()
        self._blocked_at = 0.0

    async def find(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents of these users by id, without users who have never connected."""
        if not ids:
            return {}
        async with translated_errors():
            return {user["_id"]: user for user in await find_all(self._users, {"_id": {"$in": list(ids)}})}

    async def blocked(self, ids: Collection[str]) -> set[str]:
        """Which of these users are blocked. The answer is cached for up to `CACHE_SECONDS`."""
        now = time.monotonic()
        if now - self._blocked_at > CACHE_SECONDS:
            self._checked.clear()
            self._blocked.clear()
            self._blocked_at = now
        new = [user_id for user_id in ids if user_id not in self._checked]
        if new:
            query = {"blocked": True, "_id": {"$in": new}}
            async with translated_errors():
                found = await self._users.find(query, {"_id": 1}, batch_size=FIRST_BATCH).hint(BLOCKED).to_list(None)
            self._blocked.update(user["_id"] for user in found)
            self._checked.update(new)
        return self._blocked.intersection(ids)

    async def set_blocked(self, user_id: str, blocked: bool) -> bool:
        """Block or unblock a user; workers act on it within `CACHE_SECONDS`. False when the user never connected."""
        async with translated_errors():
            result = await self._users.update_one({"_id": user_id}, {"$set": {"blocked": blocked}})
        return bool(result.matched_count)

    async def search(self, queries: list[tuple[str, str, bool, int]]) -> list[list[Document]]:
        """For each (searching user, query, online only, limit): the other users who match, online first, then by
        name."""
        pipelines: list[list[dict[str, Any]]] = []
        for searcher, query, online_only, limit in queries:
            match: Document = {"_id": {"$ne": searcher}}
            words = _terms(query)
            if words:
                match["$and"] = [{"terms": {"$regex": f"^{re.escape(word)}"}} for word in words]
            if online_only:
                match["online"] = True
            pipelines.append(
                [{"$match": match}, {"$sort": {"online": -1, "sort_name": 1, "_id": 1}}, {"$limit": limit}]
            )
        async with translated_errors():
            return await union(self._users, pipelines)

    async def set_online(self, opens: Iterable[SessionOpen]) -> list[str]:
        """Store profiles, cancel `offline_due`, and set users online. Returns those who were offline before.

        Correct under any interleaving with `set_offline`: that changes only users with `offline_due`, which is removed
        here before `online` is read.
        """
        newest = {command.user_id: command for command in opens}
        if not newest:
            return []
        async with translated_errors():
            await update_all(self._users, [_profile(command) for command in newest.values()])
            query = {"_id": {"$in": list(newest)}, "online": {"$ne": True}}
            arrived = [user["_id"] for user in await find_all(self._users, query, {"_id": 1})]
            if arrived:
                await self._users.update_many({"_id": {"$in": arrived}}, {"$set": {"online": True}})
        return arrived

    async def schedule_offline(self, grace_ms: dict[str, int]) -> None:
        """Let users go offline after their grace in milliseconds, unless they connect before."""
        if not grace_ms:
            return
        now = datetime.now(UTC)
        by_grace: dict[int, list[str]] = {}
        for user_id, grace in grace_ms.items():
            by_grace.setdefault(grace, []).append(user_id)
        operations = [
            Update(
                {"_id": {"$in": users}, "online": True},
                {"$set": {"offline_due": now + timedelta(milliseconds=grace)}},
                multi=True,
            )
            for grace, users in by_grace.items()
        ]
        async with translated_errors():
            await update_all(self._users, operations)

    async def due_offline(self) -> list[str]:
        """Users whose `offline_due` has passed."""
        query = {"offline_due": {"$lte": datetime.now(UTC)}}
        async with translated_errors():
            users = await self._users.find(query, {"_id": 1}).limit(10_000).to_list(None)
        return [user["_id"] for user in users]

    async def cancel_offline(self, ids: Collection[str]) -> None:
        """Keep users online who are connected to another edge."""
        if ids:
            async with translated_errors():
                await self._users.update_many({"_id": {"$in": list(ids)}}, {"$unset": {"offline_due": ""}})

    async def set_offline(self, ids: Collection[str]) -> list[Document]:
        """Set offline those of the users whose `offline_due` has passed. Returns the documents of those offline now."""
        if not ids:
            return []
        now = datetime.now(UTC)
        async with translated_errors():
            await self._users.update_many(
                {"_id": {"$in": list(ids)}, "offline_due": {"$lte": now}},
                {"$set": {"online": False, "last_seen_at": now}, "$unset": {"offline_due": ""}},
            )
            return await find_all(self._users, {"_id": {"$in": list(ids)}, "online": False})


def _profile(command: SessionOpen) -> Update:
    name = command.user_name or command.user_id
    return Update(
        {"_id": command.user_id},
        {
            "$set": {
                "name": name,
                "picture": command.picture,
                "sort_name": name.casefold(),
                "terms": _terms(f"{name} {command.user_id}"),
            },
            "$unset": {"offline_due": ""},
        },
        upsert=True,
    )


def _terms(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())[:MAX_TERMS]
