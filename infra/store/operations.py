"""Reads and writes of any collection, and the errors that mean that the store is away.

Workers write with `insert_all` and `update_all`, one command each, and not with the driver's retryable writes. For a
retryable write the server records every statement, which costs it as much as the write itself. It is not needed here:
every write is idempotent, and the runner repeats whole batches.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
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

from contracts.counting import total_version
from contracts.errors import StoreUnavailable
from infra import metrics

Document = dict[str, Any]
#: The term of a primary, identified by its election: the same primary took two writes of the same term, in one oplog.
#: None behind a router (`mongos`), which writes to several primaries.
Term = ObjectId | None

#: Server error code of a duplicate key.
DUPLICATE_KEY = 11000
#: Attempts of an upsert that collides with another upsert of the same key.
UPSERT_ATTEMPTS = 3
#: Documents in the first batch of a query. With MongoDB's default of 101, the rest costs another round trip.
FIRST_BATCH = 100_000
#: Errors of the driver when the connection, the primary or the majority is missing.
UNAVAILABLE_ERRORS = (
    ConnectionFailure,
    NetworkTimeout,
    NotPrimaryError,
    ExecutionTimeout,
    WTimeoutError,
    WaitQueueTimeoutError,
)
#: Error codes of a server that is starting, stepping down, isolated from the others, or out of disk, and of one that
#: refuses the worker whatever it asks, because its password was rotated or its rights were changed. Such an error says
#: nothing of the item that is handled. The driver repeats a read once after one of these, and then raises an ordinary
#: error.
TRANSIENT_CODES = {
    6,  # HostUnreachable
    7,  # HostNotFound
    11,  # UserNotFound
    13,  # Unauthorized
    18,  # AuthenticationFailed
    89,  # NetworkTimeout
    134,  # ReadConcernMajorityNotAvailableYet: the server has just started
    246,  # SnapshotUnavailable: the same for a snapshot
    262,  # ExceededTimeLimit
    391,  # ReauthenticationRequired
    9001,  # SocketException
    11601,  # Interrupted: an operator killed the operation
    8000,  # AtlasError: MongoDB Atlas refuses the user
    14031,  # OutOfDiskSpace
}


@dataclass(frozen=True)
class Update:
    """One statement of `update_all`."""

    query: Document
    change: Document | list[Document]
    upsert: bool = False
    multi: bool = False


@asynccontextmanager
async def translated_errors() -> AsyncIterator[None]:
    """Translate errors of the driver that mean the store is away into StoreUnavailable. Other errors pass unchanged.

    Also measures the operation.
    """
    started = time.perf_counter()
    try:
        yield
    except UNAVAILABLE_ERRORS as error:
        raise StoreUnavailable(str(error)) from error
    except BulkWriteError as error:
        if error.details.get("writeConcernErrors"):
            raise StoreUnavailable("A write was not acknowledged by a majority.") from error
        if error.timeout or any(part["code"] in TRANSIENT_CODES for part in error.details.get("writeErrors", ())):
            raise StoreUnavailable("A write was not carried out in time.") from error
        raise
    except PyMongoError as error:
        if error.timeout or (isinstance(error, OperationFailure) and _may_work_later(error)):
            raise StoreUnavailable(str(error)) from error
        raise
    finally:
        metrics.STORE_SECONDS.observe(time.perf_counter() - started)


def _may_work_later(error: OperationFailure) -> bool:
    return error.has_error_label("RetryableWriteError") or error.code in TRANSIENT_CODES


async def find_all(
    collection: Any, query: Mapping[str, Any], projection: Mapping[str, Any] | None = None
) -> list[Document]:
    """Every document that matches. The caller must bound the query."""
    found: list[Document] = await collection.find(query, projection, batch_size=FIRST_BATCH).to_list(None)
    return found


async def aggregate(collection: Any, pipeline: Sequence[object]) -> list[Document]:
    """Run a pipeline and return its documents.

    Motor returns the cursor at once, PyMongo's asyncio client as a coroutine.
    """
    cursor = collection.aggregate(list(pipeline), batchSize=FIRST_BATCH)
    if hasattr(cursor, "__await__"):
        cursor = await cursor
    found: list[Document] = await cursor.to_list(None)
    return found


async def union(collection: Any, pipelines: Sequence[list[dict[str, Any]]]) -> list[list[Document]]:
    """Run pipelines over one collection in one round trip, with `$unionWith`. Returns the documents of each, in
    order."""
    if not pipelines:
        return []
    tagged = [[*pipeline, {"$addFields": {"_pipeline": index}}] for index, pipeline in enumerate(pipelines)]
    rest = [{"$unionWith": {"coll": collection.name, "pipeline": pipeline}} for pipeline in tagged[1:]]
    results: list[list[Document]] = [[] for _ in pipelines]
    for document in await aggregate(collection, [*tagged[0], *rest]):
        results[document.pop("_pipeline")].append(document)
    return results


async def read_snapshot(collection: Any, pipeline: Sequence[object]) -> tuple[list[Document], int]:
    """Run a pipeline over the newest state that a majority has committed. Returns its documents, and that state's
    version.

    A state with a higher version includes everything that one with a lower version includes, after a change of the
    primary too: a version is a time of the log up to which nothing is ever rolled back. The documents must fit into one
    reply (16 MB).
    """
    reply = await collection.database.command(
        {
            "aggregate": collection.name,
            "pipeline": list(pipeline),
            "cursor": {"batchSize": FIRST_BATCH},
            "readConcern": {"level": "snapshot"},
        }
    )
    cursor = reply["cursor"]
    at = cursor["atClusterTime"]
    return cursor["firstBatch"], total_version(at.time, at.inc)


async def insert_all(collection: Any, documents: Sequence[Document], *, majority: bool = True) -> tuple[int, Term]:
    """Insert in order, in one command, up to the first document whose id or other unique key is taken.

    Returns how many were inserted, and the term of the primary that took them. Without `majority` they may be rolled
    back until a later write of the same term has reached a majority.
    """
    reply = await _write(collection, {"insert": collection.name, "documents": list(documents)}, majority=majority)
    errors = reply.get("writeErrors")
    if not errors:
        return len(documents), reply.get("electionId")
    if errors[0]["code"] != DUPLICATE_KEY:
        raise BulkWriteError({"writeErrors": errors})
    return int(errors[0]["index"]), reply.get("electionId")


async def update_all(collection: Any, updates: Sequence[Update]) -> Term:
    """Make idempotent updates in one command, in any order, with majority concern. Returns the primary's term.

    When two workers upsert the same key at once, MongoDB may give one of them a duplicate key error, as it documents
    for concurrent upserts. The next attempt finds the document and updates it.
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
