"""Users, conversations and messages in the one form in which clients see them."""

from typing import Literal

from contracts.values import Timestamp, Value


class User(Value):
    """Someone as others see them; `picture` is an address or null."""

    id: str
    name: str
    picture: str | None


class FoundUser(User):
    """A user as a search shows them."""

    online: bool
    last_seen_at: Timestamp | None


class Presence(Value):
    """Whether someone is connected, and when they were last."""

    user_id: str
    online: bool
    last_seen_at: Timestamp | None


class Message(Value):
    """One message of a conversation; `seq` is dense from 1 and the same for everyone."""

    id: str
    conversation_id: str
    seq: int
    sender_id: str
    client_message_id: str
    body: str
    sent_at: Timestamp


class LastMessage(Value):
    """The newest message of a conversation, as its header shows it."""

    id: str
    seq: int
    sender_id: str
    preview: str
    sent_at: Timestamp


class Participant(Value):
    """Someone in a conversation, and how far they have read."""

    user: User
    online: bool
    last_seen_at: Timestamp | None
    last_read_seq: int
    last_read_at: Timestamp | None


class Conversation(Value):
    """A conversation as one of its participants sees it: `unread_count` is theirs."""

    id: str
    kind: Literal["direct", "group"]
    title: str | None
    created_by: str
    created_at: Timestamp
    updated_at: Timestamp
    last_seq: int
    unread_count: int
    last_message: LastMessage | None
    participants: list[Participant]
