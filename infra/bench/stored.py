"""Reads what a run left in MongoDB, from the collections that docs/design.md names."""

from collections.abc import Collection
from typing import Any

import pymongo
from pymongo.database import Database

from infra.bench.history import Header, Store, StoredMessage
from infra.local.tenant import Tenant

#: Seconds that reading everything a run stored may take.
READ_LIMIT = 60.0

Document = dict[str, Any]


def read_store(run: Tenant, conversations: Collection[str]) -> Store:
    """What Warren stored of these conversations."""
    wanted = {"$in": list(conversations)}
    with pymongo.timeout(READ_LIMIT), pymongo.MongoClient[Document](run.mongo_url) as client:
        database = _majority(client, run)
        headers = {
            found["_id"]: Header(
                found["_id"],
                found["last"]["seq"] if found["last"] else 0,
                found["last"]["id"] if found["last"] else "",
                {person["user_id"]: person["read"]["seq"] for person in found["participants"]},
            )
            for found in database["conversations"].find({"_id": wanted})
        }
        inboxes = {
            (found["_id"]["u"], found["_id"]["c"]): int(found["state"]["n"])
            for found in database["inboxes"].find({"_id.c": wanted})
        }
        return Store(_messages(database, wanted), headers, inboxes)


def read_peer_store(run: Tenant, conversations: Collection[str]) -> Store:
    """What a peer stored of these conversations; its headers keep no watermarks."""
    wanted = {"$in": list(conversations)}
    with pymongo.timeout(READ_LIMIT), pymongo.MongoClient[Document](run.mongo_url) as client:
        database = _majority(client, run)
        headers = {
            found["_id"]: Header(found["_id"], found["last_seq"], found["last"]["id"] if found["last"] else "")
            for found in database["conversations"].find({"_id": wanted}, {"last_seq": 1, "last.id": 1})
        }
        return Store(_messages(database, wanted), headers)


def _majority(client: pymongo.MongoClient[Document], run: Tenant) -> Database[Document]:
    return client[run.database].with_options(read_concern=pymongo.read_concern.ReadConcern("majority"))


def _messages(database: Database[Document], wanted: Document) -> list[StoredMessage]:
    fields = {"conversation_id": 1, "seq": 1, "sender_id": 1, "client_message_id": 1}
    return [
        StoredMessage(id=found.pop("_id"), **found)
        for found in database["messages"].find({"conversation_id": wanted}, fields)
    ]
