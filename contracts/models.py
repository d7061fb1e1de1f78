"""Users, conversations and messages as clients see them."""

from typing import Literal

from contracts.values import Timestamp, Value


class User(Value):
    """A user as other users see them; `picture` is a URL or null."""

    id: str
    name: str
    picture: str | None


class FoundUser(User):
    """A user with their presence, in the results of `find_users` and `get_users`."""

    online: bool
    last_seen_at: Timestamp | None


class Presence(Value):
    """Whether a user is online, and when the user was last online."""

    user_id: str
    online: bool
    last_seen_at: Timestamp | None


class Message(Value):
    """A message. `seq` numbers a conversation's messages from 1 without gaps, and is the same for every participant."""

    id: str
    conversation_id: str
    seq: int
    sender_id: str
    client_message_id: str
    body: str
    sent_at: Timestamp


class LastMessage(Value):
    """The newest message of a conversation, with the start of its body."""

    id: str
    seq: int
    sender_id: str
    preview: str
    sent_at: Timestamp


class Participant(Value):
    """A participant of a conversation, with the seq up to which the participant has read."""

    user: User
    online: bool
    last_seen_at: Timestamp | None
    last_read_seq: int
    last_read_at: Timestamp | None


class Conversation(Value):
    """A conversation as one participant, its reader, sees it.

    `participants` are the first who joined, at most `SHOWN_PARTICIPANTS` of the `participant_count`. The reader's own
    are `last_read_seq`, `last_read_at` and `unread_count`.
    """

    id: str
    kind: Literal["direct", "group"]
    title: str | None
    created_by: str
    created_at: Timestamp
    updated_at: Timestamp
    last_seq: int
    last_read_seq: int
    last_read_at: Timestamp | None
    unread_count: int
    last_message: LastMessage | None
    participant_count: int
    participants: list[Participant]
