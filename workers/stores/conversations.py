"""Conversations: light headers with their participants, a read watermark for each, and the newest message."""

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.commands import ListConversations
from contracts.errors import Code, Refused
from contracts.models import Conversation, Participant
from contracts.values import rfc3339
from infra.store import Document, Election, Store, Update, find_all, guarded, union, update_all
from workers.stores.messages import StoredMessage, last_message_view
from workers.stores.users import last_seen, user_view

#: Participants on one page of conversations, about 400 KB of text; a page of large groups ends early, well below what
#: may wait for a socket.
PAGE_PARTICIPANTS = 2_000


@dataclass(frozen=True)
class Read:
    """How far someone has read, and since when."""

    seq: int
    at: datetime | None


@dataclass(frozen=True)
class Header:
    """A conversation's header as the store has it."""

    id: str
    document: Document

    @property
    def last_seq(self) -> int:
        """The seq of the newest message, 0 where there is none."""
        last = self.document.get("last")
        return int(last["seq"]) if last else 0

    @property
    def user_ids(self) -> list[str]:
        """The participants."""
        return [participant["user_id"] for participant in self.document["participants"]]

    def visible_to(self, user_id: str) -> bool:
        """No ghost chats: without a message only those who started it may know of it."""
        if self.document.get("last") is None:
            return user_id in self.document["opened_by"]
        return user_id in self.user_ids

    def viewers(self) -> list[str]:
        """Those who may know of it."""
        return [user_id for user_id in self.user_ids if self.visible_to(user_id)]

    def read(self, user_id: str) -> Read:
        """A participant's watermark."""
        for participant in self.document["participants"]:
            if participant["user_id"] == user_id:
                return Read(participant["read"]["seq"], participant["read"]["at"])
        return Read(0, None)

    def read_path(self, user_id: str) -> str:
        """Where in the document a participant's watermark stands."""
        return f"participants.{self.user_ids.index(user_id)}.read"

    def unread(self, user_id: str) -> int:
        """A participant's unread messages: always computed, never counted up."""
        return max(0, self.last_seq - self.read(user_id).seq)

    def with_messages(self, messages: Iterable[StoredMessage]) -> "Header":
        """The header as it is once these messages are shown in it; see `Conversations.advance`."""
        last, reads = self.document.get("last"), {}
        for message in sorted(messages, key=lambda message: message.seq):
            if message.seq > (last["seq"] if last else 0):
                last = message.header()
            if message.seq > self.read(message.sender_id).seq:
                reads[message.sender_id] = {"seq": message.seq, "at": message.sent_at}
        participants = [
            {**part, "read": reads.get(part["user_id"], part["read"])} for part in self.document["participants"]
        ]
        return Header(self.id, {**self.document, "last": last, "participants": participants})

    def view(self, viewer: str, users: Mapping[str, Document]) -> Conversation:
        """The conversation as one participant sees it, fully populated."""
        document = self.document
        return Conversation.model_construct(
            id=self.id,
            kind=document["kind"],
            title=document["title"],
            created_by=document["created_by"],
            created_at=rfc3339(document["created_at"]),
            updated_at=rfc3339(document["updated_at"]),
            last_seq=self.last_seq,
            unread_count=self.unread(viewer),
            last_message=last_message_view(document.get("last")),
            participants=[_participant(part, users.get(part["user_id"])) for part in document["participants"]],
        )


def _participant(part: Document, user: Document | None) -> Participant:
    read = part["read"]
    return Participant.model_construct(
        user=user_view(part["user_id"], user),
        online=bool(user and user.get("online")),
        last_seen_at=last_seen(user) if user else None,
        last_read_seq=read["seq"],
        last_read_at=rfc3339(read["at"]) if read["at"] else None,
    )


@dataclass(frozen=True)
class Start:
    """A conversation that someone starts, or finds to exist already."""

    id: str
    kind: str
    title: str | None
    user_ids: list[str]
    by: str


class Conversations:
    """Reads and writes of `conversations`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._conversations = store.conversations

    async def headers(self, ids: Collection[str]) -> dict[str, Header]:
        """Headers by conversation id; those that do not exist are left out."""
        if not ids:
            return {}
        async with guarded():
            found = await find_all(self._conversations, {"_id": {"$in": list(set(ids))}})
        return {document["_id"]: Header(document["_id"], document) for document in found}

    async def start(self, starts: Sequence[Start]) -> None:
        """Create what does not exist yet, and note who opened it. Repeating it changes nothing."""
        now = datetime.now(UTC)
        operations = [
            Update(
                {"_id": start.id},
                {
                    "$setOnInsert": {
                        "kind": start.kind,
                        "title": start.title,
                        "created_by": start.by,
                        "created_at": now,
                        "updated_at": now,
                        "participants": [
                            {"user_id": user_id, "read": {"seq": 0, "at": None}} for user_id in start.user_ids
                        ],
                        "last": None,
                    },
                    "$addToSet": {"opened_by": start.by},
                },
                upsert=True,
            )
            for start in starts
        ]
        if operations:
            async with guarded():
                await update_all(self._conversations, operations)

    async def advance(self, messages: Iterable[StoredMessage], headers: Mapping[str, Header]) -> Election:
        """Project stored messages, at least one, into their headers: the newest, and each sender's own watermark.

        `headers` tell where in a conversation each sender stands; people and their order never change. Returns who
        took it: on the same primary, everything written before is committed to a majority now.
        """
        newest: dict[str, dict[str, StoredMessage]] = {}
        for message in messages:
            by_sender = newest.setdefault(message.conversation_id, {})
            if message.sender_id not in by_sender or message.seq > by_sender[message.sender_id].seq:
                by_sender[message.sender_id] = message
        operations = []
        for conversation_id, by_sender in newest.items():
            last = max(by_sender.values(), key=lambda message: message.seq)
            raised: Document = {"last": last.header(), "updated_at": last.sent_at}
            for sender_id, message in by_sender.items():
                path = headers[conversation_id].read_path(sender_id)
                raised[path] = {"seq": message.seq, "at": message.sent_at}
            operations.append(Update({"_id": conversation_id}, {"$max": raised}))
        async with guarded():
            return await update_all(self._conversations, operations)

    async def mark_read(self, marks: Mapping[tuple[str, str], Read], headers: Mapping[str, Header]) -> None:
        """Move watermarks, by (conversation, user), forward; none ever moves back."""
        operations = [
            Update(
                {"_id": conversation_id},
                {"$max": {headers[conversation_id].read_path(user_id): {"seq": read.seq, "at": read.at}}},
            )
            for (conversation_id, user_id), read in marks.items()
        ]
        if operations:
            async with guarded():
                await update_all(self._conversations, operations)

    async def sharing_with(self, user_ids: Collection[str]) -> list[Header]:
        """Headers of every conversation that any of these users is in."""
        projection = {"participants.user_id": 1, "last.seq": 1, "opened_by": 1}
        async with guarded():
            found = await find_all(self._conversations, {"participants.user_id": {"$in": list(user_ids)}}, projection)
        return [Header(document["_id"], document) for document in found]

    async def pages(self, queries: Sequence[ListConversations]) -> list[tuple[list[Header], str | None]]:
        """A page for each query, newest activity first, with the cursor of the next one."""
        async with guarded():
            results = await union(self._conversations, [_page(query) for query in queries])
        pages = []
        for query, documents in zip(queries, results, strict=True):
            page = _not_too_many([Header(document["_id"], document) for document in documents[: query.payload.limit]])
            pages.append((page, _cursor(page[-1]) if len(documents) > len(page) else None))
        return pages


def _not_too_many(headers: list[Header]) -> list[Header]:
    """End a page early when it would show too many people; there is always at least one conversation on it."""
    people = 0
    for index, header in enumerate(headers):
        people += len(header.user_ids)
        if people > PAGE_PARTICIPANTS and index:
            return headers[:index]
    return headers


def _page(query: ListConversations) -> list[dict[str, Any]]:
    match: Document = {
        "participants.user_id": query.user_id,
        "$or": [{"last": {"$ne": None}}, {"opened_by": query.user_id}],
    }
    if query.payload.cursor is not None:
        updated_at, conversation_id = read_cursor(query.payload.cursor)
        older = {"updated_at": {"$lt": updated_at}}
        same = {"updated_at": updated_at, "_id": {"$lt": conversation_id}}
        match["$and"] = [{"$or": [older, same]}]
    return [{"$match": match}, {"$sort": {"updated_at": -1, "_id": -1}}, {"$limit": query.payload.limit + 1}]


def _cursor(header: Header) -> str:
    text = f"{rfc3339(header.document['updated_at'])} {header.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Where a page ended. Raises Refused(invalid_payload) for anything that we did not hand out."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, conversation_id = text.split(" ", 1)
        return datetime.fromisoformat(moment).astimezone(UTC), conversation_id
    except (ValueError, OverflowError, binascii.Error):
        details = [{"field": "cursor", "reason": "is no cursor of ours"}]
        raise Refused(Code.INVALID_PAYLOAD, "The payload does not match: cursor.", details=details) from None
