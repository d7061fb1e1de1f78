"""Commands of clients: workers carry them out or refuse them. Each is named like the event that it carries.

A command is the client's payload with the user, the socket, the edge and the time. The worker answers with a reply of
the same `request`, in a frame for the edge `edge_id`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contracts.values import (
    DEFAULT_LIMIT,
    MAX_BODY_CHARACTERS,
    MAX_PARTICIPANTS,
    MAX_QUERY,
    MAX_TITLE,
    PRINTABLE,
    ClientMessageId,
    ConversationId,
    Counter,
    Cursor,
    EdgeId,
    Limit,
    Milliseconds,
    Seq,
    ShownText,
    SocketId,
    UserId,
    UserIds,
    Value,
    Watermark,
)

# --- Payloads: exactly what a client may send -------------------------------------------------------------


class StartConversationPayload(Value):
    """One participant starts, or finds, the direct conversation with that user; several start a group."""

    participant_ids: list[UserId] = Field(min_length=1, max_length=MAX_PARTICIPANTS - 1)
    title: Annotated[ShownText, StringConstraints(min_length=1, max_length=MAX_TITLE)] | None = None


class SendMessagePayload(Value):
    """A message. Sending the same `client_message_id` again is always safe."""

    conversation_id: ConversationId
    client_message_id: ClientMessageId
    body: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_BODY_CHARACTERS)]


class MessageSeenPayload(Value):
    """The user has seen all messages up to `seq`."""

    conversation_id: ConversationId
    seq: Seq


class ListConversationsPayload(Value):
    """A page of the user's conversations, newest activity first."""

    cursor: Cursor | None = None
    limit: Limit = DEFAULT_LIMIT


class ListMessagesPayload(Value):
    """A page of a conversation's messages: the newest, those before a seq, or those after one. Always ascending."""

    conversation_id: ConversationId
    before_seq: Seq | None = None
    after_seq: Watermark | None = None
    limit: Limit = DEFAULT_LIMIT

    @model_validator(mode="after")
    def one_direction(self) -> Self:
        """Refuse a page in both directions."""
        if self.before_seq is not None and self.after_seq is not None:
            raise ValueError("before_seq and after_seq exclude each other")
        return self


class ListParticipantsPayload(Value):
    """A page of a conversation's participants, in the order in which they joined."""

    conversation_id: ConversationId
    cursor: Cursor | None = None
    limit: Limit = DEFAULT_LIMIT


class FindUsersPayload(Value):
    """Users whose name or id has, for each word of the query, a word that starts with it."""

    query: Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_QUERY, pattern=PRINTABLE)] = ""
    online_only: bool = False
    limit: Limit = DEFAULT_LIMIT


class GetUsersPayload(Value):
    """These users, as a search finds them."""

    user_ids: UserIds


class GetPresencePayload(Value):
    """Which of these users are online."""

    user_ids: UserIds


class TypingPayload(Value):
    """The user starts or stops typing. Best effort."""

    conversation_id: ConversationId
    typing: bool


class RefreshTokenPayload(Value):
    """A new token of the same user with a later expiry. The edge itself answers."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


#: What a listed conversation counts in items: with its participants it is about as long as so many messages.
CONVERSATION_ITEMS = 5


def items_read(payload: Value) -> int:
    """How many items an event reads at most; 0 for an event that reads no list."""
    match payload:
        case ListConversationsPayload():
            return payload.limit * CONVERSATION_ITEMS
        case ListMessagesPayload() | ListParticipantsPayload():
            return payload.limit
        case GetUsersPayload() | GetPresencePayload():
            return len(payload.user_ids)
        case _:
            return 0


# --- Commands: payloads with their sender, for workers ----------------------------------------------------


class Command(Value):
    """The fields of every command. `at` is the edge's clock in milliseconds since the epoch.

    The reply carries `request`, which is unique in one edge process; 0 means that no reply is expected.
    """

    edge_id: EdgeId
    request: Counter
    at: Milliseconds


class ClientCommand(Command):
    """A command from the socket `sid`. `user_id` is the token's `sub` and never comes from the payload."""

    user_id: UserId
    sid: SocketId


class StartConversation(ClientCommand):
    """`nonce` is 128 random bits from the edge. The id of a group derives from it, so that nobody can guess the id."""

    name: Literal["start_conversation"] = "start_conversation"
    nonce: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]
    payload: StartConversationPayload


class SendMessage(ClientCommand):
    name: Literal["send_message"] = "send_message"
    payload: SendMessagePayload


class MessageSeen(ClientCommand):
    name: Literal["message_seen"] = "message_seen"
    payload: MessageSeenPayload


class ListConversations(ClientCommand):
    name: Literal["list_conversations"] = "list_conversations"
    payload: ListConversationsPayload


class ListMessages(ClientCommand):
    name: Literal["list_messages"] = "list_messages"
    payload: ListMessagesPayload


class ListParticipants(ClientCommand):
    name: Literal["list_participants"] = "list_participants"
    payload: ListParticipantsPayload


class FindUsers(ClientCommand):
    name: Literal["find_users"] = "find_users"
    payload: FindUsersPayload


class GetUsers(ClientCommand):
    name: Literal["get_users"] = "get_users"
    payload: GetUsersPayload


class GetPresence(ClientCommand):
    name: Literal["get_presence"] = "get_presence"
    payload: GetPresencePayload


class Typing(ClientCommand):
    name: Literal["typing"] = "typing"
    payload: TypingPayload


AnyClientCommand = (
    StartConversation
    | SendMessage
    | MessageSeen
    | ListConversations
    | ListMessages
    | ListParticipants
    | FindUsers
    | GetUsers
    | GetPresence
    | Typing
)

#: The command and the payload of each client event that is relayed to a worker, by the event's name.
CLIENT_COMMANDS: dict[str, tuple[type[ClientCommand], type[Value]]] = {
    "start_conversation": (StartConversation, StartConversationPayload),
    "send_message": (SendMessage, SendMessagePayload),
    "message_seen": (MessageSeen, MessageSeenPayload),
    "list_conversations": (ListConversations, ListConversationsPayload),
    "list_messages": (ListMessages, ListMessagesPayload),
    "list_participants": (ListParticipants, ListParticipantsPayload),
    "find_users": (FindUsers, FindUsersPayload),
    "get_users": (GetUsers, GetUsersPayload),
    "get_presence": (GetPresence, GetPresencePayload),
    "typing": (Typing, TypingPayload),
}

#: The payload of every event that a client may send. The edge itself handles `refresh_token`.
CLIENT_EVENTS: dict[str, type[Value]] = {
    **{name: payload for name, (_, payload) in CLIENT_COMMANDS.items()},
    "refresh_token": RefreshTokenPayload,
}
