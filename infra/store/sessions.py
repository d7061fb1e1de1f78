"""The session directory: the `sessions` collection says which edges hold a user, `edges` holds the edges' leases."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.store.client import Store
from infra.store.operations import Document, Update, aggregate, find_all, translated_errors, update_all


@dataclass(frozen=True)
class Session:
    """A user with at least one socket on an edge, as the edge registered it under `epoch`."""

    user_id: str
    edge_id: str
    epoch: int


@dataclass(frozen=True)
class SessionChange:
    """A user's session on an edge that opens or closes. The highest (epoch, version) is the newest."""

    user_id: str
    edge_id: str
    epoch: int
    version: int
    open: bool


@dataclass(frozen=True)
class Lease:
    """What is stored for an edge: whether its sessions count, and the highest epoch."""

    known: bool
    epoch: int


class SessionDirectory:
    """Reads and writes `sessions` and `edges`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions = store.sessions
        self._edges = store.edges

    async def locate(self, users: Collection[str]) -> list[Session]:
        """The open sessions of these users."""
        async with self._store.one_term():
            return await self._find({"user_id": {"$in": list(users)}, "open": True})

    async def connected(self, users: Collection[str]) -> set[str]:
        """Which of these users have a valid session: an open one of an epoch that was not dropped."""
        sessions = await self.locate(users)
        dropped = await self._dropped_epochs({session.edge_id for session in sessions})
        return {session.user_id for session in sessions if session.epoch > dropped.get(session.edge_id, -1)}

    async def all_connected(self) -> set[str]:
        """Every user with a valid session, without a limit: for checks of a whole database."""
        return await self.connected({session.user_id for session in await self._find({"open": True})})

    async def record(self, changes: Collection[SessionChange]) -> None:
        """Store opens and closes. They may arrive in any order and any number of times.

        For one user on one edge the highest (epoch, version) wins. An open of a dropped epoch is deleted again.
        """
        newest: dict[tuple[str, str], SessionChange] = {}
        for change in changes:
            key = (change.edge_id, change.user_id)
            if key not in newest or _order(change) > _order(newest[key]):
                newest[key] = change
        if not newest:
            return
        async with translated_errors():
            await update_all(self._sessions, [_write_if_newer(change) for change in newest.values()])
        # Read after the write: a drop marks its epoch before it deletes, so one of the two sees the other.
        dropped = await self._dropped_epochs({edge_id for edge_id, _ in newest})
        refused = [
            {"_id": {"e": edge_id, "u": user_id}, "epoch": {"$lte": dropped[edge_id]}}
            for (edge_id, user_id), change in newest.items()
            if change.open and change.epoch <= dropped.get(edge_id, -1)
        ]
        if refused:
            async with translated_errors():
                await self._sessions.delete_many({"$or": refused})

    async def renew_leases(self, epochs: Mapping[str, int]) -> dict[str, Lease]:
        """Renew leases, by edge id and epoch, by the store's clock. Returns what was stored for each edge before.

        The sessions of an epoch do not count when it was dropped, or when a higher one is stored.
        """
        async with translated_errors():
            known = {edge["_id"]: edge for edge in await find_all(self._edges, {"_id": {"$in": list(epochs)}})}
            await update_all(
                self._edges,
                [
                    Update(
                        {"_id": edge_id}, {"$currentDate": {"renewed_at": True}, "$max": {"epoch": epoch}}, upsert=True
                    )
                    for edge_id, epoch in epochs.items()
                ],
            )
        return {edge_id: _lease(known.get(edge_id), epoch) for edge_id, epoch in epochs.items()}

    async def add_leases(self, epochs: Mapping[str, int]) -> None:
        """Give a lease to each edge that has none, by edge id and epoch: its sessions expire with the lease."""
        if not epochs:
            return
        async with translated_errors():
            await update_all(
                self._edges,
                [
                    Update(
                        {"_id": edge_id},
                        [
                            {
                                "$set": {
                                    "renewed_at": {"$ifNull": ["$renewed_at", "$$NOW"]},
                                    "epoch": {"$max": ["$epoch", epoch]},
                                }
                            }
                        ],
                        upsert=True,
                    )
                    for edge_id, epoch in epochs.items()
                ],
            )

    async def expired_leases(self, lease_seconds: float) -> dict[str, int]:
        """Edges with sessions whose lease has expired by the store's clock, with their epoch."""
        pipeline = [
            {"$match": {"$expr": {"$lt": ["$renewed_at", {"$subtract": ["$$NOW", int(lease_seconds * 1000)]}]}}},
            {"$match": {"$expr": {"$lt": [{"$ifNull": ["$removed_epoch", -1]}, "$epoch"]}}},
            {"$limit": 1_000},
        ]
        async with translated_errors():
            return {edge["_id"]: edge["epoch"] for edge in await aggregate(self._edges, pipeline)}

    async def drop(self, edge_id: str, epoch: int) -> list[str]:
        """Invalidate the sessions of an edge up to an epoch. Returns the users who have an open one.

        From now on, the edge is told to register its users again. `remove` deletes the sessions.
        """
        async with translated_errors():
            await self._edges.update_one({"_id": edge_id}, {"$max": {"dropped_epoch": epoch}}, upsert=True)
        sessions = await self._find({"edge_id": edge_id, "epoch": {"$lte": epoch}, "open": True})
        return [session.user_id for session in sessions]

    async def remove(self, edge_id: str, epoch: int) -> None:
        """Delete the sessions of an edge up to an epoch that was dropped."""
        async with translated_errors():
            await self._sessions.delete_many({"edge_id": edge_id, "epoch": {"$lte": epoch}})
            await self._edges.update_one({"_id": edge_id}, {"$max": {"removed_epoch": epoch}})

    async def leases_renewed_at(self, edge_ids: Collection[str]) -> dict[str, datetime | None]:
        """When each edge last renewed its lease, by the store's clock, without edges that are not stored."""
        async with translated_errors():
            edges = await find_all(self._edges, {"_id": {"$in": list(edge_ids)}}, {"renewed_at": 1})
        return {edge["_id"]: edge.get("renewed_at") for edge in edges}

    async def _dropped_epochs(self, edge_ids: Collection[str]) -> dict[str, int]:
        """The epoch up to which each edge's sessions were dropped, without edges of which none were."""
        if not edge_ids:
            return {}
        query = {"_id": {"$in": list(edge_ids)}, "dropped_epoch": {"$gt": -1}}
        async with translated_errors():
            return {edge["_id"]: edge["dropped_epoch"] for edge in await find_all(self._edges, query)}

    async def _find(self, query: dict[str, Any]) -> list[Session]:
        async with translated_errors():
            found = await find_all(self._sessions, query, {"_id": 0, "user_id": 1, "edge_id": 1, "epoch": 1})
        return [Session(**document) for document in found]


def _lease(edge: Document | None, epoch: int) -> Lease:
    if edge is None:
        return Lease(known=False, epoch=0)
    stored, dropped = edge.get("epoch", 0), edge.get("dropped_epoch", -1)
    return Lease(known=dropped < epoch and stored <= epoch, epoch=max(stored, dropped, 0))


def _order(change: SessionChange) -> tuple[int, int]:
    return change.epoch, change.version


def _write_if_newer(change: SessionChange) -> Update:
    """Replace the session unless the stored (epoch, version) is higher. A closed session stays as a tombstone."""
    document: Document = {
        "edge_id": change.edge_id,
        "user_id": change.user_id,
        "epoch": change.epoch,
        "version": change.version,
        "open": change.open,
    }
    stored_epoch, stored_version = {"$ifNull": ["$epoch", -1]}, {"$ifNull": ["$version", -1]}
    same_epoch = {"$and": [{"$eq": [change.epoch, stored_epoch]}, {"$gt": [change.version, stored_version]}]}
    newer = {"$or": [{"$gt": [change.epoch, stored_epoch]}, same_epoch]}
    # $literal: a user id may start with a dollar sign.
    closed_at = None if change.open else "$$NOW"
    merged = {"$mergeObjects": ["$$ROOT", {"$literal": document}, {"closed_at": closed_at}]}
    return Update(
        {"_id": {"e": change.edge_id, "u": change.user_id}},
        [{"$replaceWith": {"$cond": [newer, merged, "$$ROOT"]}}],
        upsert=True,
    )
