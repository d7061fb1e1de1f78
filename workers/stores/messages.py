"""Messages: the log. Everything else is a projection of it that any replay repairs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts.commands import ListMessages
from contracts.models import LastMessage, Message
from contracts.values import rfc3339
from infra.store import Document, Election, Store, aggregate, find_all, guarded, insert_all, union

#: Characters of a body that a conversation's header shows.
PREVIEW_CHARACTERS = 120


@dataclass(frozen=True)
class StoredMessage:
    """A message as the store has it."""

    id: str
    conversation_id: str
    seq: int
    sender_id: str
    client_message_id: str
    body: str
    sent_at: datetime

    def view(self) -> Message:
        """The message as clients see it."""
        return Message.model_construct(
            id=self.id,
            conversation_id=self.conversation_id,
            seq=self.seq,
            sender_id=self.sender_id,
            client_message_id=self.client_message_id,
            body=self.body,
            sent_at=rfc3339(self.sent_at),
        )

    def header(self) -> Document:
        """What the conversation's header keeps of it. `seq` comes first: $max compares field by field."""
        return {
            "seq": self.seq,
            "id": self.id,
            "sender_id": self.sender_id,
            "preview": self.body[:PREVIEW_CHARACTERS],
            "sent_at": self.sent_at,
        }


class Messages:
    """Reads and writes of `messages`. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._messages = store.messages

    async def insert(self, messages: Sequence[StoredMessage]) -> tuple[int, Election]:
        """Insert in order, by one command, up to the first whose id or (conversation, seq) is taken.

        Returns how many were inserted, and who took them. Stopping there is what keeps `seq` dense: a message is only
        ever inserted when the one before it, of the same batch and conversation, is there.

        They are committed once a later write, to a majority, was taken by the same primary: the next write always
        is one, and waiting once is enough. Behind a router, where that says nothing, this waits itself.
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
        async with guarded():
            return await insert_all(self._messages, documents, majority=not self._store.has_one_log)

    async def by_id(self, ids: Collection[str]) -> dict[str, StoredMessage]:
        """Those of the messages that are committed, by id."""
        async with guarded():
            found = await find_all(self._messages, {"_id": {"$in": list(ids)}})
        return {document["_id"]: stored(document) for document in found}

    async def highest_seqs(self, above: dict[str, int]) -> dict[str, int]:
        """The highest committed seq of each conversation, or what `above` says for it where that is more."""
        ranges = [{"conversation_id": conversation, "seq": {"$gte": seq}} for conversation, seq in above.items()]
        pipeline = [{"$match": {"$or": ranges}}, {"$group": {"_id": "$conversation_id", "seq": {"$max": "$seq"}}}]
        async with guarded():
            found = await aggregate(self._messages, pipeline)
        return above | {row["_id"]: row["seq"] for row in found}

    async def pages(self, queries: Sequence[ListMessages]) -> list[tuple[list[StoredMessage], bool]]:
        """A page for each query, ascending, and whether there is more in its direction."""
        async with guarded():
            results = await union(self._messages, [_page(query) for query in queries])
        pages = []
        for query, documents in zip(queries, results, strict=True):
            limit = query.payload.limit
            page = sorted((stored(document) for document in documents[:limit]), key=lambda message: message.seq)
            pages.append((page, len(documents) > limit))
        return pages


def stored(document: Document) -> StoredMessage:
    """Read a document of `messages`."""
    return StoredMessage(id=document["_id"], **{name: value for name, value in document.items() if name != "_id"})


def last_message_view(last: Document | None) -> LastMessage | None:
    """The newest message as a header shows it."""
    if last is None:
        return None
    return LastMessage.model_construct(
        id=last["id"],
        seq=last["seq"],
        sender_id=last["sender_id"],
        preview=last["preview"],
        sent_at=rfc3339(last["sent_at"]),
    )


def _page(query: ListMessages) -> list[dict[str, Any]]:
    payload = query.payload
    match: Document = {"conversation_id": payload.conversation_id}
    direction = -1
    if payload.after_seq is not None:
        match["seq"] = {"$gt": payload.after_seq}
        direction = 1
    elif payload.before_seq is not None:
        match["seq"] = {"$lt": payload.before_seq}
    return [{"$match": match}, {"$sort": {"seq": direction}}, {"$limit": payload.limit + 1}]
