"""Judges a run: what the clients were told, against what the store holds. No I/O.

Faults and the promise (docs/protocol.md) that each one breaks:

    lost          acked, but not in history                                  1
    duplicated    one message stored twice, or one seq given twice           2, 3
    gaps          a seq between 1 and the highest that no message has        3
    misordered    acked first time, stored behind a later one of its sender  4
    contradicted  acked with another seq than the store has                  2
    foreign       stored, but no client of this run sent it
    stale         a conversation whose header is behind its messages         5 (a projection that nothing repaired)
    undelivered   acked, never pushed; judged only when all parts stayed up  5
    refused       answered with an error that says a retry won't help, though nothing is wrong with the message
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

#: (conversation id, sender id, client message id): what makes a message the same message.
Key = tuple[str, str, str]


@dataclass(slots=True)
class Sending:
    """One message as its client knows it. Times are seconds on one monotonic clock; 0 = has not happened."""

    conversation_id: str
    sender_id: str
    client_message_id: str
    #: First try, the try in flight, the first ok ack, the first push to the recipient.
    first_sent_at: float = 0.0
    sent_at: float = 0.0
    acked_at: float = 0.0
    delivered_at: float = 0.0
    #: The place that the ack named.
    seq: int = 0
    tries: int = 0
    #: Code of a refusal that a retry would not change.
    error: str = ""

    @property
    def key(self) -> Key:
        """What makes it the same message in every try."""
        return self.conversation_id, self.sender_id, self.client_message_id


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as the store has it."""

    conversation_id: str
    sender_id: str
    client_message_id: str
    seq: int

    @property
    def key(self) -> Key:
        """What makes it the same message in every try."""
        return self.conversation_id, self.sender_id, self.client_message_id


@dataclass(frozen=True)
class Faults:
    """How often each promise was broken."""

    lost: int = 0
    duplicated: int = 0
    gaps: int = 0
    misordered: int = 0
    contradicted: int = 0
    foreign: int = 0
    stale: int = 0
    undelivered: int = 0
    refused: int = 0

    @property
    def total(self) -> int:
        """All of them; 0 is what a healthy run has."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Verdict:
    """What a run did, and what was wrong with it."""

    sent: int
    acked: int
    stored: int
    delivered: int
    retried: int
    faults: Faults


def check(
    sendings: Sequence[Sending],
    stored: Sequence[Stored],
    header_seqs: Mapping[str, int],
    *,
    all_parts_stayed_up: bool = True,
) -> Verdict:
    """Compare both histories. `sendings` must be in the order sent; `header_seqs` is `last.seq` by conversation."""
    by_key = {message.key: message for message in stored}
    acked = [sending for sending in sendings if sending.acked_at]
    by_conversation: defaultdict[str, list[int]] = defaultdict(list)
    for message in stored:
        by_conversation[message.conversation_id].append(message.seq)
    undelivered = sum(not sending.delivered_at for sending in acked)
    known = {sending.key for sending in sendings}
    return Verdict(
        sent=len(sendings),
        acked=len(acked),
        stored=len(by_key),
        delivered=sum(bool(sending.delivered_at) for sending in sendings),
        retried=sum(sending.tries > 1 for sending in sendings),
        faults=Faults(
            lost=sum(sending.key not in by_key for sending in acked),
            duplicated=_repeats(message.key for message in stored)
            + _repeats((message.conversation_id, message.seq) for message in stored),
            gaps=sum(_gaps(seqs) for seqs in by_conversation.values()),
            misordered=_misordered(acked, by_key),
            contradicted=sum(sending.key in by_key and sending.seq != by_key[sending.key].seq for sending in acked),
            foreign=sum(key not in known for key in by_key),
            stale=sum(header_seqs.get(name, 0) != max(seqs) for name, seqs in by_conversation.items()),
            undelivered=undelivered if all_parts_stayed_up else 0,
            refused=sum(bool(sending.error) for sending in sendings),
        ),
    )


def _repeats(keys: Iterable[object]) -> int:
    return sum(count - 1 for count in Counter(keys).values())


def _gaps(seqs: list[int]) -> int:
    """Places from 1 to the highest that nobody has."""
    return max(seqs) - len({seq for seq in seqs if seq > 0})


def _misordered(acked: Sequence[Sending], by_key: Mapping[Key, Stored]) -> int:
    """Messages stored behind one that the same sender sent later. A retried one may land later, so it is not judged."""
    highest: dict[tuple[str, str], int] = {}
    wrong = 0
    for sending in acked:
        place = by_key.get(sending.key)
        if sending.tries > 1 or place is None:
            continue
        lane = sending.conversation_id, sending.sender_id
        wrong += place.seq < highest.get(lane, 0)
        highest[lane] = max(place.seq, highest.get(lane, 0))
    return wrong
