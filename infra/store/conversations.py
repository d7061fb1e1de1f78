"""The `conversations` collection: a header per conversation, with participants, watermarks and the newest message."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.counting import unread_count
from contracts.values import SHOWN_PARTICIPANTS
from infra.store.client import Store
from infra.store.messages import StoredMessage
from infra.store.operations import Document, Term, Update, find_all, translated_errors, union, update_all

#: Headers in one batch of the query for audiences.
AUDIENCE_BATCH = 200


@dataclass(frozen=True)
class Watermark:
    """The seq up to which a participant has read, and when it last moved; None when it never did."""

    seq: int
    at: datetime | None


@dataclass(frozen=True)
class StoredConversation:
    """What is stored of a conversation, or a part of it."""

    id: str
    document: Document

    @property
    def last_seq(self) -> int:
        """The seq of the newest message; 0 without a message."""
        return int(self.last["seq"]) if self.last else 0

    @property
    def last(self) -> Document | None:
        """The newest message's projection; None without a message."""
        last: Document | None = self.document.get("last")
        return last

    @property
    def user_ids(self) -> list[str]:
        """The participants in `document`, in the order in which they joined, which never changes."""
        return [participant["user_id"] for participant in self.document["participants"]]


@dataclass(frozen=True)
class Summary(StoredConversation):
    """What one participant, the reader, is shown of a header.

    `document` has the first `SHOWN_PARTICIPANTS` of the `participant_count` participants; `read` is the reader's own
    watermark.
    """

    participant_count: int
    read: Watermark

    @property
    def unread(self) -> int:
        """The reader's number of unread messages."""
        return unread_count(self.last_seq, self.read.seq)


@dataclass(frozen=True)
class Header(StoredConversation):
    """A conversation's header as it is stored."""

    @property
    def opened_by(self) -> list[str]:
        """The users who started the conversation; a direct one may be started by both."""
        opened_by: list[str] = self.document["opened_by"]
        return opened_by

    def watermark(self, user_id: str) -> Watermark:
        """A participant's watermark; 0 for other users."""
        for participant in self.document["participants"]:
            if participant["user_id"] == user_id:
                return Watermark(participant["read"]["seq"], participant["read"]["at"])
        return Watermark(0, None)

    def watermarks(self) -> dict[str, Watermark]:
        """The watermark of each participant."""
        parts = self.document["participants"]
        return {part["user_id"]: Watermark(part["read"]["seq"], part["read"]["at"]) for part in parts}

    def watermark_path(self, user_id: str) -> str:
        """The path of a participant's watermark in the document."""
        return f"participants.{self.user_ids.index(user_id)}.read"

    def unread(self, user_id: str) -> int:
        """A participant's number of unread messages. It is computed from the header and never incremented."""
        return unread_count(self.last_seq, self.watermark(user_id).seq)

    def summary(self, reader: str) -> Summary:
        """What this participant is shown."""
        participants = self.document["participants"]
        document = {**self.document, "participants": participants[:SHOWN_PARTICIPANTS]}
        return Summary(self.id, document, len(participants), self.watermark(reader))

    @property
    def term(self) -> Term:
        """The term in which the newest message was inserted or confirmed. In a later term, the message may be lost."""
        term: Term = self.last.get("term") if self.last else None
        return term

    def with_messages(self, messages: Iterable[StoredMessage], term: Term) -> "Header":
        """The header as `Conversations.advance` writes it for these messages, inserted in `term`."""
        last, reads = self.document.get("last"), {}
        for message in sorted(messages, key=lambda message: message.seq):
            if message.seq > (last["seq"] if last else 0):
                last = message.projection(term)
            if message.seq > self.watermark(message.sender_id).seq:
                reads[message.sender_id] = {"seq": message.seq, "at": message.sent_at}
        participants = [
            {**part, "read": reads.get(part["user_id"], part["read"])} for part in self.document["participants"]
        ]
        return Header(self.id, {**self.document, "last": last, "participants": participants})


@dataclass(frozen=True)
class NewConversation:
    """A conversation that `by` starts; it may exist already."""

    id: str
    kind: str
    title: str | None
    user_ids: list[str]
    by: str


@dataclass(frozen=True)
class ConversationPageQuery:
    """A page of a user's conversations: the `limit` newest that come after the position `before` = (updated_at, id)."""

    user_id: str
    before: tuple[datetime, str] | None
    limit: int


@dataclass(frozen=True)
class ParticipantPageQuery:
    """A page of a conversation's participants for one of them: `limit` from the place `start` on."""

    conversation_id: str
    user_id: str
    start: int
    limit: int


class Conversations:
    """Reads and writes `conversations`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._conversations = store.conversations

    async def headers(self, ids: Collection[str]) -> dict[str, Header]:
        """Headers by conversation id, without those that do not exist."""
        if not ids:
            return {}
        async with translated_errors():
            found = await find_all(self._conversations, {"_id": {"$in": list(set(ids))}})
        return {document["_id"]: Header(document["_id"], document) for document in found}

    async def start(self, starts: Sequence[NewConversation]) -> None:
        """Create the conversations that do not exist, and add who started them. Repeating it changes nothing."""
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
            async with translated_errors():
                await update_all(self._conversations, operations)

    async def advance(
        self, messages: Iterable[StoredMessage], headers: Mapping[str, Header], inserted_in: Term
    ) -> Term:
        """Project stored messages, at least one, into their headers: the newest message and each sender's watermark.

        The messages were inserted in the term `inserted_in`. `headers` give each sender's position among the
        participants, which never changes. Returns the term of the primary that took the write: everything that the same
        primary took before is now committed to a majority.
        """
        newest: dict[str, dict[str, StoredMessage]] = {}
        for message in messages:
            by_sender = newest.setdefault(message.conversation_id, {})
            if message.sender_id not in by_sender or message.seq > by_sender[message.sender_id].seq:
                by_sender[message.sender_id] = message
        operations = []
        for conversation_id, by_sender in newest.items():
            last = max(by_sender.values(), key=lambda message: message.seq)
            raised: Document = {"last": last.projection(inserted_in), "updated_at": last.sent_at}
            for sender_id, message in by_sender.items():
                path = headers[conversation_id].watermark_path(sender_id)
                raised[path] = {"seq": message.seq, "at": message.sent_at}
            operations.append(Update({"_id": conversation_id}, {"$max": raised}))
        async with translated_errors():
            return await update_all(self._conversations, operations)

    async def reproject(self, newest: Mapping[str, StoredMessage], headers: Iterable[Header], term: Term) -> None:
        """Set the newest message of headers to the newest committed one, or to none, unless they have changed.

        A header may contain a message that is lost: it was inserted on a primary that failed, and projected into the
        header on its successor. Watermarks above the newest message are lowered to it.
        """
        updates = []
        for header in headers:
            message = newest.get(header.id)
            last_seq = message.seq if message is not None else 0
            seq = {"$min": ["$$part.read.seq", last_seq]}
            part = {"$mergeObjects": ["$$part", {"read": {"seq": seq, "at": "$$part.read.at"}}]}
            change: Document = {
                "last": {"$literal": message.projection(term) if message is not None else None},
                "participants": {"$map": {"input": "$participants", "as": "part", "in": part}},
            }
            as_read = {"_id": header.id, "last.seq": header.last_seq, "last.term": header.term}
            updates.append(Update(as_read, [{"$set": change}]))
        if updates:
            async with translated_errors():
                await update_all(self._conversations, updates)

    async def mark_read(self, marks: Mapping[tuple[str, str], Watermark], headers: Mapping[str, Header]) -> None:
        """Move watermarks, by (conversation, user), forward. A lower one than the stored changes nothing."""
        operations = [
            Update(
                {"_id": conversation_id},
                {"$max": {headers[conversation_id].watermark_path(user_id): {"seq": read.seq, "at": read.at}}},
            )
            for (conversation_id, user_id), read in marks.items()
        ]
        if operations:
            async with translated_errors():
                await update_all(self._conversations, operations)

    async def audiences(self, user_ids: Collection[str]) -> dict[str, set[str]]:
        """For each user, the other participants of all conversations that have a message."""
        wanted = set(user_ids)
        found: dict[str, set[str]] = {user_id: set() for user_id in wanted}
        query = {"participants.user_id": {"$in": list(wanted)}, "last": {"$ne": None}}
        cursor = self._conversations.find(query, {"_id": 0, "participants.user_id": 1}, batch_size=AUDIENCE_BATCH)
        async with translated_errors():
            while part := await cursor.to_list(AUDIENCE_BATCH):
                for header in part:
                    members = {participant["user_id"] for participant in header["participants"]}
                    for user_id in members & wanted:
                        found[user_id] |= members
        return {user_id: audience - {user_id} for user_id, audience in found.items()}

    async def pages(self, queries: Sequence[ConversationPageQuery]) -> list[list[Summary]]:
        """Up to `limit` summaries for each query, newest activity first."""
        async with translated_errors():
            results = await union(self._conversations, [_page(query) for query in queries])
        return [[_summary(document) for document in documents] for documents in results]

    async def summaries(self, readers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Summary]:
        """The summaries of conversations for their readers, by (conversation, reader)."""
        wanted = list(dict.fromkeys(readers))
        pipelines = [[{"$match": {"_id": id}}, _summarized(reader)] for id, reader in wanted]
        async with translated_errors():
            results = await union(self._conversations, pipelines)
        return {key: _summary(document) for key, found in zip(wanted, results, strict=True) for document in found}

    async def participants(self, queries: Sequence[ParticipantPageQuery]) -> list[list[Document] | None]:
        """For each query the participants of its page, or None where the user may not see the conversation."""
        pipelines = [
            [
                {"$match": {"_id": query.conversation_id, **_visible_to(query.user_id)}},
                {"$project": {"participants": {"$slice": ["$participants", query.start, query.limit]}}},
            ]
            for query in queries
        ]
        async with translated_errors():
            results = await union(self._conversations, pipelines)
        return [found[0]["participants"] if found else None for found in results]

    async def ids_after(self, after: str, limit: int) -> list[str]:
        """Up to `limit` conversation ids after this one, in order; "" starts at the first."""
        async with translated_errors():
            cursor = self._conversations.find({"_id": {"$gt": after}}, {"_id": 1}).sort("_id", 1).limit(limit)
            return [document["_id"] for document in await cursor.to_list(None)]

    async def delete(self, conversation_id: str) -> None:
        """Remove a header."""
        async with translated_errors():
            await self._conversations.delete_one({"_id": conversation_id})


def _page(query: ConversationPageQuery) -> list[dict[str, Any]]:
    match = _visible_to(query.user_id)
    if query.before is not None:
        updated_at, conversation_id = query.before
        older = {"updated_at": {"$lt": updated_at}}
        same = {"updated_at": updated_at, "_id": {"$lt": conversation_id}}
        match["$and"] = [{"$or": [older, same]}]
    order = {"updated_at": -1, "_id": -1}
    return [{"$match": match}, {"$sort": order}, {"$limit": query.limit}, _summarized(query.user_id)]


def _visible_to(user_id: str) -> Document:
    """Matches the conversations that a user may see; the functions of `workers.visibility` have the same rule."""
    return {"participants.user_id": user_id, "$or": [{"last": {"$ne": None}}, {"opened_by": user_id}]}


def _summarized(reader: str) -> Document:
    """A stage that leaves of a header what `Summary` needs, so that a large group costs no more than a small one."""
    own = {"$filter": {"input": "$participants", "cond": {"$eq": ["$$this.user_id", {"$literal": reader}]}}}
    return {
        "$set": {
            "participants": {"$slice": ["$participants", SHOWN_PARTICIPANTS]},
            "participant_count": {"$size": "$participants"},
            "own": {"$arrayElemAt": [own, 0]},
        }
    }


def _summary(document: Document) -> Summary:
    read = document["own"]["read"]
    return Summary(document["_id"], document, document["participant_count"], Watermark(read["seq"], read["at"]))
