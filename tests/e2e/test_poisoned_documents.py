"""A document in the store that no worker can handle: it harms nobody else, and operators find what it held up."""

import asyncio
import base64
import json
from typing import Any
from urllib.parse import quote

import httpx
import pymongo
import pytest

from contracts.errors import Code
from infra.local.tenant import Tenant
from tests.support.people import People
from tests.support.scrape import metric
from tests.support.socketio_client import Json


@pytest.mark.answers(Code.INTERNAL)
async def test_a_poisoned_conversation_is_put_aside_and_harms_no_other(people: People, tenant: Tenant) -> None:
    # Given two conversations, and one of them gets broken in the store
    ada, bob, cy, di = await people.arrive("ada", "bob", "cy", "di")
    poisoned, healthy = await people.chat(ada, bob), await people.chat(cy, di)
    persistence = people.stack.workers["persistence"][0]
    dead_before = await metric(persistence, "warren_worker_dead_letters_total")
    with pymongo.MongoClient[dict[str, Any]](tenant.mongo_url) as mongo:
        conversations = mongo[tenant.database]["conversations"]
        intact = conversations.find_one({"_id": poisoned})
        assert intact is not None
        conversations.update_one({"_id": poisoned}, {"$set": {"participants": "poison"}})
        try:
            # When both are written to at once, so that messages for both share batches
            sending = [
                await by.emit(
                    "send_message",
                    {"conversation_id": where, "client_message_id": f"p{number}", "body": "hello"},
                )
                for number in range(5)
                for by, where in ((ada, poisoned), (cy, healthy))
            ]
            acks = await asyncio.wait_for(asyncio.gather(*sending), 60)
        finally:
            conversations.replace_one({"_id": poisoned}, intact)

    # Then the broken one answers that this is our fault, with the id under which it is in the log
    errors = [ack["error"] for ack in acks[::2]]
    assert {(error["code"], error["retryable"]) for error in errors} == {("internal", True)}
    assert all(error["details"][0]["id"] for error in errors)
    # And the healthy one is none the worse
    assert [ack["data"]["message"]["seq"] for ack in acks[1::2]] == [2, 3, 4, 5, 6]
    # And what could not be handled is kept with what an operator needs to know, each on its own
    letters = await dead_letters(tenant, "persistence", poisoned)
    assert sorted(letter["item"]["payload"]["client_message_id"] for letter in letters) == [f"p{n}" for n in range(5)]
    for letter in letters:
        assert letter["headers"]["x-warren-queue"] == "persistence"
        assert letter["headers"]["x-warren-reason"]
        assert letter["headers"]["x-warren-first-failure"]
        assert int(letter["headers"]["x-warren-attempts"]) > 1
    assert await metric(persistence, "warren_worker_dead_letters_total") == dead_before + 5

    # When the store is mended, then the same message goes through
    acked = await ada.call("send_message", conversation_id=poisoned, client_message_id="p0", body="hello")
    assert acked["message"]["seq"] == 2
    assert await bob.push("new_message", poisoned) == acked


async def dead_letters(tenant: Tenant, queue: str, conversation_id: str) -> list[Json]:
    """What lies in a dead-letter queue about one conversation; it stays there."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.post(
            f"{tenant.services.management_url}/api/queues/{quote(tenant.name)}/{queue}.dead/get",
            json={"count": 1_000, "ackmode": "ack_requeue_true", "encoding": "base64"},
        )
    found = []
    for letter in answer.raise_for_status().json():
        body = json.loads(base64.b64decode(letter["payload"]))
        assert len(body["items"]) == 1, "every dead letter holds one item"
        if body["items"][0]["payload"].get("conversation_id") == conversation_id:
            found.append({"item": body["items"][0], "headers": letter["properties"]["headers"]})
    return found
