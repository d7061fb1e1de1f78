"""Budgets: each kind of work in its own unit, for each user, and longer than the sockets."""

import time
from typing import Any

import pytest

from contracts.codec import decode_payload
from contracts.commands import CLIENT_EVENTS, CONVERSATION_ITEMS
from contracts.values import DEFAULT_LIMIT, Value
from edge import costs
from edge.costs import CostLimits, Work, cost_of
from infra.settings import EdgeSettings
from tests.unit.edge.gateway_alone import SECRET, GatewayAlone


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def payload(event: str, **fields: Any) -> Value:
    return decode_payload(CLIENT_EVENTS[event], fields)


def limits(**settings: int) -> CostLimits:
    return CostLimits(EdgeSettings.model_validate({"jwt_secret": SECRET, **settings}))


START = payload("start_conversation", participant_ids=["bob", "cy", "bob"])
SEARCH = payload("find_users")
PAGE = payload("list_messages", conversation_id="c", limit=40)


@pytest.mark.parametrize(
    ("event", "cost"),
    [
        (START, (Work.START, 2)),
        (SEARCH, (Work.SEARCH, 1)),
        (PAGE, (Work.READ, 40)),
        (payload("list_participants", conversation_id="c"), (Work.READ, DEFAULT_LIMIT)),
        (payload("list_conversations", limit=3), (Work.READ, 3 * CONVERSATION_ITEMS)),
        (payload("get_users", user_ids=["a", "b"]), (Work.READ, 2)),
        (payload("get_presence", user_ids=["a", "b"]), (Work.READ, 2)),
        (payload("typing", conversation_id="c", typing=True), None),
        (payload("message_seen", conversation_id="c", seq=1), None),
        (payload("send_message", conversation_id="c", client_message_id="1", body="x"), None),
    ],
)
def test_each_kind_of_work_has_a_budget_in_its_own_unit(event: Value, cost: tuple[Work, int] | None) -> None:
    assert cost_of(event) == cost


def test_a_budget_is_spent_at_once_and_fills_evenly(clock: list[float]) -> None:
    # Given a budget of 4 people an hour, and a user who spends it
    budgets = limits(start_people_per_hour=4)
    assert [budgets.take("ada", START) for _ in range(2)] == [0, 0]

    # Then the next start of two must wait half an hour, whereas other work and other users need not
    assert budgets.take("ada", START) == pytest.approx(1_800)
    assert budgets.take("ada", SEARCH) == budgets.take("ada", PAGE) == budgets.take("bob", START) == 0
    clock[0] += 1_801
    assert budgets.take("ada", START) == 0


def test_an_event_that_costs_more_than_a_whole_budget_takes_all_of_it(clock: list[float]) -> None:
    budgets = limits(read_items_per_minute=30)
    assert budgets.take("ada", PAGE) == 0
    assert budgets.take("ada", PAGE) == pytest.approx(60)


def test_a_budget_of_0_means_without_limit(clock: list[float]) -> None:
    budgets = limits(start_people_per_hour=0, searches_per_minute=0, read_items_per_minute=0)
    assert not any(budgets.take("ada", event) for event in (START, SEARCH, PAGE) for _ in range(1_000))


def test_the_budgets_of_so_many_users_are_kept(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MAX_USERS", 2)
    budgets = limits(searches_per_minute=1)
    for user in ("ada", "bob", "ada", "cy"):
        budgets.take(user, SEARCH)
    assert [budgets.take(user, SEARCH) > 0 for user in ("ada", "cy", "bob")] == [True, True, False]


async def test_a_budget_outlives_the_sockets_of_its_user(edge: GatewayAlone) -> None:
    # Given a user who has spent a budget, and is gone from the edge
    search: list[object] = [{"query": "x"}]
    engine = await edge.connect()
    for number in range(edge.settings.searches_per_minute + 1):
        edge.gateway.event("s1", number, "find_users", search)
    assert engine.ack(edge.settings.searches_per_minute)["error"]["code"] == "rate_limited"
    edge.gateway.disconnect("s1", "client")
    edge.sockets.remove_user("ada")

    # When the user is back, then it is still spent
    back = await edge.connect("s2")
    edge.gateway.event("s2", 1, "find_users", search)
    error = back.ack(1)["error"]
    assert (error["code"], error["retryable"]) == ("rate_limited", True)
    assert 0 < error["retry_after_ms"] <= 1_001
