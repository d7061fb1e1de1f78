"""Reads and writes of any collection, and which errors mean that the store is away.

Workers write by `insert_all` and `update_all`: one command each, and none that the driver repeats by itself. For
those the server keeps a record of every statement, which costs it as much as the write; our writes are idempotent,
and the runner repeats whole batches.
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

from contracts.errors import StoreUnavailable
from infra import metrics

Document = dict[str, Any]
#: A primary's term, named by the election that made it primary: two writes with the same term were taken by one
#: primary, in its one log. None behind a router (`mongos`), which asks many primaries.
Term = ObjectId | None

#: Server error code of a duplicate key.
DUPLICATE_KEY = 11000
#: How often an upsert is tried that meets another of the same key.
UPSERT_ATTEMPTS = 3
#: Documents in the first answer to a query; MongoDB's default is 101, and the rest costs another round trip.
FIRST_BATCH = 100_000
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
    found: list[Document] = await collection.find(query, projection, batch_size=FIRST_BATCH).to_list(None)
    return found


async def aggregate(collection: Any, pipeline: Sequence[object]) -> list[Document]:
    """Run a pipeline; Motor returns its cursor at once, PyMongo's asyncio client after an await."""
    cursor = collection.aggregate(list(pipeline), batchSize=FIRST_BATCH)
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


async def insert_all(collection: Any, documents: Sequence[Document], *, majority: bool = True) -> tuple[int, Term]:
    """Insert in order, in one command, up to the first whose id or other unique key is taken.

    Returns how many went in, and the term of the primary that took them. Without `majority` they may still be rolled
    back, until a later write in the same term has reached one.
    """
    reply = await _write(collection, {"insert": collection.name, "documents": list(documents)}, majority=majority)
    errors = reply.get("writeErrors")
    if not errors:
        return len(documents), reply.get("electionId")
    if errors[0]["code"] != DUPLICATE_KEY:
        raise BulkWriteError({"writeErrors": errors})
    return int(errors[0]["index"]), reply.get("electionId")


async def update_all(collection: Any, updates: Sequence[Update]) -> Term:
    """Carry out idempotent updates in one command, to a majority, in any order. Returns the primary's term.

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
