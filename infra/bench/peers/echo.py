"""`python -m infra.bench.peers.echo`: one python-socketio process that acks and pushes messages and stores nothing.

It sends the same frames as the other peers, so it is the ceiling for a Python server. A dictionary has the seqs.
"""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from infra.bench.peers.serving import make_server, serve, user_of

Data = dict[str, Any]

sio = make_server()
users: dict[str, str] = {}
#: Newest seq by conversation; a conversation's id names its two people.
seqs: defaultdict[str, int] = defaultdict(int)


async def prepare() -> None:
    """Nothing to prepare."""


async def connect(sid: str, environ: Data, auth: Data | None) -> None:
    """Check the token, and join the user's room."""
    users[sid] = user_of(auth)
    await sio.enter_room(sid, users[sid])
    sio.start_background_task(sio.emit, "session_ready", {"user": {"id": users[sid]}}, to=sid)


async def disconnect(sid: str) -> None:
    """Forget the socket."""
    users.pop(sid, None)


async def start_conversation(sid: str, payload: Data) -> Data:
    """Derive the conversation's id from its participants."""
    everyone = sorted({users[sid], *payload["participant_ids"]})
    return {"ok": True, "data": {"conversation": {"id": "|".join(everyone)}}}


async def send_message(sid: str, payload: Data) -> Data:
    """Give a message its seq, push it with an unread count, and ack it."""
    user_id, conversation_id = users[sid], payload["conversation_id"]
    seqs[conversation_id] += 1
    seq = seqs[conversation_id]
    message = {
        "id": f"{conversation_id}:{user_id}:{payload['client_message_id']}",
        "conversation_id": conversation_id,
        "seq": seq,
        "sender_id": user_id,
        "client_message_id": payload["client_message_id"],
        "body": payload["body"].strip(),
        "sent_at": datetime.now(UTC),
    }
    others = [each for each in conversation_id.split("|") if each != user_id]
    await sio.emit("new_message", {"message": message}, to=others)
    unread = {"conversation_id": conversation_id, "unread_count": 1, "last_read_seq": seq - 1, "last_read_at": None}
    await sio.emit("unread_updated", unread, to=others)
    return {"ok": True, "data": {"message": message}}


for handler in (connect, disconnect, start_conversation, send_message):
    sio.on(handler.__name__, handler)

if __name__ == "__main__":
    serve(sio, prepare)
