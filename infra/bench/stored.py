"""Reads what a run stored in Warren's database."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from pydantic import SecretStr

from infra.bench import histories
from infra.local.tenant import Tenant
from infra.settings import Settings
from infra.store.client import Store
from infra.store.conversations import Conversations, Header
from infra.store.inboxes import Inboxes
from infra.store.messages import Messages
from infra.store.sessions import SessionDirectory
from infra.store.users import Users

#: Time limit for reading what a run stored, seconds.
READ_LIMIT = 60.0


async def read_store(tenant: Tenant, conversation_ids: Collection[str]) -> histories.Stored:
    """What Warren stored of these conversations. Raises StoreUnavailable or TimeoutError."""
    async with _store_of(tenant) as store:
        headers = await Conversations(store).headers(conversation_ids)
        states = await Inboxes(store).states(conversation_ids)
        messages = [
            histories.StoredMessage(
                message.id, message.conversation_id, message.seq, message.sender_id, message.client_message_id
            )
            async for message in Messages(store).stream(conversation_ids)
        ]
    inboxes = {key: int(state["n"]) for key, state in states.items()}
    return histories.Stored(messages, {header.id: _header(header) for header in headers.values()}, inboxes)


async def read_presences(tenant: Tenant, connected: Collection[str]) -> list[histories.Presence]:
    """The presence of these users, who are connected, and of all who count as online or have a valid session.

    Raises StoreUnavailable or TimeoutError.
    """
    async with _store_of(tenant) as store:
        online = set(await Users(store).all_online())
        registered = await SessionDirectory(store).all_connected()
    users = {*connected, *online, *registered}
    return [histories.Presence(user, user in connected, user in online, user in registered) for user in sorted(users)]


@asynccontextmanager
async def _store_of(tenant: Tenant) -> AsyncIterator[Store]:
    settings = Settings(
        mongo_url=SecretStr(tenant.mongo_url), mongo_database=tenant.database, mongo_timeout_ms=int(1000 * READ_LIMIT)
    )
    store = Store(settings)
    try:
        async with asyncio.timeout(READ_LIMIT):
            yield store
    finally:
        await store.close()


def _header(header: Header) -> histories.Header:
    watermarks = {user_id: header.watermark(user_id).seq for user_id in header.user_ids}
    return histories.Header(header.id, header.last_seq, header.last["id"] if header.last else "", watermarks)
