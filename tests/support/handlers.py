"""What handlers return, as clients would get it, and a conversation that they started."""

from typing import Any

import orjson

from contracts.frames import Push
from infra.store.client import Store
from tests.support.sample_commands import opened, start
from workers.effects import Effects
from workers.persistence import Persistence
from workers.presence import Presence


def acks(effects: Effects) -> dict[int, dict[str, Any]]:
    """The acks in an effects by request."""
    return {reply.request: orjson.loads(reply.ack) for replies in effects.replies.values() for reply in replies}


def pushes(effects: Effects, event: str) -> list[Push]:
    """The pushes of one event."""
    return [push for push in effects.pushes if push.event == event]


async def conversation(store: Store, *users: str, opened_by_all: bool = True) -> str:
    """Let these people be seen, and the first one start a conversation; the others as well, unless said otherwise."""
    await Presence(store)([opened(user) for user in users])
    command = start(users[0], *users[1:])
    effects = await Persistence(store)([command])
    id = str(acks(effects)[command.request]["data"]["conversation"]["id"])
    if opened_by_all:
        await store.conversations.update_one({"_id": id}, {"$set": {"opened_by": list(users)}})
    return id


async def stored_seqs(store: Store, conversation_id: str) -> list[int]:
    """The seqs of a conversation's messages in the store, in order."""
    documents = await store.messages.find({"conversation_id": conversation_id}).sort("seq", 1).to_list(None)
    return [document["seq"] for document in documents]
