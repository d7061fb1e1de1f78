"""History: lists conversations and messages, and reads presence.

It only reads. When the store is away, it answers `unavailable` at once instead of holding the batch.
"""

from collections.abc import Sequence

from contracts.acks import ConversationPage, MessagePage, PresenceList
from contracts.codec import Item
from contracts.commands import GetPresence, ListConversations, ListMessages
from contracts.errors import Code, Refused, StoreUnavailable, not_found
from infra.store.client import Store
from infra.store.conversations import ConversationPageQuery, Conversations, Header
from infra.store.inboxes import Inboxes
from infra.store.messages import MessagePageQuery, Messages
from infra.store.users import Users
from workers.cursors import read_cursor, write_cursor
from workers.effects import Effects
from workers.stale_reads import without_stale
from workers.views import conversation_view, message_view, presence_view
from workers.visibility import visible_header

#: Participants on one page of conversations, about 400 KB of text. A page of large groups ends early, so that it stays
#: well below the buffer of a socket.
PAGE_PARTICIPANTS = 2_000


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
                await self._get_presence([c for c in commands if isinstance(c, GetPresence)], effects)
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
        pages = [_page(headers, command.payload.limit) for (command, _), headers in zip(valid, found, strict=True)]
        users = await self._users.find({user for page, _ in pages for header in page for user in header.user_ids})
        # Conversations on the page are counted from their headers: an inbox may lag behind the newest message.
        totals_outside = await self._inboxes.totals_outside(
            [
                (command.user_id, [header.id for header in page])
                for (command, _), (page, _) in zip(valid, pages, strict=True)
            ]
        )
        for (command, _), (page, next_cursor), total_outside in zip(valid, pages, totals_outside, strict=True):
            effects.reply(
                command,
                ConversationPage.model_construct(
                    conversations=[conversation_view(header, command.user_id, users) for header in page],
                    next_cursor=next_cursor,
                    total_unread=total_outside + sum(header.unread(command.user_id) for header in page),
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

    async def _get_presence(self, commands: Sequence[GetPresence], effects: Effects) -> None:
        users = await self._users.find({user_id for command in commands for user_id in command.payload.user_ids})
        for command in commands:
            user_ids = dict.fromkeys(command.payload.user_ids)
            presence = [presence_view(user_id, users.get(user_id)) for user_id in user_ids]
            effects.reply(command, PresenceList.model_construct(presence=presence))


def _page(found: list[Header], limit: int) -> tuple[list[Header], str | None]:
    """The page of the headers that were found, and the cursor of the next page or None.

    A page ends early when it would have more than `PAGE_PARTICIPANTS`. It has at least one conversation.
    """
    page = found[:limit]
    people = 0
    for index, header in enumerate(page):
        people += len(header.user_ids)
        if people > PAGE_PARTICIPANTS and index:
            page = page[:index]
            break
    return page, write_cursor(page[-1]) if len(found) > len(page) else None
