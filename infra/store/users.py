"""Users: the profile from their token, whether they are online, and the search for a fellow coder."""

import re
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.reports import SessionOpen
from infra.store.client import BLOCKED, CACHED_FOR, Store
from infra.store.operations import FIRST_BATCH, Document, Update, find_all, guarded, union, update_all

_WORDS = re.compile(r"[^\s,;]+")
#: Words of a name or a query that count in the search.
MAX_TERMS = 10


class Users:
    """Reads and writes of `users`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._users = store.users
        self._asked: set[str] = set()
        self._blocked: set[str] = set()
        self._blocked_at = 0.0

    async def find(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents of those that the system has seen, by id."""
        if not ids:
            return {}
        async with guarded():
            return {user["_id"]: user for user in await find_all(self._users, {"_id": {"$in": list(ids)}})}

    async def blocked(self, ids: Collection[str]) -> set[str]:
        """Those who may not write; what was true a few seconds ago still counts."""
        now = time.monotonic()
        if now - self._blocked_at > CACHED_FOR:
            self._asked.clear()
            self._blocked.clear()
            self._blocked_at = now
        new = [user_id for user_id in ids if user_id not in self._asked]
        if new:
            query = {"blocked": True, "_id": {"$in": new}}
            async with guarded():
                found = await self._users.find(query, {"_id": 1}, batch_size=FIRST_BATCH).hint(BLOCKED).to_list(None)
            self._blocked.update(user["_id"] for user in found)
            self._asked.update(new)
        return self._blocked.intersection(ids)

    async def set_blocked(self, user_id: str, blocked: bool) -> bool:
        """Forbid or allow a user to write; workers act on it within `CACHED_FOR`. False for who was never here."""
        async with guarded():
            result = await self._users.update_one({"_id": user_id}, {"$set": {"blocked": blocked}})
        return bool(result.matched_count)

    async def search(self, queries: list[tuple[str, str, bool, int]]) -> list[list[Document]]:
        """For each (asking user, query, online only, limit): who matches, online first, then by name."""
        pipelines: list[list[dict[str, Any]]] = []
        for asking, query, online_only, limit in queries:
            match: Document = {"_id": {"$ne": asking}}
            words = _terms(query)
            if words:
                match["$and"] = [{"terms": {"$regex": f"^{re.escape(word)}"}} for word in words]
            if online_only:
                match["online"] = True
            pipelines.append(
                [{"$match": match}, {"$sort": {"online": -1, "sort_name": 1, "_id": 1}}, {"$limit": limit}]
            )
        async with guarded():
            return await union(self._users, pipelines)

    async def come_online(self, opens: Iterable[SessionOpen]) -> list[str]:
        """Store profiles and cancel planned absences; returns those who were offline until now.

        Exact under any interleaving with `go_offline`: that acts only on a planned absence, which is cancelled
        here before anyone looks at `online`.
        """
        newest = {command.user_id: command for command in opens}
        if not newest:
            return []
        async with guarded():
            await update_all(self._users, [_profile(command) for command in newest.values()])
            query = {"_id": {"$in": list(newest)}, "online": {"$ne": True}}
            arrived = [user["_id"] for user in await find_all(self._users, query, {"_id": 1})]
            if arrived:
                await self._users.update_many({"_id": {"$in": arrived}}, {"$set": {"online": True}})
        return arrived

    async def plan_absence(self, grace_ms: dict[str, int]) -> None:
        """Let these users go offline after their grace, unless they come back."""
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
        async with guarded():
            await update_all(self._users, operations)

    async def absence_due(self) -> list[str]:
        """Those whose planned absence is due."""
        query = {"offline_due": {"$lte": datetime.now(UTC)}}
        async with guarded():
            users = await self._users.find(query, {"_id": 1}).limit(10_000).to_list(None)
        return [user["_id"] for user in users]

    async def cancel_absence(self, ids: Collection[str]) -> None:
        """Keep online whoever turned out to be connected elsewhere."""
        if ids:
            async with guarded():
                await self._users.update_many({"_id": {"$in": list(ids)}}, {"$unset": {"offline_due": ""}})

    async def go_offline(self, ids: Collection[str]) -> list[Document]:
        """Set offline whoever's absence is still due; returns their documents."""
        if not ids:
            return []
        now = datetime.now(UTC)
        async with guarded():
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
