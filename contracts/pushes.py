"""The payload of each push: the events that a server sends by itself."""

from typing import Literal

from contracts.acks import UnreadCount
from contracts.models import Conversation, Message, Presence, User
from contracts.values import Timestamp, Value


class Limits(Value):
    """The bounds that a client meets. For rates and budgets, which are the edge's settings, 0 means no limit."""

    max_body_characters: int
    max_title_characters: int
    max_query_characters: int
    max_event_bytes: int
    max_participants: int
    max_shown_participants: int
    max_seen_participants: int
    max_list_items: int
    max_user_ids: int
    max_in_flight: int
    max_connections_per_user: int
    events_per_second: int
    burst: int
    frames_per_second: int
    frame_burst: int
    bytes_per_second: int
    byte_burst: int
    start_people_per_hour: int
    searches_per_minute: int
    read_items_per_minute: int


class SessionReady(Value):
    """Pushes reach the socket from now on: the client should take a snapshot."""

    user: User
    edge_id: str
    server_time: Timestamp
    limits: Limits


class ConversationUpdated(Value):
    conversation: Conversation


class NewMessage(Value):
    message: Message


class SeenByOther(Value):
    """Another participant has read up to `last_read_seq`."""

    conversation_id: str
    user_id: str
    last_read_seq: int
    last_read_at: Timestamp | None


class TypingByOther(Value):
    conversation_id: str
    user_id: str
    typing: bool


class ServerDraining(Value):
    reconnect_after_ms: int


PushName = Literal[
    "session_ready",
    "conversation_updated",
    "new_message",
    "unread_updated",
    "message_seen",
    "presence_updated",
    "typing",
    "server_draining",
]

#: The payload of each push.
PUSHES: dict[PushName, type[Value]] = {
    "session_ready": SessionReady,
    "conversation_updated": ConversationUpdated,
    "new_message": NewMessage,
    "unread_updated": UnreadCount,
    "message_seen": SeenByOther,
    "presence_updated": Presence,
    "typing": TypingByOther,
    "server_draining": ServerDraining,
}
