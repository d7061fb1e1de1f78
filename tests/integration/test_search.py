"""Search: who is found, and that a slow search delays nobody else."""

from typing import Any

import pytest
from pymongo import monitoring
from typing_extensions import override

from contracts.errors import StoreUnavailable
from infra.store.client import Store
from infra.store.operations import Document
from infra.store.users import Users
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks
from tests.support.sample_commands import find_users, opened
from tests.support.worker_settings import MakeSettings
from workers.presence import Presence
from workers.search import Search


async def test_users_are_found_by_the_starts_of_words_and_never_oneself(store: Store) -> None:
    # Given users with ids of several words
    await Presence(store)([opened("ada.lovelace"), opened("adam"), opened("grace.hopper"), opened("$where")])

    # When one of them searches
    queries = {q: find_users("adam", q) for q in ("", "ADA", "lace", "gra", "hop", "$wh", ".*", "ada zzz")}
    answers = acks(await Search(store)(list(queries.values())))
    found = {q: [user["id"] for user in answers[c.request]["data"]["users"]] for q, c in queries.items()}

    # Then starts of words find others, and every character means itself
    assert found == {
        "": ["$where", "ada.lovelace", "grace.hopper"],
        "ADA": ["ada.lovelace"],
        "lace": [],
        "gra": ["grace.hopper"],
        "hop": [],
        "$wh": ["$where"],
        ".*": [],
        "ada zzz": [],
    }


async def test_a_search_that_takes_too_long_fails_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that takes too long for one query
    await Presence(store)([opened("ada"), opened("grace")])
    real = Users.search

    async def slow_for_some(users: Users, searcher: str, query: str, *rest: Any, **options: Any) -> list[Document]:
        if query == "slow":
            raise StoreUnavailable("operation exceeded time limit")
        return await real(users, searcher, query, *rest, **options)

    monkeypatch.setattr(Users, "search", slow_for_some)

    # When that and another come in one batch
    slow, quick = find_users("ada", "slow"), find_users("ada", "gra")
    answers = acks(await Search(store)([slow, quick]))

    # Then the one is refused, and the other is answered
    assert answers[slow.request]["error"]["code"] == "unavailable"
    assert [user["id"] for user in answers[quick.request]["data"]["users"]] == ["grace"]


async def test_the_store_is_told_how_long_a_search_may_take(make_settings: MakeSettings) -> None:
    # Given a listener that notes the limit of each query
    limits: list[int] = []

    class Listener(CommandCounter):
        @override
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "find":
                limits.append(event.command.get("maxTimeMS", 0))

    # When a search may take 700 ms
    store = Store(make_settings(), [Listener()])
    try:
        await Users(store).search("ada", "use", False, 100, limit_ms=700)
    finally:
        await store.close()

    # Then the store is told so
    assert [0 < limit <= 700 for limit in limits] == [True], limits
