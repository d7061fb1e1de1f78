"""What a worker keeps of headers: little, for seconds, and not after a wrong guess."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from infra.store.client import CACHE_SECONDS
from infra.store.conversations import Header
from infra.store.messages import StoredMessage
from workers import header_cache
from workers.header_cache import MAX_CACHED_PARTICIPANTS, MAX_HEADERS, PAUSE, SMALL_BATCH, HeaderCache
from workers.visibility import may_see

TERM = ObjectId()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A monotonic clock that changes only when it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(header_cache, "time", clock)
    return clock


def header(id: str, people: int = 2) -> Header:
    participants = [{"user_id": f"u{n}", "read": {"seq": 0, "at": None}} for n in range(people)]
    document: dict[str, Any] = {"_id": id, "participants": participants, "last": None, "opened_by": ["u0"]}
    return Header(id, document)


def message(conversation_id: str, seq: int, sender: str = "u0") -> StoredMessage:
    return StoredMessage(f"{conversation_id}-{seq}", conversation_id, seq, sender, f"m{seq}", "hello", NOW)


def test_a_header_is_kept_as_it_is_with_the_stored_messages() -> None:
    cache = HeaderCache()
    cache.update({"a": header("a")}, [message("a", 2, "u1"), message("a", 1)], TERM)
    found = cache.get({"a"})
    assert found is not None
    assert found["a"].last_seq == 2
    assert (found["a"].watermark("u0").seq, found["a"].watermark("u1").seq) == (1, 2)
    assert may_see(found["a"], "u1")


def test_a_header_is_read_again_after_a_while_however_busy_its_conversation_is(clock: Clock) -> None:
    cache = HeaderCache()
    cache.update({"a": header("a")}, [message("a", 1)], TERM)
    for seq in range(2, 100):
        clock.now += CACHE_SECONDS / 8
        found = cache.get({"a"})
        if found is None:
            break
        cache.update(found, [message("a", seq)], TERM)
    assert clock.now - 1_000 == CACHE_SECONDS, "that is how long it was not read"


def test_one_unknown_header_or_a_large_batch_is_read_whole() -> None:
    cache = HeaderCache()
    ids = [f"c{n}" for n in range(SMALL_BATCH + 1)]
    for id in ids:
        cache.update({id: header(id)}, [message(id, 1)], TERM)
    assert cache.get(ids) is None
    assert cache.get(ids[1:]) is not None
    assert cache.get(["c0", "other"]) is None


def test_what_a_large_batch_makes_old_is_not_kept() -> None:
    cache = HeaderCache()
    ids = [f"c{n}" for n in range(SMALL_BATCH + 1)]
    cache.update({"c0": header("c0")}, [message("c0", 1)], TERM)
    cache.update({"other": header("other")}, [message("other", 1)], TERM)
    cache.update({id: header(id) for id in ids}, [message(id, 2) for id in ids], TERM)
    assert cache.get(["c0"]) is None
    assert cache.get(["other"]) is not None


def test_nothing_is_guessed_for_a_while_after_a_wrong_guess(clock: Clock) -> None:
    cache = HeaderCache()
    cache.update({"a": header("a")}, [message("a", 1)], TERM)
    cache.invalidate()
    cache.update({"a": header("a")}, [message("a", 2)], TERM)
    assert cache.get({"a"}) is None
    clock.now += PAUSE
    cache.update({"a": header("a")}, [message("a", 3)], TERM)
    assert cache.get({"a"}) is not None


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    cache = HeaderCache()
    for number in range(MAX_HEADERS + 1):
        cache.update({f"c{number}": header(f"c{number}")}, [message(f"c{number}", 1)], TERM)
    assert cache.get({"c0"}) is None
    assert cache.get({"c1", f"c{MAX_HEADERS}"}) is not None
    cache.update({"large": header("large", MAX_CACHED_PARTICIPANTS + 1)}, [message("large", 1)], TERM)
    assert cache.get({"large"}) is None
