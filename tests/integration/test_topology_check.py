"""`python -m infra topology check`, against a real broker that is as it should be, and then is not."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from contracts.topology import PERSISTENCE, QUEUES, UNREAD, edge_queue
from infra.__main__ import app
from infra.broker.channel import Channel
from infra.broker.declare import declare_edge_queue, declare_topology
from infra.broker.link import connect_once
from infra.cli.topology_check import differences
from infra.deploy.definitions import definitions, policies
from infra.local.services import Services
from infra.settings import Settings


@pytest.fixture
def settings(vhost: str, services: Services) -> Settings:
    """Of an operator in an empty virtual host."""
    return Settings(amqp_url=SecretStr(vhost), management_url=SecretStr(services.management_url))


@pytest.fixture
def api(services: Services) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=services.management_url, timeout=30, trust_env=False) as client:
        yield client


def name(vhost: str) -> str:
    return urlsplit(vhost).path[1:]


async def test_nothing_differs_where_the_topology_was_declared_and_an_edge_listens(settings: Settings) -> None:
    async def listen(channel: Channel) -> None:
        await declare_topology(channel)
        await declare_edge_queue(channel, edge_queue("edge-1", 1))
        assert await differences(settings) == []

    await connect_once(settings, listen)


def test_nothing_differs_where_definitions_were_imported(vhost: str, settings: Settings, api: httpx.Client) -> None:
    value = definitions(name(vhost), {}) | {"users": [], "permissions": []}
    api.post("/api/definitions", json=value).raise_for_status()
    found = api.get(f"/api/policies/{name(vhost)}").raise_for_status().json()
    assert {policy["name"]: policy["definition"] for policy in found} == {
        policy.name: policy.definition for policy in policies()
    }
    printed = check(settings)
    assert printed.exit_code == 0, printed.output
    assert printed.output == "The broker is as Warren expects it.\n"


async def test_an_empty_broker_lacks_everything(settings: Settings) -> None:
    found = await differences(settings)
    assert "Exchange warren.commands is missing." in found
    assert {f"Queue {queue.name} is missing." for queue in QUEUES} <= set(found)
    assert "Queue persistence is not bound to warren.commands with send_message." in found


def test_each_difference_is_a_sentence_and_the_exit_code_says_so(
    vhost: str, settings: Settings, api: httpx.Client
) -> None:
    # Given a broker on which somebody has been busy
    where = name(vhost)

    def put(path: str, value: dict[str, object]) -> None:
        api.put(f"/api/{path}", json=value).raise_for_status()

    put(f"exchanges/{where}/warren.facts", {"type": "topic", "durable": True})
    shorter = {**PERSISTENCE.arguments, "x-delivery-limit": 3}
    put(f"queues/{where}/persistence", {"durable": True, "arguments": shorter})
    put(f"queues/{where}/unread", {"durable": True, "arguments": UNREAD.arguments})
    put(f"queues/{where}/spy", {"durable": True})
    api.post(f"/api/bindings/{where}/e/warren.facts/q/spy", json={"routing_key": "message.stored"}).raise_for_status()
    limit = {"max-length": 10, "overflow": "reject-publish"}
    put(f"policies/{where}/panic", {"pattern": "^unread$", "definition": limit, "apply-to": "queues", "priority": 5})

    # When it is checked
    printed = check(settings)

    # Then each of these is said
    assert printed.exit_code == 1
    for sentence in (
        "Exchange warren.facts has type 'topic' instead of 'direct'.",
        "Queue persistence has x-delivery-limit 3 instead of 10.",
        "Queue history is missing.",
        "Queue unread is not bound to warren.facts with message.stored.",
        "spy is bound to warren.facts with message.stored, which Warren did not declare.",
        "Policy panic gives unread max-length 10 instead of 1000000.",
    ):
        assert sentence in printed.output.splitlines()
    assert "overflow" not in printed.output


def check(settings: Settings):  # type: ignore[no-untyped-def]  # of click, which typer carries
    """Run the command as an operator does."""
    assert settings.management_url is not None
    environment = {
        "WARREN_AMQP_URL": settings.amqp_url.get_secret_value(),
        "WARREN_MANAGEMENT_URL": settings.management_url.get_secret_value(),
    }
    return CliRunner().invoke(app, ["topology", "check"], env=environment)
