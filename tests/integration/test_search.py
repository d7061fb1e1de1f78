"""Search: who is found, and that a slow search delays nobody else."""

import time
from typing import Any

import pytest
from pymongo import monitoring
from typing_extensions import override

from contracts.commands import FindUsers, FindUsersPayload
from contracts.errors import StoreUnavailable
from infra.store.client import Store
from infra.store.operations import Document
from infra.store.users import Users
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks
from tests.support.sample_commands import EDGE, opened
from tests.support.worker_settings import MakeSettings
from workers.presence import Presence
from workers.search import Search


def find(by: str, query: str = "", *, online_only: bool = False, limit: int = 50) -> FindUsers:
    payload = FindUsersPayload(query=query, online_only=online_only, limit=limit)
    return FindUsers(
        edge_id=EDGE, request=id(payload), at=int(time.time() * 1000), user_id=by, sid="s", payload=payload
    )


async def test_users_are_found_by_the_starts_of_words_and_never_oneself(store: Store) -> None:
    await Presence(store)([opened("ada.lovelace"), opened("adam"), opened("grace.hopper"), opened("$where")])
    queries = {q: find("adam", q) for q in ("", "ADA", "lace", "gra", "hop", "$wh", ".*", "ada zzz")}
    answers = acks(await Search(store)(list(queries.values())))
    found = {q: [user["id"] for user in answers[c.request]["data"]["users"]] for q, c in queries.items()}
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
    await Presence(store)([opened("ada"), opened("grace")])
    real = Users.search

    async def slow_for_some(users: Users, searcher: str, query: str, *rest: Any, **options: Any) -> list[Document]:
        if query == "slow":
            raise StoreUnavailable("operation exceeded time limit")
        return await real(users, searcher, query, *rest, **options)

    monkeypatch.setattr(Users, "search", slow_for_some)
    slow, quick = find("ada", "slow"), find("ada", "gra")
    answers = acks(await Search(store)([slow, quick]))
    assert answers[slow.request]["error"]["code"] == "unavailable"
    assert [user["id"] for user in answers[quick.request]["data"]["users"]] == ["grace"]


async def test_the_store_is_told_how_long_a_search_may_take(make_settings: MakeSettings) -> None:
    limits: list[int] = []

    class Listener(CommandCounter):
        @override
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "find":
                limits.append(event.command.get("maxTimeMS", 0))

    store = Store(make_settings(), [Listener()])
    try:
        await Users(store).search("ada", "use", False, 100, limit_ms=700)
    finally:
        await store.close()
    assert [0 < limit <= 700 for limit in limits] == [True], limits
