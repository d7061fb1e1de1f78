"""What a worker meets at its ends, in the hands of a test: the broker's publisher and the session directory."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.errors import StoreUnavailable
from infra.store.conversations import Header
from infra.store.sessions import Session

NOW = datetime(2026, 1, 31, 12, 30, 0, 123_000, tzinfo=UTC)


@dataclass(frozen=True)
class Published:
    """One publish that was confirmed."""

    exchange: str
    key: str
    body: bytes
    persistent: bool
    amqp_headers: dict[str, Any] | None


class ScriptedPublisher:
    """Confirms every publish, unless the next outcome for its key says otherwise."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.published: list[Published] = []
        #: What the next publishes with a key end with, in order; None is a confirm.
        self.outcomes: dict[str, list[Exception | None]] = {}

    async def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        persistent: bool = True,
        amqp_headers: dict[str, Any] | None = None,
    ) -> None:
        """Confirm, or raise what the script says."""
        await asyncio.sleep(0)
        self.attempts.append(key)
        outcomes = self.outcomes.get(key, [])
        outcome = outcomes.pop(0) if outcomes else None
        if outcome is not None:
            raise outcome
        self.published.append(Published(exchange, key, body, persistent, amqp_headers))


class FakeDirectory:
    """A session directory: where users are, unless the store is away."""

    def __init__(self, *sessions: Session) -> None:
        self.sessions = list(sessions)
        self.asked: list[set[str]] = []
        self.is_away = False

    async def locate(self, users: Collection[str]) -> list[Session]:
        """The sessions of these users. Raises StoreUnavailable while the store is away."""
        self.asked.append(set(users))
        if self.is_away:
            raise StoreUnavailable("no primary")
        return [session for session in self.sessions if session.user_id in users]


def header(*users: str, last_seq: int = 0, opened_by: tuple[str, ...] = ("ada",), **changes: Any) -> Header:
    """A header as it is stored: of these users, the first of whom has read everything, with so many messages."""
    last = {"seq": last_seq, "id": "m", "sender_id": users[0], "preview": "hello", "sent_at": NOW} if last_seq else None
    document: dict[str, Any] = {
        "_id": "c1",
        "kind": "direct" if len(users) == 2 else "group",
        "title": None,
        "created_by": users[0],
        "created_at": NOW,
        "updated_at": NOW,
        "opened_by": list(opened_by),
        "participants": [
            {"user_id": user, "read": {"seq": 0 if index else last_seq, "at": None if index else NOW}}
            for index, user in enumerate(users)
        ],
        "last": last,
        **changes,
    }
    return Header(document["_id"], document)
