"""What is compared after a run: what was acked, what clients have on screen, what the store holds, who read what.

Plain values, no I/O. Times are seconds on one monotonic clock; 0 stands for "has not happened".
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: (conversation id, sender id, client message id): what makes a message the same message.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Ack:
    """What an ack that is ok said about a message."""

    id: str
    seq: int
    sent_at: str


@dataclass(slots=True)
class Sending:
    """One message as its sender knows it."""

    conversation_id: str
    sender_id: str
    client_message_id: str
    #: When it was to be sent, and when the first ok ack came.
    wanted_at: float = 0.0
    acked_at: float = 0.0
    tries: int = 0
    #: The connection of the first try, and the place of that try among all that this client sent.
    connection: int = 0
    place: int = 0
    acks: list[Ack] = field(default_factory=list)
    #: Codes of the tries that failed, `silence` and `disconnect` among them.
    failures: list[str] = field(default_factory=list)
    #: Code of a refusal that a retry would not change.
    refusal: str = ""

    @property
    def key(self) -> Key:
        """What makes it the same message in every try."""
        return self.conversation_id, self.sender_id, self.client_message_id


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as the store has it."""

    id: str
    conversation_id: str
    seq: int
    sender_id: str
    client_message_id: str

    @property
    def key(self) -> Key:
        """What makes it the same message in every try."""
        return self.conversation_id, self.sender_id, self.client_message_id


@dataclass(frozen=True)
class Header:
    """A conversation as the store has it: its newest message, and how far each participant has read."""

    conversation_id: str
    last_seq: int
    last_id: str
    read: dict[str, int]


@dataclass(frozen=True)
class Store:
    """Everything that a run left in the store."""

    messages: list[Stored]
    headers: dict[str, Header]
    #: Unread messages by (user, conversation); who has none may have no entry.
    inboxes: dict[tuple[str, str], int]


@dataclass
class View:
    """One conversation on one client's screen, put together by the rules of docs/protocol.md."""

    #: Message ids by seq; more than one id for a seq is a fault that must not go unseen.
    messages: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    last_seq: int = 0
    unread: int = 0
    #: `2 * last_read_seq + unread_count`: of two counts, the one with the higher age is the newer.
    age: int = -1
    read: dict[str, int] = field(default_factory=dict)

    def take_message(self, message: dict[str, Any]) -> None:
        """A message from history or from a push."""
        self.messages[message["seq"]].add(message["id"])
        self.last_seq = max(self.last_seq, message["seq"])
        # Sending a message moves the sender's own watermark up to it.
        self.take_read(message["sender_id"], message["seq"])

    def take_read(self, user_id: str, seq: int) -> None:
        """A watermark: it never moves back."""
        self.read[user_id] = max(seq, self.read.get(user_id, 0))

    def take_count(self, count: dict[str, Any]) -> None:
        """An unread count, unless a newer one is there."""
        age = 2 * count["last_read_seq"] + count["unread_count"]
        if age >= self.age:
            self.age, self.unread = age, count["unread_count"]

    def take_conversation(self, conversation: dict[str, Any], user_id: str) -> None:
        """A conversation as a list or a push shows it."""
        self.last_seq = max(self.last_seq, conversation["last_seq"])
        for person in conversation["participants"]:
            self.take_read(person["user"]["id"], person["last_read_seq"])
            if person["user"]["id"] == user_id:
                own = {"last_read_seq": person["last_read_seq"], "unread_count": conversation["unread_count"]}
                self.take_count(own)

    @property
    def contiguous(self) -> int:
        """The seq up to which nothing is missing."""
        seq = 0
        while seq + 1 in self.messages:
            seq += 1
        return seq


@dataclass
class Screen:
    """What one client has after its last snapshot and the pushes since."""

    user_id: str
    views: dict[str, View] = field(default_factory=lambda: defaultdict(View))


@dataclass(frozen=True)
class Counts:
    """What the server answered one user who asked for their conversations after everything was quiet."""

    user_id: str
    unread: dict[str, int]
    total_unread: int


@dataclass
class Histories:
    """The four histories of one run."""

    sendings: list[Sending]
    screens: list[Screen]
    store: Store
    counts: list[Counts]
    #: (conversation, user, last_read_seq) of every `message_seen` that was acked.
    marks: list[tuple[str, str, int]] = field(default_factory=list)
    #: Items that workers put aside.
    dead_letters: int = 0
    #: What a client was refused for good although nothing was wrong with what it asked.
    refusals: list[str] = field(default_factory=list)

    def by_conversation(self) -> Iterator[tuple[Header, list[Stored]]]:
        """Each conversation with its messages, lowest seq first."""
        messages: defaultdict[str, list[Stored]] = defaultdict(list)
        for message in sorted(self.store.messages, key=lambda message: message.seq):
            messages[message.conversation_id].append(message)
        for header in self.store.headers.values():
            yield header, messages[header.conversation_id]
