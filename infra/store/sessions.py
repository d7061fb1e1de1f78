"""The session directory: the `sessions` collection says which edges hold a user, `edges` holds the edges' leases."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.reports import EdgeAlive, SessionClose, SessionOpen
from infra.store.client import Store
from infra.store.operations import Document, Update, aggregate, find_all, translated_errors, update_all


@dataclass(frozen=True)
class Session:
    """A user with at least one socket on an edge, as the edge registered it under `epoch`."""

    user_id: str
    edge_id: str
    epoch: int


class SessionDirectory:
    """Reads and writes `sessions` and `edges`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._sessions = store.sessions
        self._edges = store.edges

    async def locate(self, users: Collection[str]) -> list[Session]:
        """The open sessions of these users."""
        return await self._find({"user_id": {"$in": list(users)}, "open": True})

    async def record(self, changes: Iterable[SessionOpen | SessionClose]) -> None:
        """Store opens and closes. For one user on one edge the highest version wins, in any order of arrival."""
        newest: dict[tuple[str, str], SessionOpen | SessionClose] = {}
        for change in changes:
            key = (change.edge_id, change.user_id)
            if key not in newest or change.version > newest[key].version:
                newest[key] = change
        if not newest:
            return
        async with translated_errors():
            await update_all(self._sessions, [_write_if_newer(change) for change in newest.values()])

    async def renew_leases(self, alive: Iterable[EdgeAlive]) -> dict[str, bool]:
        """Renew leases by the store's clock. Returns for each edge whether its sessions are still stored."""
        epochs = {command.edge_id: command.epoch for command in alive}
        async with translated_errors():
            known = {edge["_id"]: edge for edge in await find_all(self._edges, {"_id": {"$in": list(epochs)}})}
            await update_all(
                self._edges,
                [
                    Update({"_id": edge_id}, {"$currentDate": {"seen_at": True}, "$max": {"epoch": epoch}}, upsert=True)
                    for edge_id, epoch in epochs.items()
                ],
            )
        return {
            edge_id: edge_id in known and known[edge_id].get("dropped_epoch", -1) < epoch
            for edge_id, epoch in epochs.items()
        }

    async def add_leases(self, edges: dict[str, int]) -> None:
        """Give a lease to each edge that has none, by edge id and epoch: its sessions expire with the lease."""
        if not edges:
            return
        async with translated_errors():
            await update_all(
                self._edges,
                [
                    Update(
                        {"_id": edge_id},
                        {"$setOnInsert": {"seen_at": datetime.now(UTC)}, "$max": {"epoch": epoch}},
                        upsert=True,
                    )
                    for edge_id, epoch in edges.items()
                ],
            )

    async def expired_leases(self, lease_seconds: float) -> dict[str, int]:
        """Edges with sessions whose lease has expired by the store's clock, with their epoch."""
        pipeline = [
            {"$match": {"$expr": {"$lt": ["$seen_at", {"$subtract": ["$$NOW", int(lease_seconds * 1000)]}]}}},
            {"$match": {"$expr": {"$lt": [{"$ifNull": ["$dropped_epoch", -1]}, "$epoch"]}}},
            {"$limit": 1_000},
        ]
        async with translated_errors():
            return {edge["_id"]: edge["epoch"] for edge in await aggregate(self._edges, pipeline)}

    async def drop_sessions(self, edge_id: str, epoch: int) -> list[str]:
        """Delete the sessions of an edge up to an epoch. Returns the users who had an open one."""
        query = {"edge_id": edge_id, "epoch": {"$lte": epoch}}
        dropped = await self._find({**query, "open": True})
        async with translated_errors():
            # Marked first: an edge that renews its lease meanwhile is told to register its users again.
            await self._edges.update_one({"_id": edge_id}, {"$max": {"dropped_epoch": epoch}})
            await self._sessions.delete_many(query)
        return [session.user_id for session in dropped]

    async def edges_seen_at(self, edge_ids: Collection[str]) -> dict[str, datetime | None]:
        """When each edge last renewed its lease, by the store's clock, without edges that are not stored."""
        async with translated_errors():
            edges = await find_all(self._edges, {"_id": {"$in": list(edge_ids)}}, {"seen_at": 1})
        return {edge["_id"]: edge.get("seen_at") for edge in edges}

    async def _find(self, query: dict[str, Any]) -> list[Session]:
        async with translated_errors():
            found = await find_all(self._sessions, query, {"_id": 0, "user_id": 1, "edge_id": 1, "epoch": 1})
        return [Session(**document) for document in found]


def _write_if_newer(change: SessionOpen | SessionClose) -> Update:
    """Replace the session unless the stored one has a higher version. A closed session stays as a tombstone."""
    opened = isinstance(change, SessionOpen)
    document: Document = {
        "edge_id": change.edge_id,
        "user_id": change.user_id,
        "epoch": change.epoch,
        "version": change.version,
        "open": opened,
        "closed_at": None if opened else datetime.now(UTC),
    }
    newer = {"$gt": [change.version, {"$ifNull": ["$version", -1]}]}
    # $literal: a user id may start with a dollar sign.
    merged = {"$mergeObjects": ["$$ROOT", {"$literal": document}]}
    return Update(
        {"_id": {"e": change.edge_id, "u": change.user_id}},
        [{"$replaceWith": {"$cond": [newer, merged, "$$ROOT"]}}],
        upsert=True,
    )
