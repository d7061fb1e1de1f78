"""The store adapter: the only file that makes MongoDB clients. Collections, indexes and concerns live here.

Reads and writes go through a majority of the replica set: what a client was told is never rolled back. Only
what Motor and PyMongo's own asyncio client share is used, so a setting picks the driver (`WARREN_MONGO_DRIVER`).

Workers write by `insert_all` and `update_all`: one command each, and none that the driver repeats by itself. For
those the server keeps a record of every statement, which costs it as much as the write; our writes are idempotent,
and the runner repeats whole batches.
"""

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.asynchronous.mongo_client import AsyncMongoClient
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WTimeoutError,
)
from pymongo.monitoring import (
    CommandListener,
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from typing_extensions import override

from contracts.errors import StoreUnavailable
from infra import metrics
from infra.settings import Settings

log = logging.getLogger(__name__)

Document = dict[str, Any]

#: Server error codes of a duplicate key.
DUPLICATE_KEY = 11000
#: How often an upsert is tried that meets another of the same key.
UPSERT_ATTEMPTS = 3
#: Seconds after which the tombstone of a closed session, or an edge without sign of life, is removed.
SESSION_TTL = 3_600
EDGE_TTL = 86_400
#: Index of the few who may not write: asking it about a batch's senders touches no user's document.
BLOCKED = [("blocked", 1), ("_id", 1)]
#: Documents that come with the first answer; by default it is 101, and the rest costs another round trip.
ONE_TRIP = 100_000
#: Seconds for which workers may act on what they read of a user or a conversation; who changes or removes one by hand
#: is heeded after that.
REMEMBERED_FOR = 5.0
#: What says "not now": the connection, the primary, or the majority is missing.
_AWAY = (ConnectionFailure, NetworkTimeout, NotPrimaryError, ExecutionTimeout, WTimeoutError, WaitQueueTimeoutError)
#: What a server says that is starting, stepping down, cut off from the others, or out of disk. The driver tries a read
#: that gets one of these once more and then passes it on as an error like any other.
_NOT_NOW = {
    6,  # HostUnreachable
    7,  # HostNotFound
    89,  # NetworkTimeout
    134,  # ReadConcernMajorityNotAvailableYet: a server that has just come back
    262,  # ExceededTimeLimit
    9001,  # SocketException
    11601,  # Interrupted: an operator killed the operation
    14031,  # OutOfDiskSpace
}


@dataclass(frozen=True)
class Update:
    """One statement of `update_all`."""

    query: Document
    change: Document | list[Document]
    upsert: bool = False
    multi: bool = False


#: What a write tells of the primary that took it: the same value, the same primary in the same term. None is what
#: a router says, who asks many.
Election = object


class Watch(TopologyListener):
    """Says when the primary is lost and when there is one again, also where nobody asks, or a call waits it out.

    The driver calls it, from a thread of its own where it has one.
    """

    def __init__(self, database: str) -> None:
        self._up = metrics.STORE_UP.labels(database)
        self._had_primary = False
        #: Whether the client is being closed: that it loses its primary then is no news.
        self.closing = False

    @override
    def opened(self, event: TopologyOpenedEvent) -> None:
        """Nothing is known yet."""
        self._up.set(0)

    @override
    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """A server came, went, or changed its part."""
        has_primary = event.new_description.has_writable_server()
        if has_primary == self._had_primary or self.closing:
            return
        self._had_primary = has_primary
        self._up.set(has_primary)
        if has_primary:
            log.info("The store has a primary.")
        else:
            log.warning("The store is away: it has no primary.")

    @override
    def closed(self, event: TopologyClosedEvent) -> None:
        """Nobody asks any more."""
        self._up.set(0)


class Store:
    """The collections of one database."""

    def __init__(self, settings: Settings, listeners: Sequence[CommandListener] = ()) -> None:
        files = {"tlsCAFile": settings.mongo_ca_file, "tlsCertificateKeyFile": settings.mongo_certificate_key_file}
        self._watch = Watch(settings.mongo_database)
        make: Any = AsyncIOMotorClient if settings.mongo_driver == "motor" else AsyncMongoClient
        self.client = make(
            settings.mongo_url.get_secret_value(),
            appname="warren",
            tz_aware=True,
            maxPoolSize=settings.mongo_pool_size,
            waitQueueTimeoutMS=2_000,
            timeoutMS=settings.mongo_timeout_ms,
            serverSelectionTimeoutMS=settings.mongo_timeout_ms,
            event_listeners=[self._watch, *listeners],
            **{option: str(file) for option, file in files.items() if file is not None},
        )
        database = self.client.get_database(
            settings.mongo_database,
            write_concern=WriteConcern("majority"),
            read_concern=ReadConcern("majority"),
        )
        self.messages: Any = database["messages"]
        self.conversations: Any = database["conversations"]
        self.inboxes: Any = database["inboxes"]
        self.users: Any = database["users"]
        self.sessions: Any = database["sessions"]
        self.edges: Any = database["edges"]
        #: Whether all writes are in one log, in their order, so that waiting for one waits for those before it. That
        #: is so in a replica set, not behind a router. Known once the store was ready.
        self.has_one_log = False

    async def ready(self) -> None:
        """Make sure that the store answers and has its indexes. Raises StoreUnavailable."""
        async with guarded():
            self.has_one_log = "electionId" in await self.client.admin.command("hello")
            await self.messages.create_index([("conversation_id", 1), ("seq", 1)], unique=True)
            await self.conversations.create_index([("participants.user_id", 1), ("updated_at", -1), ("_id", -1)])
            await self.inboxes.create_index(
                [("user_id", 1), ("state.n", 1)], partialFilterExpression={"state.n": {"$gt": 0}}
            )
            await self.users.create_index([("terms", 1)])
            await self.users.create_index(BLOCKED, partialFilterExpression={"blocked": True})
            await self.users.create_index([("online", -1), ("sort_name", 1), ("_id", 1)])
            await self.users.create_index([("offline_due", 1)], sparse=True)
            await self.sessions.create_index([("user_id", 1)])
            await self.sessions.create_index([("edge_id", 1)])
            await self.sessions.create_index([("closed_at", 1)], expireAfterSeconds=SESSION_TTL)
            await self.edges.create_index([("seen_at", 1)], expireAfterSeconds=EDGE_TTL)

    async def ping(self) -> None:
        """Ask for a sign of life. Raises StoreUnavailable."""
        async with guarded():
            await self.client.admin.command("ping")

    async def close(self) -> None:
        """Close the connections."""
        self._watch.closing = True
        closing = self.client.close()
        if closing is not None:
            await closing


@asynccontextmanager
async def guarded() -> AsyncIterator[None]:
    """Turn what the driver raises when the store is away into StoreUnavailable; anything else passes."""
    started = time.perf_counter()
    try:
        yield
    except _AWAY as error:
        raise StoreUnavailable(str(error)) from error
    except BulkWriteError as error:
        if error.details.get("writeConcernErrors"):
            raise StoreUnavailable("A write was not acknowledged by a majority.") from error
        if error.timeout or any(part["code"] in _NOT_NOW for part in error.details.get("writeErrors", ())):
            raise StoreUnavailable("A write was not carried out in time.") from error
        raise
    except PyMongoError as error:
        if error.timeout or (isinstance(error, OperationFailure) and _may_work_later(error)):
            raise StoreUnavailable(str(error)) from error
        raise
    finally:
        metrics.STORE_SECONDS.observe(time.perf_counter() - started)


def _may_work_later(error: OperationFailure) -> bool:
    return error.has_error_label("RetryableWriteError") or error.code in _NOT_NOW


async def find_all(
    collection: Any, query: Mapping[str, Any], projection: Mapping[str, Any] | None = None
) -> list[Document]:
    """Every document that matches, in one list; the caller bounds the query."""
    found: list[Document] = await collection.find(query, projection, batch_size=ONE_TRIP).to_list(None)
    return found


async def aggregate(collection: Any, pipeline: Sequence[object]) -> list[Document]:
    """Run a pipeline; Motor returns its cursor at once, PyMongo's asyncio client after an await."""
    cursor = collection.aggregate(list(pipeline), batchSize=ONE_TRIP)
    if hasattr(cursor, "__await__"):
        cursor = await cursor
    found: list[Document] = await cursor.to_list(None)
    return found


async def union(collection: Any, pipelines: Sequence[list[dict[str, Any]]]) -> list[list[Document]]:
    """Run many pipelines over one collection in a single round trip; returns the documents of each, in order."""
    if not pipelines:
        return []
    tagged = [[*pipeline, {"$addFields": {"_pipeline": index}}] for index, pipeline in enumerate(pipelines)]
    rest = [{"$unionWith": {"coll": collection.name, "pipeline": pipeline}} for pipeline in tagged[1:]]
    results: list[list[Document]] = [[] for _ in pipelines]
    for document in await aggregate(collection, [*tagged[0], *rest]):
        results[document.pop("_pipeline")].append(document)
    return results


async def insert_all(collection: Any, documents: Sequence[Document], *, majority: bool = True) -> tuple[int, Election]:
    """Insert in order, in one command, up to the first whose id or other unique key is taken.

    Returns how many went in, and who took them. Without `majority` they may still be rolled back, until a later write
    to the same primary has reached one.
    """
    reply = await _write(collection, {"insert": collection.name, "documents": list(documents)}, majority=majority)
    errors = reply.get("writeErrors")
    if not errors:
        return len(documents), reply.get("electionId")
    if errors[0]["code"] != DUPLICATE_KEY:
        raise BulkWriteError({"writeErrors": errors})
    return int(errors[0]["index"]), reply.get("electionId")


async def update_all(collection: Any, updates: Sequence[Update]) -> Election:
    """Carry out idempotent updates in one command, to a majority, in any order. Returns who took them.

    Two workers that insert the same key at once get a duplicate key error in one of them (MongoDB documents
    this for concurrent upserts); the second attempt then finds the document and updates it.
    """
    statements = [{"q": each.query, "u": each.change, "upsert": each.upsert, "multi": each.multi} for each in updates]
    attempts = 0
    while True:
        attempts += 1
        reply = await _write(collection, {"update": collection.name, "updates": statements, "ordered": False})
        errors = reply.get("writeErrors")
        if not errors:
            return reply.get("electionId")
        if attempts == UPSERT_ATTEMPTS or any(error["code"] != DUPLICATE_KEY for error in errors):
            raise BulkWriteError({"writeErrors": errors})


async def _write(collection: Any, command: Document, *, majority: bool = True) -> Document:
    concern = {"w": "majority" if majority else 1}
    reply: Document = await collection.database.command({**command, "writeConcern": concern})
    if failure := reply.get("writeConcernError"):
        raise BulkWriteError({"writeErrors": [], "writeConcernErrors": [failure]})
    return reply
