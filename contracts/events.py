"""What a client gets: the data of each ack, and the payload of each push."""

from typing import Literal

from contracts.models import Conversation, FoundUser, Message, Presence, User
from contracts.values import Timestamp, Value

# --- Data of an ack that is ok ----------------------------------------------------------------------------


class ConversationStarted(Value):
    conversation: Conversation


class MessageSent(Value):
    message: Message


class UnreadCount(Value):
    """One conversation's unread messages, and the user's in all, as the store has them."""

    conversation_id: str
    unread_count: int
    last_read_seq: int
    last_read_at: Timestamp | None
    total_unread: int


class ConversationPage(Value):
    conversations: list[Conversation]
    next_cursor: str | None
    total_unread: int


class MessagePage(Value):
    messages: list[Message]
    has_more: bool


class UsersFound(Value):
    users: list[FoundUser]


class PresenceList(Value):
    presence: list[Presence]


class Nothing(Value):
    """The empty answer of `typing`."""


class TokenRefreshed(Value):
    expires_at: Timestamp


#: The data of each client event's ack.
ACKS: dict[str, type[Value]] = {
    "start_conversation": ConversationStarted,
    "send_message": MessageSent,
    "message_seen": UnreadCount,
    "list_conversations": ConversationPage,
    "list_messages": MessagePage,
    "find_users": UsersFound,
    "get_presence": PresenceList,
    "typing": Nothing,
    "refresh_token": TokenRefreshed,
}


# --- Data of a reply that ends at the edge ----------------------------------------------------------------


class SessionOpened(Value):
    """Answers `session.open`: from now on, what is delivered to the user reaches this edge."""

    user: User


class LeaseRenewed(Value):
    """Answers `edge.alive`. When the sessions are not `known` any more, the edge registers its users again."""

    known: bool


# --- Pushes -----------------------------------------------------------------------------------------------


class Limits(Value):
    """What a client should keep to; 0 means without limit."""

    max_body_characters: int
    max_event_bytes: int
    events_per_second: int
    burst: int


class SessionReady(Value):
    """The socket can be routed to: time to take a fresh snapshot."""

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
