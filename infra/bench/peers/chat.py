"""`python -m infra.bench.peers.chat`: chat on python-socketio and Motor, written for speed.

With PEER_AMQP_URL, several of these form a cluster with python-socketio's own AsyncAioPikaManager; without it, one runs
alone. PEER_PATCHED turns on two changes for which the libraries have no setting: see `Cluster`, and PyMongo's asyncio
client instead of Motor.

A message takes three operations of the store. The first finds a repeated `client_message_id`. The second gives the
message its seq and counts it as unread, both in the header and so atomically. It does not wait for a majority, because
the third, the insert, does, and that commits everything before it in the log. A crash between the two leaves a gap.
"""

import asyncio
import os
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import socketio
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReturnDocument
from pymongo.asynchronous.mongo_client import AsyncMongoClient
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from infra.bench.peers.serving import Json, make_server, serve, user_of

AMQP_URL = os.environ.get("PEER_AMQP_URL")
PATCHED = bool(os.environ.get("PEER_PATCHED"))
POOL_SIZE = 50
PREVIEW_CHARACTERS = 120

#: Prefetch of the patched manager for messages of other servers; the library's own is one.
PATCHED_PREFETCH = 200

Data = dict[str, Any]


class Cluster(socketio.AsyncAioPikaManager):  # type: ignore[misc]
    """The library's manager, with an event for when it consumes."""

    def __init__(self, url: str) -> None:
        super().__init__(url, json=Json)
        self.listens = asyncio.Event()

    async def _queue(self, channel: AbstractChannel, exchange: AbstractExchange) -> AbstractQueue:
        if PATCHED:
            await channel.set_qos(prefetch_count=PATCHED_PREFETCH)
        queue: AbstractQueue = await super()._queue(channel, exchange)
        self.listens.set()
        return queue


cluster = Cluster(AMQP_URL) if AMQP_URL else None
sio = make_server(cluster)
users: dict[str, str] = {}
#: A socket's messages are handled one at a time, so that they keep their order.
lanes: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
#: Participants by conversation, in the header's order; they never change.
participants: dict[str, list[str]] = {}
messages: Any = None
conversations: Any = None
quick_conversations: Any = None


async def prepare() -> None:
    """Connect to the store, and to the other servers before the first client connects."""
    global messages, conversations, quick_conversations
    make: Any = AsyncMongoClient if PATCHED else AsyncIOMotorClient
    # Retryable writes make the server keep a record of each, which costs as much as the write.
    client = make(os.environ["PEER_MONGO_URL"], maxPoolSize=POOL_SIZE, tz_aware=True, retryWrites=False)
    database = client.get_database(os.environ["PEER_DATABASE"], write_concern=WriteConcern("majority"))
    messages, conversations = database["messages"], database["conversations"]
    quick_conversations = conversations.with_options(write_concern=WriteConcern(1))
    await messages.create_index([("conversation_id", 1), ("seq", 1)], unique=True)
    await conversations.create_index([("participants.user_id", 1), ("updated_at", -1)])
    if cluster is not None:
        cluster.initialize()
        sio.manager_initialized = True
        await cluster.listens.wait()
        # The manager opens its publishing connection at the first publish, and loses what is published meanwhile.
        await sio.emit("warm_up", to="nobody")


async def connect(sid: str, environ: Data, auth: Data | None) -> None:
    """Check the token, and join the user's room."""
    users[sid] = user_of(auth)
    await sio.enter_room(sid, users[sid])
    sio.start_background_task(sio.emit, "session_ready", {"user": {"id": users[sid]}}, to=sid, ignore_queue=True)


async def disconnect(sid: str) -> None:
    """Forget the socket."""
    users.pop(sid, None)
    lanes.pop(sid, None)


async def start_conversation(sid: str, payload: Data) -> Data:
    """Find or create the direct conversation of two users, or create a group of more."""
    user_id = users[sid]
    everyone = sorted({user_id, *map(str, payload["participant_ids"])})
    name = "direct:" + "|".join(everyone) if len(everyone) == 2 else f"group:{os.urandom(12).hex()}"
    now = datetime.now(UTC)
    new = {
        "participants": [{"user_id": each, "unread": 0} for each in everyone],
        "created_by": user_id,
        "last_seq": 0,
        "last": None,
        "created_at": now,
        "updated_at": now,
    }
    header = await conversations.find_one_and_update(
        {"_id": name}, {"$setOnInsert": new}, upsert=True, return_document=ReturnDocument.AFTER
    )
    return ok({"conversation": conversation_view(header, user_id)})


async def send_message(sid: str, payload: Data) -> Data:
    """Store a message, ack it, and push it with everybody's unread count."""
    user_id, conversation_id = users[sid], payload.get("conversation_id")
    client_message_id, body = payload.get("client_message_id"), payload.get("body")
    if not (isinstance(conversation_id, str) and isinstance(client_message_id, str) and isinstance(body, str)):
        return refused("invalid_payload")
    if not 1 <= len(client_message_id) <= 64 or not 1 <= len(body := body.strip()) <= 4000:
        return refused("invalid_payload")
    async with lanes[sid]:
        everyone = await participants_of(conversation_id)
        if user_id not in everyone:
            return refused("not_found")
        message_id = f"{conversation_id}:{user_id}:{client_message_id}"
        if stored := await messages.find_one({"_id": message_id}):
            return ok({"message": message_view(stored)})
        now = datetime.now(UTC)
        last = {"id": message_id, "sender_id": user_id, "preview": body[:PREVIEW_CHARACTERS], "sent_at": now}
        unread = {f"participants.{place}.unread": 1 for place, each in enumerate(everyone) if each != user_id}
        header = await quick_conversations.find_one_and_update(
            {"_id": conversation_id},
            {
                "$inc": {"last_seq": 1, **unread},
                "$set": {f"participants.{everyone.index(user_id)}.unread": 0, "last": last, "updated_at": now},
            },
            projection={"last_seq": 1, "participants": 1},
            return_document=ReturnDocument.AFTER,
        )
        message = {
            "_id": message_id,
            "conversation_id": conversation_id,
            "seq": header["last_seq"],
            "sender_id": user_id,
            "client_message_id": client_message_id,
            "body": body,
            "sent_at": now,
        }
        try:
            await messages.insert_one(message)
        except DuplicateKeyError:
            return ok({"message": message_view(await messages.find_one({"_id": message_id}))})
    view = message_view(message)
    sio.start_background_task(push, sid, user_id, everyone, view, header)
    return ok({"message": view})


async def push(sid: str, sender: str, everyone: list[str], message: Data, header: Data) -> None:
    """Push a message to all sockets of all participants except the sender's own."""
    await sio.emit("new_message", {"message": message}, to=everyone, skip_sid=sid)
    for each in header["participants"]:
        if each["user_id"] != sender:
            await sio.emit("unread_updated", unread_view(header, each), to=each["user_id"])


async def list_conversations(sid: str, payload: Data | None = None) -> Data:
    """A user's newest conversations; only its creator sees one without messages."""
    user_id = users[sid]
    seen = {"participants.user_id": user_id, "$or": [{"last_seq": {"$gt": 0}}, {"created_by": user_id}]}
    limit = int((payload or {}).get("limit", 50))
    found = await conversations.find(seen).sort("updated_at", -1).limit(limit).to_list(limit)
    listed = [conversation_view(header, user_id) for header in found]
    total = sum(each["unread_count"] for each in listed)
    return ok({"conversations": listed, "next_cursor": None, "total_unread": total})


async def list_messages(sid: str, payload: Data) -> Data:
    """A page of a conversation, ascending: after a seq, or the newest."""
    conversation_id, limit = payload["conversation_id"], int(payload.get("limit", 50))
    if users[sid] not in await participants_of(conversation_id):
        return refused("not_found")
    after = payload.get("after_seq")
    query = {"conversation_id": conversation_id, **({"seq": {"$gt": after}} if after is not None else {})}
    order = 1 if after is not None else -1
    found = await messages.find(query).sort("seq", order).limit(limit + 1).to_list(limit + 1)
    page = sorted(found[:limit], key=lambda message: int(message["seq"]))
    return ok({"messages": [message_view(message) for message in page], "has_more": len(found) > limit})


async def participants_of(conversation_id: str) -> list[str]:
    """The participants of a conversation; none if it does not exist."""
    if conversation_id not in participants:
        header = await conversations.find_one({"_id": conversation_id}, {"participants.user_id": 1})
        if header is None:
            return []
        participants[conversation_id] = [each["user_id"] for each in header["participants"]]
    return participants[conversation_id]


def ok(data: Data) -> Data:
    """An ack with data."""
    return {"ok": True, "data": data}


def refused(code: str) -> Data:
    """An ack with an error that rules out a retry."""
    return {"ok": False, "error": {"code": code, "message": code, "retryable": False}}


def message_view(message: Data) -> Data:
    """The message that clients get."""
    return {
        "id": message["_id"],
        "conversation_id": message["conversation_id"],
        "seq": message["seq"],
        "sender_id": message["sender_id"],
        "client_message_id": message["client_message_id"],
        "body": message["body"],
        "sent_at": message["sent_at"],
    }


def unread_view(header: Data, participant: Data) -> Data:
    """The unread count that its user gets."""
    unread = participant["unread"]
    return {
        "conversation_id": header["_id"],
        "unread_count": unread,
        "last_read_seq": header["last_seq"] - unread,
        "last_read_at": None,
    }


def conversation_view(header: Data, user_id: str) -> Data:
    """The conversation that one of its participants gets."""
    unread = next(each["unread"] for each in header["participants"] if each["user_id"] == user_id)
    last = header["last"] and {**header["last"], "seq": header["last_seq"]}
    return {
        "id": header["_id"],
        "created_by": header["created_by"],
        "created_at": header["created_at"],
        "updated_at": header["updated_at"],
        "last_seq": header["last_seq"],
        "unread_count": unread,
        "last_message": last,
        "participants": [{"user": {"id": each["user_id"]}} for each in header["participants"]],
    }


for handler in (connect, disconnect, start_conversation, send_message, list_conversations, list_messages):
    sio.on(handler.__name__, handler)

if __name__ == "__main__":
    serve(sio, prepare)
