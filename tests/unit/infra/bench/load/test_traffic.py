"""Traffic: the pushes of other runs are not its own, and it ends at its limit."""

from typing import Any

import orjson
import pytest

from infra.bench.load import traffic as traffic_module
from infra.bench.load.light_client import Client, Conversation
from infra.bench.load.traffic import Traffic
from tests.support.waiting import eventually


@pytest.fixture
async def traffic() -> Traffic:
    """A message of ada's to bob that no server has seen: neither client is connected."""
    clients = tuple(Client("http://127.0.0.1:1", user_id, str) for user_id in ("ada", "bob"))
    traffic = Traffic([Conversation(clients, "chat")])
    traffic.send(traffic.conversations[0], 0)
    return traffic


def push(client_message_id: str, sender_id: str = "ada") -> bytes:
    message: dict[str, Any] = {"client_message_id": client_message_id, "sender_id": sender_id, "seq": 1}
    return b"42" + orjson.dumps(["new_message", {"message": message}])


async def test_a_push_to_the_recipient_is_a_delivery(traffic: Traffic) -> None:
    (message,) = traffic.sent
    _, bob = traffic.conversations[0].clients
    assert bob.on_push is not None
    bob.on_push(push(message.client_message_id))
    assert message.delivered_at > 0


async def test_pushes_of_other_runs_are_ignored(traffic: Traffic) -> None:
    (message,) = traffic.sent
    _, bob = traffic.conversations[0].clients
    assert bob.on_push is not None
    for foreign in ("0", "another-0", "0123abcd-0"):
        bob.on_push(push(foreign))
    assert message.delivered_at == 0


async def test_a_try_without_a_connection_is_noted_and_repeated(traffic: Traffic) -> None:
    (message,) = traffic.sent
    assert (message.tries, message.failures) == (1, ["not connected"])
    await eventually(lambda: message.tries == 2, sentence="the message is tried again")


async def test_a_run_is_full_at_its_limit(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not traffic.is_full
    monkeypatch.setattr(traffic_module, "MAX_MESSAGES", 1)
    assert traffic.is_full
