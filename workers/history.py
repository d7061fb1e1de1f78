"""History: lists conversations, their messages and their participants, and reads users.

It only reads. When the store is away, it answers `unavailable` at once instead of holding the batch.
"""

from collections.abc import Sequence

from contracts.acks import ConversationPage, MessagePage, ParticipantPage, PresenceList, UsersFound
from contracts.codec import Item
from contracts.commands import GetPresence, GetUsers, ListConversations, ListMessages, ListParticipants
from contracts.errors import Code, Refused, StoreUnavailable, not_found
from infra.store.client import Store
from infra.store.conversations import ConversationPageQuery, Conversations, ParticipantPageQuery, Summary
from infra.store.inboxes import Inboxes
from infra.store.messages import MessagePageQuery, Messages
from infra.store.users import Users
from workers.cursors import read_cursor, read_place, write_cursor, write_place
from workers.effects import Effects
from workers.stale_reads import without_stale
from workers.views import conversation_view, found_user_view, message_view, participant_view, presence_view
from workers.visibility import visible_header


class History:
    """The handler of the history queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._conversations = Conversations(store)
        self._messages = Messages(store)
        self._inboxes = Inboxes(store)
        self._users = Users(store)

    async def __call__(self, items: Sequence[Item]) -> Effects:
        commands = without_stale(items)
        effects = Effects()
        try:
            async with self._store.one_term():
                await self._list_conversations([c for c in commands if isinstance(c, ListConversations)], effects)
                await self._list_messages([c for c in commands if isinstance(c, ListMessages)], effects)
                await self._list_participants([c for c in commands if isinstance(c, ListParticipants)], effects)
                await self._get_users([c for c in commands if isinstance(c, GetUsers | GetPresence)], effects)
        except StoreUnavailable:
            effects = Effects()
            for command in commands:
                effects.refuse(
                    command, Refused(Code.UNAVAILABLE, "The history cannot be read now.", retry_after_ms=1_000)
                )
        return effects

    async def _list_conversations(self, commands: Sequence[ListConversations], effects: Effects) -> None:
        valid: list[tuple[ListConversations, ConversationPageQuery]] = []
        for command in commands:
            payload = command.payload
            try:
                before = read_cursor(payload.cursor) if payload.cursor is not None else None
            except Refused as refusal:
                effects.refuse(command, refusal)
            else:
                # One more than the limit shows whether there is a next page.
                valid.append((command, ConversationPageQuery(command.user_id, before, payload.limit + 1)))
        if not valid:
            return
        # Read first, so that the total is at least as new as its version says.
        version = await self._inboxes.version()
        found = await self._conversations.pages([query for _, query in valid])
        pages = [_page(summaries, command.payload.limit) for (command, _), summaries in zip(valid, found, strict=True)]
        users = await self._users.find({user for page, _ in pages for summary in page for user in summary.user_ids})
        # Conversations on the page are counted from their headers: an inbox may lag behind the newest message.
        totals_outside = await self._inboxes.totals_outside(
            [
                (command.user_id, [summary.id for summary in page])
                for (command, _), (page, _) in zip(valid, pages, strict=True)
            ]
        )
        for (command, _), (page, next_cursor), total_outside in zip(valid, pages, totals_outside, strict=True):
            effects.reply(
                command,
                ConversationPage.model_construct(
                    conversations=[conversation_view(summary, users) for summary in page],
                    next_cursor=next_cursor,
                    total_unread=total_outside + sum(summary.unread for summary in page),
                    total_version=version,
                ),
            )

    async def _list_messages(self, commands: Sequence[ListMessages], effects: Effects) -> None:
        headers = await self._conversations.headers({command.payload.conversation_id for command in commands})
        allowed: list[tuple[ListMessages, MessagePageQuery]] = []
        for command in commands:
            payload = command.payload
            header = visible_header(headers, payload.conversation_id, command.user_id)
            if header is not None:
                query = MessagePageQuery(header.id, payload.before_seq, payload.after_seq, payload.limit)
                allowed.append((command, query))
            else:
                effects.refuse(command, not_found())
        pages = await self._messages.pages([query for _, query in allowed])
        for (command, _), (page, has_more) in zip(allowed, pages, strict=True):
            effects.reply(
                command,
                MessagePage.model_construct(messages=[message_view(message) for message in page], has_more=has_more),
            )

    async def _list_participants(self, commands: Sequence[ListParticipants], effects: Effects) -> None:
        valid: list[tuple[ListParticipants, ParticipantPageQuery]] = []
        for command in commands:
            payload = command.payload
            try:
                start = read_place(payload.cursor) if payload.cursor is not None else 0
            except Refused as refusal:
                effects.refuse(command, refusal)
            else:
                # One more than the limit shows whether there is a next page.
                query = ParticipantPageQuery(payload.conversation_id, command.user_id, start, payload.limit + 1)
                valid.append((command, query))
        found = await self._conversations.participants([query for _, query in valid])
        pages = [parts and parts[: command.payload.limit] for (command, _), parts in zip(valid, found, strict=True)]
        users = await self._users.find({part["user_id"] for page in pages for part in page or ()})
        for (command, query), parts, page in zip(valid, found, pages, strict=True):
            if parts is None or page is None:
                effects.refuse(command, not_found())
                continue
            more = len(parts) > len(page)
            effects.reply(
                command,
                ParticipantPage.model_construct(
                    participants=[participant_view(part, users.get(part["user_id"])) for part in page],
                    next_cursor=write_place(query.start + len(page)) if more else None,
                ),
            )

    async def _get_users(self, commands: Sequence[GetUsers | GetPresence], effects: Effects) -> None:
        users = await self._users.find({user_id for command in commands for user_id in command.payload.user_ids})
        for command in commands:
            user_ids = dict.fromkeys(command.payload.user_ids)
            if isinstance(command, GetUsers):
                known = [found_user_view(users[user_id]) for user_id in user_ids if user_id in users]
                effects.reply(command, UsersFound.model_construct(users=known))
            else:
                presence = [presence_view(user_id, users.get(user_id)) for user_id in user_ids]
                effects.reply(command, PresenceList.model_construct(presence=presence))


def _page(found: list[Summary], limit: int) -> tuple[list[Summary], str | None]:
    """The page of the summaries that were found, and the cursor of the next page or None."""
    page = found[:limit]
    return page, write_cursor(page[-1]) if len(found) > len(page) else None
