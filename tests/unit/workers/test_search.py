"""Search: the searches of one user do not keep others waiting."""

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from infra.store.operations import Document
from infra.store.users import Users
from tests.support.handlers import acks
from tests.support.sample_commands import find_users
from workers import search
from workers.search import Search


async def test_users_take_turns_and_a_batch_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that takes long for each search
    began: list[str] = []

    async def slow(users: Users, searcher: str, *rest: Any, **options: Any) -> list[Document]:
        began.append(searcher)
        await asyncio.sleep(0.02)
        return []

    monkeypatch.setattr(Users, "search", slow)
    monkeypatch.setattr(search, "BATCH_LIMIT", 0.05)
    store: Any = SimpleNamespace(users=None, one_term=nullcontext)

    # When a user sends as many searches as are allowed at once, and another user sends one after them
    flood, own = [find_users("mallory") for _ in range(60)], find_users("bob")
    answers = acks(await Search(store)([*flood, own]))

    # Then the other's is among the first, and those for which there is no time are refused
    assert "bob" in began[:2]
    assert answers[own.request]["ok"]
    refused = [answers[command.request]["error"]["code"] for command in flood if not answers[command.request]["ok"]]
    assert len(refused) > 30
    assert set(refused) == {"unavailable"}
