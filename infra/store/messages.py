"""The `messages` collection: the log of the system. Headers and inboxes are projections of it that can be rebuilt."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.store.client import Store
from infra.store.operations import Document, Term, aggregate, find_all, insert_all, translated_errors, union

#: Characters of a message body in its conversation's header.
PREVIEW_CHARACTERS = 120


@dataclass(frozen=True)
class StoredMessage:
    """A message as it is stored."""

    id: str
    conversation_id: str
    seq: int
    sender_id: str
    client_message_id: str
    body: str
    sent_at: datetime

    def projection(self, term: Term) -> Document:
        """The header's `last` for this message, with the term in which it was inserted or confirmed.

        `seq` comes first, then `term`: $max compares field by field.
        """
        return {
            "seq": self.seq,
            "term": term,
            "id": self.id,
            "sender_id": self.sender_id,
            "preview": self.body[:PREVIEW_CHARACTERS],
            "sent_at": self.sent_at,
        }


@dataclass(frozen=True)
class MessagePageQuery:
    """The newest `limit` messages of a conversation, or those nearest to `before_seq` or `after_seq`."""

    conversation_id: str
    before_seq: int | None
    after_seq: int | None
    limit: int


class Messages:
    """Reads and writes `messages`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._messages = store.messages

    async def insert(self, messages: Sequence[StoredMessage]) -> tuple[int, Term]:
        """Insert in order, in one command, up to the first message whose id or (conversation, seq) is taken.

        Returns how many were inserted, and the term of the primary that took them. The stop keeps `seq` dense: a
        message is inserted only when the message before it, of the same batch and conversation, is there.

        The messages are committed once the same primary has taken a later write with majority concern. Callers make
        one next, so the insert itself does not wait for a majority. Behind a router, that does not hold, and it waits.
        """
        documents = [
            {
                "_id": message.id,
                "conversation_id": message.conversation_id,
                "seq": message.seq,
                "sender_id": message.sender_id,
                "client_message_id": message.client_message_id,
                "body": message.body,
                "sent_at": message.sent_at,
            }
            for message in messages
        ]
        async with translated_errors():
            return await insert_all(self._messages, documents, majority=not self._store.has_one_log)

    async def by_id(self, ids: Collection[str]) -> dict[str, StoredMessage]:
        """The committed messages with these ids, by id."""
        if not ids:
            return {}
        async with translated_errors():
            found = await find_all(self._messages, {"_id": {"$in": list(ids)}})
        return {document["_id"]: read_message(document) for document in found}

    async def highest_seqs(self, above: dict[str, int]) -> dict[str, int]:
        """The highest committed seq of each conversation in `above`, or the seq in `above` if that is higher."""
        ranges = [{"conversation_id": conversation, "seq": {"$gte": seq}} for conversation, seq in above.items()]
        pipeline = [{"$match": {"$or": ranges}}, {"$group": {"_id": "$conversation_id", "seq": {"$max": "$seq"}}}]
        async with translated_errors():
            found = await aggregate(self._messages, pipeline)
        return above | {row["_id"]: row["seq"] for row in found}

    async def newest(self, conversation_ids: Collection[str]) -> dict[str, StoredMessage]:
        """The newest committed message of each conversation that has one. For at most 200 conversations at once."""
        pipelines: list[list[dict[str, Any]]] = [
            [{"$match": {"conversation_id": conversation_id}}, {"$sort": {"seq": -1}}, {"$limit": 1}]
            for conversation_id in conversation_ids
        ]
        async with translated_errors():
            found = await union(self._messages, pipelines)
        return {document["conversation_id"]: read_message(document) for documents in found for document in documents}

    async def stream(self, conversation_ids: Collection[str]) -> AsyncIterator[StoredMessage]:
        """All messages of these conversations, in no particular order. Only one batch of the cursor is in memory."""
        async with translated_errors():
            async for document in self._messages.find({"conversation_id": {"$in": list(conversation_ids)}}):
                yield read_message(document)

    async def delete_all(self, conversation_id: str) -> None:
        """Remove every message of a conversation."""
        async with translated_errors():
            await self._messages.delete_many({"conversation_id": conversation_id})

    async def pages(self, queries: Sequence[MessagePageQuery]) -> list[tuple[list[StoredMessage], bool]]:
        """For each query a page in ascending order of seq, and whether more messages follow in its direction."""
        async with translated_errors():
            results = await union(self._messages, [_page(query) for query in queries])
        pages = []
        for query, documents in zip(queries, results, strict=True):
            page = [read_message(document) for document in documents[: query.limit]]
            pages.append((sorted(page, key=lambda message: message.seq), len(documents) > query.limit))
        return pages


def read_message(document: Document) -> StoredMessage:
    """Convert a document of `messages`. Fields of a newer version are ignored."""
    return StoredMessage(
        id=document["_id"],
        conversation_id=document["conversation_id"],
        seq=document["seq"],
        sender_id=document["sender_id"],
        client_message_id=document["client_message_id"],
        body=document["body"],
        sent_at=document["sent_at"],
    )


def _page(query: MessagePageQuery) -> list[dict[str, Any]]:
    match: Document = {"conversation_id": query.conversation_id}
    direction = -1
    if query.after_seq is not None:
        match["seq"] = {"$gt": query.after_seq}
        direction = 1
    elif query.before_seq is not None:
        match["seq"] = {"$lt": query.before_seq}
    # One more than the limit shows whether more messages follow.
    return [{"$match": match}, {"$sort": {"seq": direction}}, {"$limit": query.limit + 1}]
