"""The client of RabbitMQ's management API: where it asks, and what it makes of the answers."""

from typing import Any

import pytest
from pydantic import SecretStr

from contracts.errors import BrokerUnavailable
from infra.broker.management import QueueStatus, fetch, queues
from infra.settings import Settings
from tests.support.management_api import management_api


def settings(amqp_url: str, management_url: str | None = None) -> Settings:
    management = SecretStr(management_url) if management_url else None
    return Settings(amqp_url=SecretStr(amqp_url), management_url=management)


@pytest.mark.parametrize(
    ("amqp_url", "where"),
    [
        ("amqp://ada:top-secret@broker.invalid/", "broker.invalid:15672"),
        ("amqp://ada:top-secret@127.0.0.1:1/chat", "127.0.0.1:10001"),
        ("amqps://ada:top-secret@127.0.0.1:5671/", "127.0.0.1:15671"),
    ],
)
async def test_without_an_address_it_is_asked_beside_the_broker_and_no_password_is_said(
    amqp_url: str, where: str
) -> None:
    with pytest.raises(BrokerUnavailable, match=rf"The management API at {where} does not answer") as away:
        await queues(settings(amqp_url))
    assert "top-secret" not in str(away.value)


@pytest.mark.parametrize(
    ("amqp_path", "vhost"), [("", "%2F"), ("/", "%2F"), ("/chat", "chat"), ("/a%2Fb%20c", "a%2Fb%20c")]
)
async def test_each_path_is_asked_for_in_the_virtual_host_in_order(amqp_path: str, vhost: str) -> None:
    answers = {f"/api/queues/{vhost}": [1], "/api/overview": {"a": 2}}
    with management_api(answers) as url:
        asked = settings(f"amqp://127.0.0.1:1{amqp_path}", f"{url}/")
        assert await fetch(asked, "/api/queues/{vhost}", "/api/overview") == [[1], {"a": 2}]


async def test_queues_come_by_name_and_what_a_new_one_lacks_is_nothing() -> None:
    # Given a queue that nobody has used yet, and a busy one
    busy: dict[str, Any] = {
        "name": "persistence",
        "messages_ready": 3,
        "messages_unacknowledged": 200,
        "consumers": 2,
        "message_stats": {"publish_details": {"rate": 1.5}, "deliver_get_details": {"rate": 2}, "ack_details": {}},
    }
    with management_api({"/api/queues/%2F": [{"name": "typing"}, busy]}) as url:
        # Then both are there, with zeros for what is not known
        assert await queues(settings("amqp://127.0.0.1:1/", url)) == [
            QueueStatus("persistence", 3, 200, 2, 1.5, 2.0, 0.0),
            QueueStatus("typing", 0, 0, 0, 0.0, 0.0, 0.0),
        ]
