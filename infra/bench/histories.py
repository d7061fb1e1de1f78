"""The histories of a run, which the checker compares. Plain values, no I/O.

There are five: what clients sent and got acked, what clients show, what the store holds, what the server counts, and
who is online.
Times are seconds on one monotonic clock; 0 means that it has not happened.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: (conversation id, sender id, client message id): identifies a message over all its tries.
MessageKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Ack:
    """What an ok ack says about a message."""

    id: str
    seq: int
    #: Empty where the run does not note it.
    sent_at: str = ""


@dataclass(slots=True)
class SentMessage:
    """One message as its sender knows it."""

    conversation_id: str
    sender_id: str
    client_message_id: str
    #: When it was due to be sent, the start of the try in flight, the first ok ack, and the push to the last recipient.
    due_at: float = 0.0
    tried_at: float = 0.0
    acked_at: float = 0.0
    delivered_at: float = 0.0
    tries: int = 0
    #: The connection of the first try, and the place of that try among all that its sender sent.
    connection: int = 0
    place: int = 0
    acks: list[Ack] = field(default_factory=list)
    #: Codes of the tries that failed.
    failures: list[str] = field(default_factory=list)
    #: Code of an error that rules out a retry.
    refusal: str = ""

    @property
    def key(self) -> MessageKey:
        """Identifies the message over all its tries."""
        return self.conversation_id, self.sender_id, self.client_message_id


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as the store holds it."""

    id: str
    conversation_id: str
    seq: int
    sender_id: str
    client_message_id: str

    @property
    def key(self) -> MessageKey:
        """Identifies the message over all its tries."""
        return self.conversation_id, self.sender_id, self.client_message_id


@dataclass(frozen=True)
class Header:
    """A conversation as the store holds it: its newest message, and each participant's watermark."""

    conversation_id: str
    last_seq: int = 0
    last_id: str = ""
    #: `read.seq` by user; empty for a system that keeps no watermarks.
    read: dict[str, int] = field(default_factory=dict)
    #: `last.seq` before the run: its own messages have the seqs that follow.
    base_seq: int = 0


@dataclass(frozen=True)
class Stored:
    """What a run left in the store."""

    messages: list[StoredMessage]
    #: By conversation.
    headers: dict[str, Header]
    #: Unread messages by (user, conversation); 0 where there is no entry.
    inboxes: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass
class ConversationView:
    """One conversation as one client shows it, built by the rules of docs/protocol.md."""

    #: Message ids by seq; more than one id for a seq is a fault, and the checker must see it.
    messages: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    last_seq: int = 0
    unread: int = 0
    #: `2 * last_read_seq + unread_count`: of two counts, the one with the higher version is newer.
    version: int = -1
    read: dict[str, int] = field(default_factory=dict)

    def apply_message(self, message: dict[str, Any]) -> None:
        """Add a message from history or from a push."""
        self.messages[message["seq"]].add(message["id"])
        self.last_seq = max(self.last_seq, message["seq"])
        # Sending a message moves the sender's own watermark up to it.
        self.apply_read(message["sender_id"], message["seq"])

    def apply_read(self, user_id: str, seq: int) -> None:
        """Move a watermark forward; it never moves back."""
        self.read[user_id] = max(seq, self.read.get(user_id, 0))

    def apply_count(self, count: dict[str, Any]) -> None:
        """Take an unread count unless the view has a newer one."""
        version = 2 * count["last_read_seq"] + count["unread_count"]
        if version >= self.version:
            self.version, self.unread = version, count["unread_count"]

    def apply_conversation(self, conversation: dict[str, Any], user_id: str) -> None:
        """Take a conversation from a list or from a push."""
        self.last_seq = max(self.last_seq, conversation["last_seq"])
        for person in conversation["participants"]:
            self.apply_read(person["user"]["id"], person["last_read_seq"])
        self.apply_read(user_id, conversation["last_read_seq"])
        self.apply_count(conversation)

    @property
    def contiguous(self) -> int:
        """The seq up to which no message is missing."""
        seq = 0
        while seq + 1 in self.messages:
            seq += 1
        return seq


@dataclass
class ClientView:
    """What one client shows after its last snapshot and the pushes since."""

    user_id: str
    conversations: dict[str, ConversationView] = field(default_factory=lambda: defaultdict(ConversationView))
    #: Whether a user is online, by user id: what the last push or list said.
    online: dict[str, bool] = field(default_factory=dict)

    def apply_participants(self, conversation: dict[str, Any]) -> None:
        """Take the presence of everybody in a conversation."""
        for person in conversation["participants"]:
            self.online[person["user"]["id"]] = person["online"]


@dataclass(frozen=True)
class Counts:
    """What the server answers a user who lists their conversations once the run is over."""

    user_id: str
    #: By conversation.
    unread: dict[str, int]
    total_unread: int


@dataclass(frozen=True)
class Presence:
    """Whether one user is connected, and what each part of the system says about it."""

    user_id: str
    connected: bool
    #: Whether the store has the user as online, and a valid session of the user.
    online: bool
    registered: bool
    #: What `get_presence` answers; None where it was not asked.
    answered: bool | None = None
    #: What other users' clients show, by their user.
    shown: dict[str, bool] = field(default_factory=dict)


@dataclass
class Histories:
    """All histories of one run. A run that has no views or counts leaves them empty."""

    sent: list[SentMessage]
    stored: Stored
    views: list[ClientView] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    #: (conversation id, user id, last_read_seq) of every `message_seen` that was acked.
    watermarks: list[tuple[str, str, int]] = field(default_factory=list)
    #: Items in the dead-letter queues.
    dead_letters: int = 0
    #: Sentences about events, other than messages, that were refused for good although they were valid.
    refusals: list[str] = field(default_factory=list)
    #: Everybody who is connected or counts as online, once the time limits of presence are over.
    presences: list[Presence] = field(default_factory=list)
    #: Users whom the presence workers had to set offline because they were online without a session.
    presence_corrections: int = 0

    def by_conversation(self) -> Iterator[tuple[Header, list[StoredMessage]]]:
        """Each conversation's header and messages, lowest seq first; a header that is missing is an empty one."""
        messages: defaultdict[str, list[StoredMessage]] = defaultdict(list)
        for message in sorted(self.stored.messages, key=lambda message: message.seq):
            messages[message.conversation_id].append(message)
        for conversation_id in {**self.stored.headers, **messages}:
            yield self.stored.headers.get(conversation_id, Header(conversation_id)), messages[conversation_id]
