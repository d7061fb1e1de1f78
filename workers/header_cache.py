"""Headers of conversations in which messages were stored a moment ago, so that a small batch needs no look-up.

A batch of one or two messages is little more than its round trips, and this saves one of four. In a large batch it
would save next to nothing.

What is kept may be old in two ways, and neither does harm. Another worker may have stored a message since: then the
next seq is taken, the store says so, and the batch reads it there. A participant may have read on since: then a
sender counts as behind who was not, which costs one write. Who is in a conversation never changes. A header is read
again after `CACHE_SECONDS`, so that a conversation which was removed by hand is noticed.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from infra.store.client import CACHE_SECONDS
from infra.store.conversations import Header
from infra.store.messages import StoredMessage
from infra.store.operations import Term

#: Conversations in a batch up to which a round trip is worth saving.
SMALL_BATCH = 8
#: Seconds without guesses after one that was wrong: other workers store messages of the same conversations then, and
#: each wrong guess costs three round trips.
PAUSE = 5.0
#: Headers kept, and participants of one that is kept: at most 40 MB in all.
MAX_HEADERS = 4_000
MAX_PARTICIPANTS = 16


@dataclass(frozen=True, slots=True)
class _Kept:
    header: Header
    read_at: float


class HeaderCache:
    """The headers that one worker has in mind. Keep only what is committed."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._paused_until = 0.0

    def find(self, ids: Collection[str]) -> dict[str, Header] | None:
        """The headers of a small batch's conversations, or None if they have to be read."""
        now = time.monotonic()
        if len(ids) > SMALL_BATCH or now < self._paused_until:
            return None
        found = {}
        for id in ids:
            kept = self._kept.get(id)
            if kept is None or now - kept.read_at >= CACHE_SECONDS:
                return None
            found[id] = kept.header
        return found

    def keep(self, headers: Mapping[str, Header], stored: Iterable[StoredMessage], term: Term) -> None:
        """Keep a small batch's headers, which were read or found a moment ago, as they are with the stored messages.

        `term` is that of all these messages.
        """
        now = time.monotonic()
        if len(headers) > SMALL_BATCH or now < self._paused_until:
            # They are old now, and new ones would cost more than they save.
            for id in headers:
                self._kept.pop(id, None)
            return
        by_conversation: dict[str, list[StoredMessage]] = {}
        for message in stored:
            by_conversation.setdefault(message.conversation_id, []).append(message)
        for id, messages in by_conversation.items():
            header, before = headers[id], self._kept.pop(id, None)
            if len(header.user_ids) <= MAX_PARTICIPANTS:
                read_at = before.read_at if before is not None and before.header is header else now
                self._kept[id] = _Kept(header.with_messages(messages, term), read_at)
        while len(self._kept) > MAX_HEADERS:
            del self._kept[next(iter(self._kept))]

    def clear(self) -> None:
        """Read every header again."""
        self._kept.clear()

    def was_wrong(self) -> None:
        """Another worker had taken a seq that was next by a header: read headers for a while."""
        self._kept.clear()
        self._paused_until = time.monotonic() + PAUSE
