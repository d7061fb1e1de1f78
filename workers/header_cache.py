"""A cache of the headers that a worker has just written, so that a small batch needs no look-up.

The cost of a batch of one or two messages is mostly its round trips, and the cache saves one of four. A large batch
would gain next to nothing.

A cached header may be out of date in two ways, and both are harmless. Another worker may have stored a message since:
then the insert fails because the next seq is taken, and the batch reads the current seq from the store. A participant
may have read more messages since: then a sender counts as behind who was not, which costs one write. Participants never
change. A header is read again after `CACHE_SECONDS`, so that a deleted conversation is noticed.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from infra.store.client import CACHE_SECONDS
from infra.store.conversations import Header
from infra.store.messages import StoredMessage
from infra.store.operations import Term

#: The cache is used for batches with up to this many conversations.
SMALL_BATCH = 8
#: Seconds without the cache after a cached header was out of date: then other workers store messages of the same
#: conversations, and each outdated header costs three round trips.
PAUSE = 5.0
#: Cached headers, and participants of one, at most. This bounds the cache to about 40 MB.
MAX_HEADERS = 4_000
MAX_CACHED_PARTICIPANTS = 16


@dataclass(frozen=True, slots=True)
class _CachedHeader:
    header: Header
    read_at: float


class HeaderCache:
    """The cached headers of one worker. Callers may add only headers whose messages are committed."""

    def __init__(self) -> None:
        self._cached: dict[str, _CachedHeader] = {}
        self._paused_until = 0.0

    def get(self, ids: Collection[str]) -> dict[str, Header] | None:
        """The headers of a small batch's conversations, or None when they must be read from the store."""
        now = time.monotonic()
        if len(ids) > SMALL_BATCH or now < self._paused_until:
            return None
        found = {}
        for id in ids:
            cached = self._cached.get(id)
            if cached is None or now - cached.read_at >= CACHE_SECONDS:
                return None
            found[id] = cached.header
        return found

    def update(self, headers: Mapping[str, Header], stored: Iterable[StoredMessage], term: Term) -> None:
        """Cache a small batch's headers as they are after its messages were stored, all in `term`.

        `headers` are those that the batch read from the store or got from the cache.
        """
        now = time.monotonic()
        if len(headers) > SMALL_BATCH or now < self._paused_until:
            # The cached headers are out of date now, and new ones would cost more than they save.
            for id in headers:
                self._cached.pop(id, None)
            return
        by_conversation: dict[str, list[StoredMessage]] = {}
        for message in stored:
            by_conversation.setdefault(message.conversation_id, []).append(message)
        for id, messages in by_conversation.items():
            header, before = headers[id], self._cached.pop(id, None)
            if len(header.user_ids) <= MAX_CACHED_PARTICIPANTS:
                read_at = before.read_at if before is not None and before.header is header else now
                self._cached[id] = _CachedHeader(header.with_messages(messages, term), read_at)
        while len(self._cached) > MAX_HEADERS:
            del self._cached[next(iter(self._cached))]

    def clear(self) -> None:
        """Remove all headers."""
        self._cached.clear()

    def invalidate(self) -> None:
        """Clear the cache and pause it, because a header in it was out of date."""
        self._cached.clear()
        self._paused_until = time.monotonic() + PAUSE
