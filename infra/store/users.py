"""The `users` collection: profiles from tokens, who is online or blocked, and the search for users."""

import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pymongo

from infra.store.client import BLOCKED, CACHE_SECONDS, Store
from infra.store.operations import FIRST_BATCH, Document, Update, find_all, translated_errors, update_all

_WORDS = re.compile(r"[^\s,;]+")
#: Users who are set offline, or whose presence is pushed again, at once.
MAX_DUE = 5_000
#: Milliseconds between two changes of a user's presence within which two workers may push them in the wrong order, and
#: milliseconds after which such a presence, or one whose push was not confirmed, is pushed again.
QUICK_CHANGE_MS, PUSH_AGAIN_MS = 10_000, 3_000
#: Words of a name or a query that count in the search.
MAX_SEARCH_WORDS = 10


@dataclass(frozen=True)
class Profile:
    """What a user's token says of the user; without a `name`, the id is the name."""

    user_id: str
    name: str
    picture: str | None


class Users:
    """Reads and writes `users`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._users = store.users
        self._checked: set[str] = set()
        self._blocked: set[str] = set()
        self._blocked_at = 0.0

    async def find(self, ids: Collection[str], *, fields: Collection[str] | None = None) -> dict[str, Document]:
        """The documents of these users by id, or some `fields` of them, without users who have never connected."""
        if not ids:
            return {}
        projection = dict.fromkeys(fields, 1) if fields is not None else None
        async with translated_errors():
            found = await find_all(self._users, {"_id": {"$in": list(set(ids))}}, projection)
        return {user["_id"]: user for user in found}

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

    async def search(
        self, searcher: str, query: str, online_only: bool, limit: int, *, limit_ms: int
    ) -> list[Document]:
        """Other users who match, online first, then by name; the store gives up after `limit_ms`."""
        match: Document = {"_id": {"$ne": searcher}}
        words = _search_words(query)
        if words:
            match["$and"] = [{"search_words": {"$regex": f"^{re.escape(word)}"}} for word in words]
        if online_only:
            match["online"] = True
        order = [("online", -1), ("sort_name", 1), ("_id", 1)]
        async with translated_errors():
            # The driver passes on what is left of its own limit, so that `max_time_ms` would have no effect.
            with pymongo.timeout(limit_ms / 1000):
                cursor = self._users.find(match, batch_size=FIRST_BATCH).sort(order).limit(limit)
                found: list[Document] = await cursor.to_list(None)
        return found

    async def store_profiles(self, profiles: Sequence[Profile]) -> None:
        """Store profiles; of several of one user the last one."""
        last = {profile.user_id: profile for profile in profiles}
        async with translated_errors():
            await update_all(self._users, [_store_profile(profile) for profile in last.values()])

    async def set_online(self, ids: Collection[str]) -> list[str]:
        """Set users online and cancel their schedules. Returns those who were offline before.

        The caller must check `SessionDirectory.connected` before and after: a user who left meanwhile has no schedule.
        """
        if not ids:
            return []
        async with translated_errors():
            # In this order: `set_offline` changes only users with a schedule, which is removed before `online` is read.
            scheduled = {"_id": {"$in": list(ids)}, "schedule_id": {"$exists": True}}
            await self._users.update_many(scheduled, {"$unset": _SCHEDULE_FIELDS})
            query = {"_id": {"$in": list(ids)}, "online": {"$ne": True}}
            arrived = [user["_id"] for user in await find_all(self._users, query, {"_id": 1})]
            if arrived:
                await self._users.update_many({"_id": {"$in": arrived}}, [_change(online=True)])
        return arrived

    async def schedule_offline(self, grace_ms: Mapping[str, int]) -> None:
        """Schedule users who are online to go offline after their grace in milliseconds, unless they connect before.

        A schedule replaces the earlier one and has a new id, so that a worker with the earlier one changes nothing.
        """
        by_grace: dict[int, list[str]] = {}
        for user_id, grace in grace_ms.items():
            by_grace.setdefault(grace, []).append(user_id)
        operations = [
            Update(
                {"_id": {"$in": users}, "online": True},
                [{"$set": {"offline_due": {"$add": ["$$NOW", grace]}, "schedule_id": secrets.token_hex(8)}}],
                multi=True,
            )
            for grace, users in by_grace.items()
        ]
        if operations:
            async with translated_errors():
                await update_all(self._users, operations)

    async def due_offline(self) -> dict[str, str]:
        """Users whose schedule is due by the store's clock, with its id."""
        query = {"offline_due": {"$type": "date"}, "$expr": {"$lte": ["$offline_due", "$$NOW"]}}
        async with translated_errors():
            users = await self._users.find(query, {"schedule_id": 1}).limit(MAX_DUE).to_list(None)
        return {user["_id"]: user["schedule_id"] for user in users}

    async def cancel_offline(self, schedules: Mapping[str, str]) -> None:
        """Keep users online who are connected, if their schedule still has this id."""
        if schedules:
            async with translated_errors():
                await self._users.update_many(_with_schedule(schedules), {"$unset": _SCHEDULE_FIELDS})

    async def set_offline(self, schedules: Mapping[str, str]) -> list[str]:
        """Set users offline if their schedule still has this id. Returns those who are offline now."""
        if not schedules:
            return []
        async with translated_errors():
            # Later than any before, even if the primary's clock went back.
            gone = {"last_seen_at": {"$max": ["$$NOW", {"$add": ["$last_seen_at", 1]}]}}
            change = [_change(online=False), {"$set": gone}, {"$unset": list(_SCHEDULE_FIELDS)}]
            await self._users.update_many(_with_schedule(schedules), change)
            query = {"_id": {"$in": list(schedules)}, "online": False}
            return [user["_id"] for user in await find_all(self._users, query, {"_id": 1})]

    async def all_online(self) -> list[str]:
        """Every user who is online, without a limit: for checks of a whole database."""
        async with translated_errors():
            return [user["_id"] for user in await find_all(self._users, {"online": True}, {"_id": 1})]

    async def online_without_schedule(self, after: str, limit: int) -> list[str]:
        """Up to `limit` users after this id who are online without a schedule; "" starts at the first."""
        query = {"online": True, "schedule_id": {"$exists": False}, "_id": {"$gt": after}}
        async with translated_errors():
            users = await self._users.find(query, {"_id": 1}).sort("_id", 1).limit(limit).to_list(None)
        return [user["_id"] for user in users]

    # --- Pushed presence ----------------------------------------------------------------------------------

    async def mark_pushed(self, users: Mapping[str, Document]) -> None:
        """Note that these users' presence was pushed as it is in `users`.

        The sweep pushes it again when it was changed in quick succession, or has changed since it was read: another
        worker may have pushed the change before.
        """
        if users:
            unchanged = [{**_as_read(user), "push_again": {"$ne": True}} for user in users.values()]
            pushed = Update({"$or": unchanged}, {"$unset": {"unpushed": ""}}, multi=True)
            async with translated_errors():
                await update_all(self._users, [pushed, _push_again_if_changed(users)])

    async def push_again_if_changed(self, users: Mapping[str, Document]) -> None:
        """Have the sweep push the presence of those users whose presence has changed since they were read.

        To be called once a view of them is sent: clients may have got it after the push of the change.
        """
        if users:
            async with translated_errors():
                await update_all(self._users, [_push_again_if_changed(users)])

    async def take_unpushed(self) -> list[str]:
        """Users whose presence changed more than `PUSH_AGAIN_MS` ago and may not have been pushed correctly."""
        old = {"$lt": ["$changed_at", {"$subtract": ["$$NOW", PUSH_AGAIN_MS]}]}
        async with translated_errors():
            query = {"unpushed": True, "$expr": old}
            ids = [user["_id"] for user in await self._users.find(query, {"_id": 1}).limit(MAX_DUE).to_list(None)]
            if ids:
                await self._users.update_many({"_id": {"$in": ids}, **query}, {"$unset": {"push_again": ""}})
        return ids


#: The fields of a schedule: the time, and its id.
_SCHEDULE_FIELDS = {"offline_due": "", "schedule_id": ""}


def _with_schedule(schedules: Mapping[str, str]) -> Document:
    by_id: dict[str, list[str]] = {}
    for user_id, id in schedules.items():
        by_id.setdefault(id, []).append(user_id)
    return {"$or": [{"_id": {"$in": users}, "schedule_id": id} for id, users in by_id.items()]}


def _change(*, online: bool) -> Document:
    """A stage that sets `online`, and notes that the change must be pushed and whether it follows another one
    quickly."""
    quick = {"$gt": ["$changed_at", {"$subtract": ["$$NOW", QUICK_CHANGE_MS]}]}
    return {"$set": {"online": online, "changed_at": "$$NOW", "unpushed": True, "push_again": quick}}


def _as_read(user: Document) -> Document:
    """Matches a user whose presence is still as it was read."""
    return {"_id": user["_id"], "changed_at": user.get("changed_at")}


def _push_again_if_changed(users: Mapping[str, Document]) -> Update:
    changed = [{"_id": user_id, "changed_at": {"$ne": user.get("changed_at")}} for user_id, user in users.items()]
    return Update({"$or": changed}, {"$set": {"unpushed": True, "push_again": True}}, multi=True)


def _store_profile(profile: Profile) -> Update:
    name = profile.name or profile.user_id
    return Update(
        {"_id": profile.user_id},
        {
            "$set": {
                "name": name,
                "picture": profile.picture,
                "sort_name": name.casefold(),
                "search_words": _search_words(f"{name} {profile.user_id}"),
            },
        },
        upsert=True,
    )


def _search_words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())[:MAX_SEARCH_WORDS]
