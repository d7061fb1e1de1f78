"""Which errors of the driver mean "not now", so that a batch is held, and which mean that something is wrong."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pymongo.errors import BulkWriteError, NotPrimaryError, OperationFailure, PyMongoError

from contracts.errors import StoreUnavailable
from infra.store.client import PrimaryListener
from infra.store.operations import translated_errors

DUPLICATE: dict[str, Any] = {"index": 0, "code": 11000, "errmsg": "duplicate"}


def bulk_error(**details: list[dict[str, Any]]) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [], "writeConcernErrors": [], **details})


@pytest.mark.parametrize(
    "error",
    [
        NotPrimaryError("stepping down"),
        OperationFailure("no committed snapshot yet", 134),
        OperationFailure("took too long", 262),
        OperationFailure("disk full", 14031),
        bulk_error(writeConcernErrors=[{"code": 64, "errmsg": "waiting for replication timed out"}]),
        bulk_error(writeErrors=[{"index": 0, "code": 50, "errmsg": "operation exceeded time limit"}]),
        bulk_error(writeErrors=[{"index": 0, "code": 14031, "errmsg": "disk full"}]),
    ],
    ids=str,
)
async def test_what_a_server_says_that_cannot_serve_now_holds_the_batch(error: PyMongoError) -> None:
    with pytest.raises(StoreUnavailable):
        async with translated_errors():
            raise error


@pytest.mark.parametrize(
    "error", [OperationFailure("unknown operator", 2), bulk_error(writeErrors=[DUPLICATE])], ids=str
)
async def test_anything_else_is_passed_on(error: PyMongoError) -> None:
    with pytest.raises(type(error)):
        async with translated_errors():
            raise error


def test_a_primary_is_missed_and_welcomed_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = PrimaryListener("watched")
    ups = []
    for has_primary in (False, True, True, False, False, True):
        description = SimpleNamespace(has_writable_server=lambda has=has_primary: has)
        watch.description_changed(SimpleNamespace(new_description=description))  # type: ignore[arg-type]
        ups.append(REGISTRY.get_sample_value("warren_store_up", {"database": "watched"}))
    assert ups == [0, 1, 1, 0, 0, 1]
    assert caplog.messages == [
        "The store has a primary.",
        "The store is away: it has no primary.",
        "The store has a primary.",
    ]
