"""Reads what a run stored in Warren's database."""

import asyncio
from collections.abc import Collection

from pydantic import SecretStr

from infra.bench import history
from infra.local.tenant import Tenant
from infra.settings import Settings
from infra.store.client import Store
from infra.store.conversations import Conversations, Header
from infra.store.inboxes import Inboxes
from infra.store.messages import Messages

#: Time limit for reading what a run stored, seconds.
READ_LIMIT = 60.0


async def read_store(tenant: Tenant, conversation_ids: Collection[str]) -> history.Stored:
    """What Warren stored of these conversations. Raises StoreUnavailable or TimeoutError."""
    settings = Settings(
        mongo_url=SecretStr(tenant.mongo_url), mongo_database=tenant.database, mongo_timeout_ms=int(1000 * READ_LIMIT)
    )
    store = Store(settings)
    try:
        async with asyncio.timeout(READ_LIMIT):
            headers = await Conversations(store).headers(conversation_ids)
            states = await Inboxes(store).states(conversation_ids)
            messages = [
                history.StoredMessage(
                    message.id, message.conversation_id, message.seq, message.sender_id, message.client_message_id
                )
                async for message in Messages(store).stream(conversation_ids)
            ]
    finally:
        await store.close()
    inboxes = {key: int(state["n"]) for key, state in states.items()}
    return history.Stored(messages, {header.id: _header(header) for header in headers.values()}, inboxes)


def _header(header: Header) -> history.Header:
    watermarks = {user_id: header.watermark(user_id).seq for user_id in header.user_ids}
    return history.Header(header.id, header.last_seq, header.last["id"] if header.last else "", watermarks)
