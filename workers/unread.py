"""Unread: moves read watermarks, and keeps the inboxes equal to the headers.

Counts are computed from a header that is read after all writes it must include. So they stay correct when facts arrive
twice, late, or in any order.
"""

import logging
import time
from collections.abc import Iterable, Sequence

from contracts.acks import UnreadCount
from contracts.codec import Item
from contracts.commands import MessageSeen
from contracts.errors import StoreUnavailable, not_found
from contracts.facts import MessageStored
from contracts.pushes import SeenByOther
from contracts.values import MAX_SEEN_PARTICIPANTS, rfc3339, utc_datetime
from infra import metrics
from infra.store.client import Store
from infra.store.conversations import Conversations, Header, Watermark
from infra.store.inboxes import Inboxes, Total, entry_of
from infra.store.messages import Messages
from infra.store.operations import Term
from workers.confirmed_headers import ConfirmedHeaders
from workers.effects import Effects
from workers.visibility import visible_header

log = logging.getLogger(__name__)

#: Facts that a worker remembers to count redelivered ones. Only a metric uses them.
MAX_REMEMBERED = 10_000
#: Seconds for which a fact waits until its conversation's header includes it.
BEHIND_LIMIT = 10.0


class Unread:
    """The handler of the unread queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._conversations = Conversations(store)
        self._confirmed_headers = ConfirmedHeaders(store)
        self._messages = Messages(store)
        self._inboxes = Inboxes(store)
        self._behind_since: dict[str, float] = {}
        self._handled: dict[tuple[str, int], None] = {}

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        facts = [item for item in items if isinstance(item, MessageStored)]
        seen = [item for item in items if isinstance(item, MessageSeen)]
        term = await self._store.confirm_term()
        moved = await self._mark_read(seen, effects, term) if seen else {}
        conversation_ids = {fact.conversation_id for fact in facts} | {id for id, _ in moved}
        if not conversation_ids:
            return effects
        headers = await self._confirmed_headers.read(conversation_ids, term)
        self._hold_if_behind(facts, headers)
        changed = _changed(facts, headers)
        touched = changed | dict.fromkeys(moved)
        await self._inboxes.write(entry_of(headers[id], user_id) for id, user_id in touched)
        totals = await self._inboxes.totals({user_id for _, user_id in touched})
        for id, user_id in changed | dict.fromkeys(key for key, forward in moved.items() if forward):
            effects.push("unread_updated", _count(headers[id], user_id, totals), [user_id])
        for (id, user_id), forward in moved.items():
            if forward and len(headers[id].user_ids) <= MAX_SEEN_PARTICIPANTS:
                self._push_seen(headers[id], user_id, effects)
        for command in seen:
            key = (command.payload.conversation_id, command.user_id)
            if key in moved:
                effects.reply(command, _count(headers[key[0]], command.user_id, totals))
        self._count_repeated(facts)
        return effects

    def _count_repeated(self, facts: Sequence[MessageStored]) -> None:
        """Count the facts that this worker handled before, among the last `MAX_REMEMBERED`. They change nothing."""
        keys = [(fact.conversation_id, fact.seq) for fact in facts]
        repeated = sum(key in self._handled for key in keys)
        if repeated:
            metrics.REPEATED_FACTS.inc(repeated)
            log.info("%d facts were redelivered.", repeated)
        self._handled.update(dict.fromkeys(keys))
        while len(self._handled) > MAX_REMEMBERED:
            del self._handled[next(iter(self._handled))]

    def _hold_if_behind(self, facts: Sequence[MessageStored], headers: dict[str, Header]) -> None:
        """Raise StoreUnavailable while a header does not include a fact's message: it was read from an old state.

        Only for `BEHIND_LIMIT` seconds, because the message may have been deleted since.
        """
        now = time.monotonic()
        behind = {
            fact.conversation_id
            for fact in facts
            if fact.conversation_id in headers and headers[fact.conversation_id].last_seq < fact.seq
        }
        self._behind_since = {id: self._behind_since.get(id, now) for id in behind}
        recent = [id for id, since in self._behind_since.items() if now - since < BEHIND_LIMIT]
        if recent:
            raise StoreUnavailable(f"The headers of {len(recent)} conversations are older than their messages.")

    async def _last_seqs(self, commands: Sequence[MessageSeen], headers: dict[str, Header]) -> dict[str, int]:
        """The highest seq of each conversation: of its header, or of its messages when a command has a higher one."""
        last_seqs = {id: header.last_seq for id, header in headers.items()}
        ahead = {}
        for command in commands:
            header = visible_header(headers, command.payload.conversation_id, command.user_id)
            if header is not None and command.payload.seq > header.last_seq:
                ahead[header.id] = header.last_seq
        return last_seqs | (await self._messages.highest_seqs(ahead) if ahead else {})

    async def _mark_read(
        self, commands: Sequence[MessageSeen], effects: Effects, term: Term
    ) -> dict[tuple[str, str], bool]:
        """Move watermarks. Returns for each allowed (conversation, user) whether its watermark moved forward."""
        conversation_ids = {command.payload.conversation_id for command in commands}
        # A watermark beyond the log would move back, once the header is projected anew.
        headers = await self._confirmed_headers.read(conversation_ids, term)
        last_seqs = await self._last_seqs(commands, headers)
        marks: dict[tuple[str, str], Watermark] = {}
        moved: dict[tuple[str, str], bool] = {}
        for command in commands:
            header = visible_header(headers, command.payload.conversation_id, command.user_id)
            if header is None:
                effects.refuse(command, not_found())
                continue
            key = (header.id, command.user_id)
            # A seq above the newest message's counts as that.
            mark = Watermark(min(command.payload.seq, last_seqs[header.id]), utc_datetime(command.at))
            read = header.watermark(command.user_id)
            if mark.seq > max(read.seq, marks[key].seq if key in marks else 0):
                marks[key] = mark
            # An equal watermark was set by this same command, which was redelivered after a crash.
            moved[key] = moved.get(key, False) or mark.seq > read.seq or mark == read
        await self._conversations.mark_read(marks, headers)
        return moved

    def _push_seen(self, header: Header, reader: str, effects: Effects) -> None:
        read = header.watermark(reader)
        seen = SeenByOther.model_construct(
            conversation_id=header.id,
            user_id=reader,
            last_read_seq=read.seq,
            last_read_at=rfc3339(read.at) if read.at else None,
        )
        effects.push("message_seen", seen, [user_id for user_id in header.user_ids if user_id != reader])


def _changed(facts: Iterable[MessageStored], headers: dict[str, Header]) -> dict[tuple[str, str], None]:
    """The (conversation, user) pairs whose count a fact changes, in the order of the facts.

    Those are all recipients, and a sender with unread messages.
    A sender who has read everything has 0 unread before and after, so the inbox entry may keep its older version.
    """
    changed: dict[tuple[str, str], None] = {}
    for fact in facts:
        if fact.conversation_id in headers:
            for user_id in headers[fact.conversation_id].user_ids:
                if user_id != fact.sender_id or fact.sender_was_behind:
                    changed[fact.conversation_id, user_id] = None
    return changed


def _count(header: Header, user_id: str, totals: dict[str, Total]) -> UnreadCount:
    read, total = header.watermark(user_id), totals[user_id]
    return UnreadCount.model_construct(
        conversation_id=header.id,
        unread_count=header.unread(user_id),
        last_seq=header.last_seq,
        last_read_seq=read.seq,
        last_read_at=rfc3339(read.at) if read.at else None,
        total_unread=total.unread,
        total_version=total.version,
    )
