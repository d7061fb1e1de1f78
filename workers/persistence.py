"""Persistence: stores messages and starts conversations.

A batch of messages needs the same number of round trips at any size: headers and blocked senders in parallel, one
ordered insert, one update of headers; then the runner looks up sessions and publishes. A small batch may have its
headers in the cache (see `header_cache`). When a message was stored before, which its id shows, it is acked with the
stored message, and its pushes and facts are sent again. So a crash at any point does no harm.
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from contracts.acks import ConversationStarted, MessageSent
from contracts.codec import Item
from contracts.commands import SendMessage, StartConversation
from contracts.errors import Code, Refused, StoreUnavailable, not_found
from contracts.facts import MessageStored
from contracts.ids import direct_conversation_id, group_conversation_id, message_id
from contracts.pushes import ConversationUpdated, NewMessage
from contracts.values import SHOWN_PARTICIPANTS
from infra import metrics
from infra.store.client import Store
from infra.store.conversations import Conversations, Header, NewConversation, Watermark
from infra.store.messages import Messages, StoredMessage
from infra.store.operations import Document, Term
from infra.store.users import Users
from workers.confirmed_headers import ConfirmedHeaders, unconfirmed_headers
from workers.effects import Effects
from workers.header_cache import HeaderCache
from workers.views import conversation_view, message_view
from workers.visibility import visible_header

#: Inserts of one batch that may lose a race for a seq. After that, the batch is held as if the store were away.
MAX_INSERTS = 50


class Persistence:
    """The handler of the persistence queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._messages = Messages(store)
        self._conversations = Conversations(store)
        self._users = Users(store)
        self._confirmed_headers = ConfirmedHeaders(store)
        self._header_cache = HeaderCache()

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        starts = [item for item in items if isinstance(item, StartConversation)]
        if starts:
            await self._start(starts, effects)
        sends = [item for item in items if isinstance(item, SendMessage)]
        if sends:
            await self._send(sends, effects)
        return effects

    # --- Messages -----------------------------------------------------------------------------------------

    async def _send(self, commands: Sequence[SendMessage], effects: Effects) -> None:
        term = await self._store.confirm_term()
        headers, blocked = await asyncio.gather(
            self._headers({command.payload.conversation_id for command in commands}, term),
            self._users.blocked({command.user_id for command in commands}),
        )
        ids = [(command, _id_of(command)) for command in commands]
        # A message that was stored before its sender was blocked is acked with the stored message.
        stored_before = await self._messages.by_id([id for command, id in ids if command.user_id in blocked])
        allowed: list[tuple[SendMessage, str]] = []
        for command, id in ids:
            if visible_header(headers, command.payload.conversation_id, command.user_id) is None:
                effects.refuse(command, not_found())
            elif command.user_id in blocked and id not in stored_before:
                effects.refuse(command, Refused(Code.FORBIDDEN, "You are not allowed to send messages."))
            else:
                allowed.append((command, id))
        stored, repeated = await self._store_all(allowed, headers, term)
        if self._store.current_term == term:
            self._header_cache.update(headers, stored.values(), term)
        await self._push_new_conversations([message for message in stored.values() if message.seq == 1], effects)
        read: dict[tuple[str, str], int] = {}
        for command, id in allowed:
            message, header = stored[id], headers[command.payload.conversation_id]
            key = (header.id, command.user_id)
            before = max(read.get(key, 0), header.watermark(command.user_id).seq)
            read[key] = max(before, message.seq)
            # The header may include a repeated message already; then it does not tell what its sender had read before.
            behind = before < message.seq - 1 or id in repeated
            _add_effects(command, message, header, effects, sender_was_behind=behind)

    async def _headers(self, ids: Collection[str], term: Term) -> dict[str, Header]:
        """The headers of conversations. Their newest message is committed, so that the next seq may follow it."""
        cached = self._header_cache.get(ids)
        if cached is not None and not unconfirmed_headers(cached.values(), term):
            return cached
        return await self._confirmed_headers.read(ids, term)

    async def _store_all(
        self, commands: Sequence[tuple[SendMessage, str]], headers: dict[str, Header], term: Term
    ) -> tuple[dict[str, StoredMessage], set[str]]:
        """Store each message once, with the next seq of its conversation, and project it into the header.

        Returns all messages by id, committed to a majority, and the ids of those that were stored before.
        """
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # BSON stores milliseconds
        pending: dict[str, StoredMessage] = {}
        for command, id in commands:
            payload = command.payload
            if id not in pending:
                pending[id] = StoredMessage(
                    id, payload.conversation_id, 0, command.user_id, payload.client_message_id, payload.body, now
                )
        last = {message.conversation_id: headers[message.conversation_id].last_seq for message in pending.values()}
        stored: dict[str, StoredMessage] = {}
        repeated: set[str] = set()
        for attempt in range(MAX_INSERTS):
            if not pending:
                return stored, repeated
            numbered = _number(list(pending.values()), last)
            count, inserted_in = await self._messages.insert(numbered)
            inserted = {message.id: message for message in numbered[:count]}
            # This write waits until the messages are committed. No later message gets a number before that.
            if inserted and await self._conversations.advance(inserted.values(), headers, inserted_in) != inserted_in:
                self._header_cache.clear()
                raise StoreUnavailable("The primary changed before the messages were committed.")
            stored.update(inserted)
            pending = {id: message for id, message in pending.items() if id not in inserted}
            if pending:
                metrics.SEQ_RETRIES.inc()
                # The first retry starts at once. Later ones wait at random, so that workers that race for the same seqs
                # draw apart. They wait before they read, because a seq that was read a while ago is taken by now.
                await asyncio.sleep(random.uniform(0, 0.005) * attempt)  # noqa: S311 - jitter, not a secret
                # A message was stored before, or another worker has taken a seq: read what is stored now.
                known, last = await asyncio.gather(
                    self._messages.by_id(pending),
                    self._messages.highest_seqs({m.conversation_id: last[m.conversation_id] for m in pending.values()}),
                )
                if numbered[count].id not in known:
                    self._header_cache.invalidate()
                if known:
                    # The worker that stored them may have crashed before it updated the headers.
                    await self._conversations.advance(known.values(), headers, term)
                stored.update(known)
                repeated.update(known)
                pending = {id: message for id, message in pending.items() if id not in known}
        raise StoreUnavailable(f"{len(pending)} messages lost the race for a seq {MAX_INSERTS} times.")

    async def _push_new_conversations(self, messages: Sequence[StoredMessage], effects: Effects) -> None:
        """Push a conversation to its participants when its first message is stored."""
        if not messages:
            return
        headers = await self._conversations.headers({message.conversation_id for message in messages})
        shown = {user_id for header in headers.values() for user_id in header.user_ids[:SHOWN_PARTICIPANTS]}
        users = await self._users.find(shown)
        for header in headers.values():
            # Their views differ in nothing but the watermark, so that a group of 500 gets two views and not 500.
            readers: dict[Watermark, list[str]] = {}
            for user_id, read in header.watermarks().items():
                readers.setdefault(read, []).append(user_id)
            for user_ids in readers.values():
                view = conversation_view(header.summary(user_ids[0]), users)
                effects.push("conversation_updated", ConversationUpdated.model_construct(conversation=view), user_ids)
        effects.after_frames.append(partial(self._users.push_again_if_changed, users))

    # --- Conversations ------------------------------------------------------------------------------------

    async def _start(self, commands: Sequence[StartConversation], effects: Effects) -> None:
        user_ids = {id for command in commands for id in (*command.payload.participant_ids, command.user_id)}
        known = await self._users.find(user_ids, fields=["blocked"])
        starts: list[tuple[StartConversation, NewConversation]] = []
        for command in commands:
            try:
                starts.append((command, _new_conversation(command, known)))
            except Refused as refusal:
                effects.refuse(command, refusal)
        if not starts:
            return
        await self._conversations.start([start for _, start in starts])
        summaries = await self._conversations.summaries([(start.id, start.by) for _, start in starts])
        users = await self._users.find({user_id for summary in summaries.values() for user_id in summary.user_ids})
        for command, start in starts:
            view = conversation_view(summaries[start.id, start.by], users)
            effects.reply(command, ConversationStarted.model_construct(conversation=view))
            update = ConversationUpdated.model_construct(conversation=view)
            effects.push("conversation_updated", update, [command.user_id], command.sid)
        effects.after_frames.append(partial(self._users.push_again_if_changed, users))


def _add_effects(
    command: SendMessage, message: StoredMessage, header: Header, effects: Effects, *, sender_was_behind: bool
) -> None:
    """Add the ack, the push and the fact of one stored message."""
    view = message_view(message)
    effects.reply(command, MessageSent.model_construct(message=view))
    effects.push("new_message", NewMessage.model_construct(message=view), header.user_ids, command.sid)
    effects.facts.append(
        MessageStored.model_construct(
            conversation_id=header.id,
            seq=message.seq,
            sender_id=message.sender_id,
            sender_was_behind=sender_was_behind,
        )
    )


def _id_of(command: SendMessage) -> str:
    payload = command.payload
    return message_id(payload.conversation_id, command.user_id, payload.client_message_id)


def _number(messages: list[StoredMessage], last: dict[str, int]) -> list[StoredMessage]:
    """Give each message the next seq of its conversation, in the order of the batch."""
    next_seq = dict(last)
    numbered = []
    for message in messages:
        next_seq[message.conversation_id] += 1
        numbered.append(replace(message, seq=next_seq[message.conversation_id]))
    return numbered


def _new_conversation(command: StartConversation, users: dict[str, Document]) -> NewConversation:
    """The conversation that a command starts. Raises Refused."""
    others = sorted({user for user in command.payload.participant_ids if user != command.user_id})
    if not others:
        details = [{"field": "participant_ids", "reason": "names only yourself"}]
        raise Refused(Code.INVALID_PAYLOAD, "The payload does not match: participant_ids.", details=details)
    if users.get(command.user_id, {}).get("blocked"):
        raise Refused(Code.FORBIDDEN, "You may not start conversations.")
    unknown = [user for user in others if user not in users]
    if unknown:
        details = [{"field": "participant_ids", "reason": f"there is no user {user}"} for user in unknown]
        raise Refused(Code.USER_NOT_FOUND, "Someone you named has never been here.", details=details)
    people = [command.user_id, *others]
    if len(others) == 1:
        return NewConversation(direct_conversation_id(*people), "direct", None, people, command.user_id)
    id = group_conversation_id(command.nonce)
    return NewConversation(id, "group", command.payload.title, people, command.user_id)
