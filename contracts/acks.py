"""The data of acks that are ok: of client events, and of edges' own reports."""

from contracts.models import Conversation, FoundUser, Message, Participant, Presence, User
from contracts.values import Timestamp, Value

# --- Client events ----------------------------------------------------------------------------------------


class ConversationStarted(Value):
    conversation: Conversation


class MessageSent(Value):
    message: Message


class UnreadCount(Value):
    """A user's unread messages in one conversation and in all, and the user's watermark in this conversation.

    Of two, the one with the higher `last_seq + last_read_seq` has the newer count, and the one with the higher
    `total_version` the newer total.
    """

    conversation_id: str
    unread_count: int
    last_seq: int
    last_read_seq: int
    last_read_at: Timestamp | None
    total_unread: int
    total_version: int


class ConversationPage(Value):
    conversations: list[Conversation]
    next_cursor: str | None
    total_unread: int
    total_version: int


class MessagePage(Value):
    messages: list[Message]
    has_more: bool


class ParticipantPage(Value):
    participants: list[Participant]
    next_cursor: str | None


class UsersFound(Value):
    users: list[FoundUser]


class PresenceList(Value):
    presence: list[Presence]


class Nothing(Value):
    """The empty data of an ack, as of `typing`."""


class TokenRefreshed(Value):
    expires_at: Timestamp


#: The data of each client event's ack.
ACKS: dict[str, type[Value]] = {
    "start_conversation": ConversationStarted,
    "send_message": MessageSent,
    "message_seen": UnreadCount,
    "list_conversations": ConversationPage,
    "list_messages": MessagePage,
    "list_participants": ParticipantPage,
    "find_users": UsersFound,
    "get_users": UsersFound,
    "get_presence": PresenceList,
    "typing": Nothing,
    "refresh_token": TokenRefreshed,
}


# --- Reports of edges -------------------------------------------------------------------------------------


class SessionOpened(Value):
    """Answers `session.open`: from now on, pushes for the user are routed to this edge."""

    user: User


class LeaseRenewed(Value):
    """Answers `lease.renew`. When the sessions are not `known`, the edge registers its users again.

    `epoch` is the highest epoch that is stored for the edge. A process with the same edge id, whose clock was ahead,
    may have used it; the edge then continues above it.
    """

    known: bool
    epoch: int
