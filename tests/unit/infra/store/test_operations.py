"""Operations of any collection: one command each, and which errors mean that the store is away."""

from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId
from prometheus_client import REGISTRY
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidName,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from contracts.errors import StoreUnavailable
from infra.store.operations import (
    UPSERT_ATTEMPTS,
    Document,
    Update,
    aggregate,
    find_all,
    insert_all,
    translated_errors,
    union,
    update_all,
)

TERM = ObjectId()
DUPLICATE: Document = {"index": 2, "code": 11000, "errmsg": "duplicate"}
INVALID: Document = {"index": 0, "code": 2, "errmsg": "unknown operator"}


# --- Errors -----------------------------------------------------------------------------------------------


def bulk_error(**details: list[Document]) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [], "writeConcernErrors": [], **details})


def stepping_down() -> OperationFailure:
    """An error that has an ordinary code, and a label that says that it may work later."""
    return OperationFailure("stepping down", 10107, {"errorLabels": ["RetryableWriteError"]})


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailure("refused"),
        AutoReconnect("reset"),
        ServerSelectionTimeoutError("no primary"),
        NetworkTimeout("no answer"),
        NotPrimaryError("stepping down"),
        ExecutionTimeout("over the limit", 50),
        WTimeoutError("no majority", 64),
        WaitQueueTimeoutError("no connection free"),
        OperationFailure("no committed snapshot yet", 134),
        OperationFailure("not authorized on warren", 13),
        OperationFailure("Authentication failed.", 18),
        bulk_error(writeErrors=[{"index": 0, "code": 13, "errmsg": "not authorized on warren"}]),
        OperationFailure("took too long", 262),
        OperationFailure("disk full", 14031),
        stepping_down(),
        bulk_error(writeConcernErrors=[{"code": 64, "errmsg": "waiting for replication timed out"}]),
        bulk_error(writeErrors=[{"index": 0, "code": 50, "errmsg": "operation exceeded time limit"}]),
        bulk_error(writeErrors=[{"index": 0, "code": 14031, "errmsg": "disk full"}]),
    ],
    ids=str,
)
async def test_what_a_store_says_that_cannot_serve_now_means_that_it_is_away(error: Exception) -> None:
    with pytest.raises(StoreUnavailable):
        async with translated_errors():
            raise error


@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("unknown operator", 2),
        bulk_error(writeErrors=[DUPLICATE]),
        InvalidName("a.$b"),
        ValueError("a bug of ours"),
    ],
    ids=str,
)
async def test_anything_else_is_passed_on(error: Exception) -> None:
    with pytest.raises(type(error)):
        async with translated_errors():
            raise error


async def test_every_operation_is_measured_however_it_ends() -> None:
    def measured() -> float:
        return REGISTRY.get_sample_value("warren_store_seconds_count") or 0.0

    before = measured()
    async with translated_errors():
        pass
    with pytest.raises(StoreUnavailable):
        async with translated_errors():
            raise ConnectionFailure("refused")
    assert measured() == before + 2


# --- Reading ----------------------------------------------------------------------------------------------


class Cursor:
    """What a driver returns for a query."""

    def __init__(self, documents: list[Document]) -> None:
        self._documents = documents

    async def to_list(self, length: int | None) -> list[Document]:
        """All documents."""
        assert length is None
        return self._documents


class Collection:
    """A collection that notes what it is asked, and answers as a driver does."""

    name = "things"

    def __init__(self, *replies: Document, documents: list[Document] | None = None, motor: bool = False) -> None:
        self.commands: list[Document] = []
        self.asked: list[Any] = []
        self._replies = list(replies)
        self._documents = documents or []
        self._motor = motor

    @property
    def database(self) -> "Collection":
        """The database, which takes commands."""
        return self

    async def command(self, command: Document) -> Document:
        """Give the next reply."""
        self.commands.append(command)
        return self._replies.pop(0)

    def find(self, *arguments: Any, batch_size: int) -> Cursor:
        """Give all documents."""
        self.asked.append((*arguments, batch_size))
        return Cursor(self._documents)

    def aggregate(self, pipeline: list[Document], **options: Any) -> Any:
        """Give all documents: Motor the cursor, PyMongo a coroutine of it."""
        self.asked.append(pipeline)
        cursor = Cursor(self._documents)

        async def coroutine() -> Cursor:
            return cursor

        return cursor if self._motor else coroutine()


async def test_a_query_asks_for_all_of_its_documents_at_once() -> None:
    collection = Collection(documents=[{"_id": 1}, {"_id": 2}])
    assert await find_all(collection, {"a": 1}, {"b": 1}) == [{"_id": 1}, {"_id": 2}]
    ((query, projection, batch_size),) = collection.asked
    assert (query, projection) == ({"a": 1}, {"b": 1})
    assert batch_size >= 10_000, "the rest of the documents costs another round trip"


@pytest.mark.parametrize("motor", [True, False], ids=["motor", "pymongo"])
async def test_a_pipeline_gives_its_documents_through_either_driver(motor: bool) -> None:
    collection = Collection(documents=[{"_id": 1}], motor=motor)
    assert await aggregate(collection, ({"$match": {}},)) == [{"_id": 1}]
    assert collection.asked == [[{"$match": {}}]]


async def test_several_pipelines_are_one_round_trip_and_each_gets_its_own_documents_in_order() -> None:
    # Given three pipelines, and documents of two of them in any order
    documents = [{"_id": 1, "_pipeline": 2}, {"_id": 2, "_pipeline": 0}, {"_id": 3, "_pipeline": 2}]
    collection = Collection(documents=documents)

    # When they are run together, then the collection is asked once
    found = await union(collection, [[{"$match": {"n": n}}] for n in range(3)])
    assert found == [[{"_id": 2}], [], [{"_id": 1}, {"_id": 3}]]
    ((first, tag, *others),) = collection.asked
    assert (first, tag) == ({"$match": {"n": 0}}, {"$addFields": {"_pipeline": 0}})
    assert [stage["$unionWith"]["coll"] for stage in others] == ["things", "things"]


async def test_no_pipelines_are_no_round_trip() -> None:
    collection = Collection()
    assert await union(collection, []) == []
    assert collection.asked == []


# --- Writing ----------------------------------------------------------------------------------------------


async def test_an_insert_is_one_command_in_order_that_waits_for_the_majority() -> None:
    collection = Collection({"n": 2, "electionId": TERM})
    assert await insert_all(collection, [{"_id": 1}, {"_id": 2}]) == (2, TERM)
    (command,) = collection.commands
    assert (command["insert"], command["documents"]) == ("things", [{"_id": 1}, {"_id": 2}])
    assert command["writeConcern"] == {"w": "majority"}
    assert command.get("ordered", True) is True


async def test_an_insert_need_not_wait_where_a_later_write_does() -> None:
    collection = Collection({"n": 1})
    assert await insert_all(collection, [{"_id": 1}], majority=False) == (1, None)
    assert collection.commands[0]["writeConcern"] == {"w": 1}


async def test_an_insert_stops_at_the_first_document_that_is_there() -> None:
    collection = Collection({"n": 2, "writeErrors": [DUPLICATE], "electionId": TERM})
    assert await insert_all(collection, [{"_id": n} for n in range(5)]) == (2, TERM)


async def test_updates_are_one_command_in_any_order_that_waits_for_the_majority() -> None:
    # Given two updates
    collection = Collection({"n": 2, "electionId": TERM})
    updates = [Update({"_id": 1}, {"$set": {"a": 1}}), Update({"b": 1}, [{"$set": {"a": 1}}], upsert=True, multi=True)]

    # When they are made
    assert await update_all(collection, updates) == TERM

    # Then they are one command
    (command,) = collection.commands
    assert command == {
        "update": "things",
        "updates": [
            {"q": {"_id": 1}, "u": {"$set": {"a": 1}}, "upsert": False, "multi": False},
            {"q": {"b": 1}, "u": [{"$set": {"a": 1}}], "upsert": True, "multi": True},
        ],
        "ordered": False,
        "writeConcern": {"w": "majority"},
    }


async def test_an_upsert_that_met_another_of_the_same_key_is_made_again() -> None:
    collided = {"n": 0, "writeErrors": [DUPLICATE]}
    collection = Collection(*[collided] * (UPSERT_ATTEMPTS - 1), {"n": 1, "electionId": TERM})
    assert await update_all(collection, [Update({"_id": 1}, {}, upsert=True)]) == TERM
    assert len(collection.commands) == UPSERT_ATTEMPTS


@pytest.mark.parametrize("errors", [[DUPLICATE], [DUPLICATE, INVALID], [INVALID]], ids=["for ever", "among others", ""])
async def test_an_update_that_cannot_work_is_an_error_in_the_end(errors: list[Document]) -> None:
    collection = Collection(*[{"n": 0, "writeErrors": errors}] * UPSERT_ATTEMPTS)
    with pytest.raises(BulkWriteError):
        await update_all(collection, [Update({"_id": 1}, {}, upsert=True)])


async def test_an_insert_that_cannot_work_is_an_error() -> None:
    with pytest.raises(BulkWriteError):
        await insert_all(Collection({"n": 0, "writeErrors": [INVALID]}), [{"_id": 1}])


@pytest.mark.parametrize(
    "write",
    [
        lambda collection: insert_all(collection, [{"_id": 1}]),
        lambda collection: update_all(collection, [Update({"_id": 1}, {})]),
    ],
    ids=["insert", "update"],
)
async def test_a_write_without_a_majority_means_that_the_store_is_away(write: Callable[[Collection], Any]) -> None:
    collection = Collection({"n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}})
    with pytest.raises(StoreUnavailable):
        async with translated_errors():
            await write(collection)
