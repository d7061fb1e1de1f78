"""What clients ask for: imperatives that workers carry out or refuse.

A command is its client's payload plus who asked, where, and when. The worker that answers puts a reply with
the same `request` into the frame for `edge_id`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contracts.values import (
    DEFAULT_LIMIT,
    MAX_BODY_CHARACTERS,
    MAX_PARTICIPANTS,
    PRINTABLE,
    ClientMessageId,
    ConversationId,
    Limit,
    Seq,
    UserId,
    Value,
    Watermark,
)

# --- Payloads: exactly what a client may send -------------------------------------------------------------


class StartConversationPayload(Value):
    """One other person starts (or finds) the direct conversation with them; more start a group."""

    participant_ids: list[UserId] = Field(min_length=1, max_length=MAX_PARTICIPANTS - 1)
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] | None = None


class SendMessagePayload(Value):
    """A message; repeating the same `client_message_id` is always safe."""

    conversation_id: ConversationId
    client_message_id: ClientMessageId
    body: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_BODY_CHARACTERS)]


class MessageSeenPayload(Value):
    """All messages up to `seq` were on screen."""

    conversation_id: ConversationId
    seq: Seq


class ListConversationsPayload(Value):
    """A page of the user's conversations, newest activity first."""

    cursor: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    limit: Limit = DEFAULT_LIMIT


class ListMessagesPayload(Value):
    """A page of a conversation: the newest, those before a seq, or those after one; always ascending."""

    conversation_id: ConversationId
    before_seq: Seq | None = None
    after_seq: Watermark | None = None
    limit: Limit = DEFAULT_LIMIT

    @model_validator(mode="after")
    def one_direction(self) -> Self:
        """Refuse a page that would have to run both ways."""
        if self.before_seq is not None and self.after_seq is not None:
            raise ValueError("before_seq and after_seq exclude each other")
        return self


class FindUsersPayload(Value):
    """People whose name or id has a word that starts as each word of the query does."""

    query: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100, pattern=PRINTABLE)] = ""
    online_only: bool = False
    limit: Limit = DEFAULT_LIMIT


class GetPresencePayload(Value):
    """Who of these people is online."""

    user_ids: list[UserId] = Field(min_length=1, max_length=100)


class TypingPayload(Value):
    """Someone starts or stops typing; best effort."""

    conversation_id: ConversationId
    typing: bool


class RefreshTokenPayload(Value):
    """A new token of the same user with a later expiry; answered by the edge itself."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


# --- Commands: payloads on their way to a worker ----------------------------------------------------------


class Command(Value):
    """Who asks, from where, and when. `at` is milliseconds since the epoch by the edge's clock."""

    edge_id: str
    request: int
    at: int


class ClientCommand(Command):
    """A command that a user's socket sent; `user_id` is the token's `sub`, never a payload's word."""

    user_id: str
    sid: str


class StartConversation(ClientCommand):
    """`nonce` is 128 random bits from the edge: who does not read the command cannot guess what id a group gets."""

    name: Literal["start_conversation"] = "start_conversation"
    nonce: str
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


class FindUsers(ClientCommand):
    name: Literal["find_users"] = "find_users"
    payload: FindUsersPayload


class GetPresence(ClientCommand):
    name: Literal["get_presence"] = "get_presence"
    payload: GetPresencePayload


class Typing(ClientCommand):
    name: Literal["typing"] = "typing"
    payload: TypingPayload


AnyClientCommand = (
    StartConversation | SendMessage | MessageSeen | ListConversations | ListMessages | FindUsers | GetPresence | Typing
)

#: The commands that a client's event of the same name turns into, with the payload that the event must have.
CLIENT_COMMANDS: dict[str, tuple[type[ClientCommand], type[Value]]] = {
    "start_conversation": (StartConversation, StartConversationPayload),
    "send_message": (SendMessage, SendMessagePayload),
    "message_seen": (MessageSeen, MessageSeenPayload),
    "list_conversations": (ListConversations, ListConversationsPayload),
    "list_messages": (ListMessages, ListMessagesPayload),
    "find_users": (FindUsers, FindUsersPayload),
    "get_presence": (GetPresence, GetPresencePayload),
    "typing": (Typing, TypingPayload),
}

#: Every event that a client may send, with its payload. `refresh_token` ends at the edge.
CLIENT_EVENTS: dict[str, type[Value]] = {
    **{name: payload for name, (_, payload) in CLIENT_COMMANDS.items()},
    "refresh_token": RefreshTokenPayload,
}
