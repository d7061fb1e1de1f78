"""History: lists of conversations, messages and users. Only reads: when the store is away, that is the answer."""

import time
from collections.abc import Sequence

from contracts.codec import Item
from contracts.commands import ClientCommand, FindUsers, GetPresence, ListConversations, ListMessages
from contracts.errors import Code, Refused, StoreUnavailable, not_found
from contracts.events import ConversationPage, MessagePage, PresenceList, UsersFound
from infra.store import Store
from workers.outbox import Outbox
from workers.stores.conversations import Conversations, read_cursor
from workers.stores.inboxes import Inboxes
from workers.stores.messages import Messages
from workers.stores.users import Users, found_view, presence_view

#: Seconds after which nobody waits for the answer to a read any more, clock differences included.
STALE_AFTER = 60.0


class History:
    """The handler of the history queue."""

    def __init__(self, store: Store) -> None:
        self._conversations = Conversations(store)
        self._messages = Messages(store)
        self._inboxes = Inboxes(store)
        self._users = Users(store)

    async def __call__(self, items: Sequence[Item]) -> Outbox:
        stale = (time.time() - STALE_AFTER) * 1000
        commands = [item for item in items if isinstance(item, ClientCommand) and item.at > stale]
        outbox = Outbox()
        try:
            await self._list_conversations([c for c in commands if isinstance(c, ListConversations)], outbox)
            await self._list_messages([c for c in commands if isinstance(c, ListMessages)], outbox)
            await self._find_users([c for c in commands if isinstance(c, FindUsers)], outbox)
            await self._get_presence([c for c in commands if isinstance(c, GetPresence)], outbox)
        except StoreUnavailable:
            outbox = Outbox()
            for command in commands:
                outbox.refuse(
                    command, Refused(Code.UNAVAILABLE, "The history cannot be read now.", retry_after_ms=1_000)
                )
        return outbox

    async def _list_conversations(self, commands: Sequence[ListConversations], outbox: Outbox) -> None:
        valid: list[ListConversations] = []
        for command in commands:
            try:
                if command.payload.cursor is not None:
                    read_cursor(command.payload.cursor)
                valid.append(command)
            except Refused as refusal:
                outbox.refuse(command, refusal)
        if not valid:
            return
        pages = await self._conversations.pages(valid)
        users = await self._users.find({user for page, _ in pages for header in page for user in header.user_ids})
        # What the page shows is counted as it shows it: an inbox may still wait for the fact of the newest message.
        elsewhere = await self._inboxes.elsewhere(
            [(command.user_id, [header.id for header in page]) for command, (page, _) in zip(valid, pages, strict=True)]
        )
        for command, (page, next_cursor), unread in zip(valid, pages, elsewhere, strict=True):
            outbox.reply(
                command,
                ConversationPage.model_construct(
                    conversations=[header.view(command.user_id, users) for header in page],
                    next_cursor=next_cursor,
                    total_unread=unread + sum(header.unread(command.user_id) for header in page),
                ),
            )

    async def _list_messages(self, commands: Sequence[ListMessages], outbox: Outbox) -> None:
        headers = await self._conversations.headers({command.payload.conversation_id for command in commands})
        allowed = []
        for command in commands:
            header = headers.get(command.payload.conversation_id)
            if header is not None and header.visible_to(command.user_id):
                allowed.append(command)
            else:
                outbox.refuse(command, not_found())
        for command, (page, has_more) in zip(allowed, await self._messages.pages(allowed), strict=True):
            outbox.reply(
                command, MessagePage.model_construct(messages=[message.view() for message in page], has_more=has_more)
            )

    async def _find_users(self, commands: Sequence[FindUsers], outbox: Outbox) -> None:
        queries = [(c.user_id, c.payload.query, c.payload.online_only, c.payload.limit) for c in commands]
        for command, found in zip(commands, await self._users.search(queries), strict=True):
            outbox.reply(command, UsersFound.model_construct(users=[found_view(document) for document in found]))

    async def _get_presence(self, commands: Sequence[GetPresence], outbox: Outbox) -> None:
        users = await self._users.find({user_id for command in commands for user_id in command.payload.user_ids})
        for command in commands:
            asked = dict.fromkeys(command.payload.user_ids)
            presence = [presence_view(user_id, users.get(user_id)) for user_id in asked]
            outbox.reply(command, PresenceList.model_construct(presence=presence))
