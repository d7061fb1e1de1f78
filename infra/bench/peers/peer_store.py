"""Reads what a run stored in a peer's database, which `chat.py` and `node/server.mjs` describe."""

from collections.abc import Collection
from typing import Any

from pymongo import timeout
from pymongo.asynchronous.mongo_client import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from contracts.errors import StoreUnavailable
from infra.bench.histories import Header, Stored, StoredMessage
from infra.bench.stored import READ_LIMIT
from infra.local.tenant import Tenant


async def read_peer_store(tenant: Tenant, conversation_ids: Collection[str]) -> Stored:
    """What a peer stored of these conversations. Its headers keep no watermarks. Raises StoreUnavailable."""
    wanted = {"$in": list(conversation_ids)}
    try:
        with timeout(READ_LIMIT):
            async with AsyncMongoClient[dict[str, Any]](tenant.mongo_url) as client:
                database = client.get_database(tenant.database, read_concern=ReadConcern("majority"))
                headers = {
                    found["_id"]: Header(found["_id"], found["last_seq"], found["last"]["id"] if found["last"] else "")
                    async for found in database["conversations"].find({"_id": wanted}, {"last_seq": 1, "last.id": 1})
                }
                fields = {"conversation_id": 1, "seq": 1, "sender_id": 1, "client_message_id": 1}
                messages = [
                    StoredMessage(id=found.pop("_id"), **found)
                    async for found in database["messages"].find({"conversation_id": wanted}, fields)
                ]
    except PyMongoError as error:
        raise StoreUnavailable(f"A peer's store cannot be read: {error}") from error
    return Stored(messages, headers)
